"""Numbers and values as the tables and messages write them."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def percent(share: float | None) -> str:
    """Return 0.8123 as 81.2."""
    return "-" if share is None else f"{100 * share:.1f}"


def with_interval(share: float, interval: Sequence[float] | None, speaker_shares: Sequence[float] = ()) -> str:
    """Return a share and its interval in percent, 81.2 [78.0, 84.1]; without an interval the range over the speakers
    instead, 81.2 (76.7 to 91.7 over 5 speakers)."""
    if interval is not None:
        low, high = interval
        return f"{percent(share)} [{percent(low)}, {percent(high)}]"
    if len(speaker_shares) < 2:
        return percent(share)
    low, high = percent(min(speaker_shares)), percent(max(speaker_shares))
    return f"{percent(share)} ({low} to {high} over {len(speaker_shares)} speakers)"


def mean_and_deviation(shares: Sequence[float]) -> str:
    """Return mean and sample standard deviation in percent; one share has no deviation."""
    deviation = f" ± {percent(statistics.stdev(shares))}" if len(shares) > 1 else ""
    return percent(statistics.mean(shares)) + deviation


def markdown_table(rows: Sequence[dict[str, str]], texts: Iterable[str]) -> list[str]:
    """Return the lines of a table with the keys of the rows as its header. Columns in `texts` are left-aligned, the
    others are numbers."""
    header = list(rows[0])
    alignment = ["---" if name in texts else "---:" for name in header]
    return [markdown_row(cells) for cells in (header, alignment, *(row.values() for row in rows))]


def markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def short(value: Any) -> str:
    """Return a value as a message may show it, cut at 60 characters. Names are never cut: two ensembles may differ in
    the last member only."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
