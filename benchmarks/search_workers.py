"""How much sooner a chief and two workers end a search than a chief and one, each worker with one processor thread.

    python benchmarks/search_workers.py --corpus ravdess

Both search the same trials of mfcc-tcn, whose settings take equal time. Writes results/search_workers.json beside it.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emokeras.reporting.runs import read_history

RESULTS = Path(__file__).parent / "results" / "search_workers.json"
GOAL = 1 / 0.7  # Two workers need at most 0.7 times the time of one.


def time_search(folder: Path, workers: int, corpus: str, trials: int, epochs: int) -> float:
    """Run one search; return its wall time in seconds. Raises RuntimeError unless every trial was trained once."""
    command = [sys.executable, "-m", "tuning.search", "mfcc-tcn", "--tuner", "random", "--corpus", corpus]
    command += ["--protocol", "luna" if corpus == "ravdess" else "speaker", "--only", "encoder.l2,model.dropout"]
    command += ["--max-trials", str(trials), "--epochs", str(epochs), "--search-dir", str(folder)]
    begin = time.monotonic()
    subprocess.run([*command, "--workers", str(workers), "--threads", "1"], check=True)
    seconds = time.monotonic() - begin
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        completed = [row["trial"] for row in csv.DictReader(file) if row["status"] == "COMPLETED"]
    trained = {path.parent.parent.name: len(read_history(path)) for path in folder.glob("trials/*/*/history.csv")}
    if len(completed) != trials or trained != dict.fromkeys(completed, epochs):
        raise RuntimeError(f"{folder}: {len(completed)} of {trials} trials completed; epochs trained: {trained}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="ravdess", help="as `python -m tuning.search` takes it (default: ravdess)")
    parser.add_argument("--trials", type=int, default=8, metavar="N", help="of each search (default: 8)")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="of each trial (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        searches = {workers: Path(folder) / str(workers) for workers in (1, 2)}
        seconds = {
            workers: time_search(own, workers, arguments.corpus, arguments.trials, arguments.epochs)
            for workers, own in searches.items()
        }
    print(f"one worker {seconds[1]:.0f} s, two {seconds[2]:.0f} s: {seconds[2] / seconds[1]:.2f} of the time")
    told = {
        "ratios": {
            "one worker's seconds / two workers'": {"measured": round(seconds[1] / seconds[2], 3), "goal": GOAL}
        },
        "seconds": {f"{workers} workers": round(own, 1) for workers, own in seconds.items()},
        **{name: getattr(arguments, name) for name in ("corpus", "trials", "epochs")},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
