"""RESULTS.md: the main recipes under every protocol on one screen, and what follows."""

from collections.abc import Mapping, Sequence

import numpy as np

from emokeras.data.splits import PROTOCOLS
from emokeras.reporting.texts import markdown_table, mean_and_deviation, percent, with_interval
from emokeras.results.fusion_gain import paired_gains, runs_by_split
from emokeras.results.published import Published, best_published
from emokeras.results.rows import Run
from emokeras.results.tables import complete_runs, folds_text, gain_text, mean_minutes, pooled

Rows = Mapping[str, Mapping[str, Mapping[str, Sequence[Run]]]]  # corpus, protocol, recipe

PLAIN, WEIGHTED, FLAGSHIP = MAIN_RECIPES = ("mel-resnet", "weighted-mel-mfcc", "flagship")
PRETRAINED = "flagship-speech"
COLUMNS = {recipe: f"`{recipe}`" for recipe in MAIN_RECIPES} | {PRETRAINED: f"`{PRETRAINED}`, pretrained"}
KEY = """\
- **WA** is the accuracy over the test clips of all runs together, with a 95 % bootstrap interval. It resamples speakers
  where the test speakers are new, and clips where they are known. With fewer than ten speakers the range over them is
  given instead. **UA** is the mean recall over the emotions: mean ± standard deviation over the runs.
- **New speakers** are in neither training nor validation. **CPU-minutes** are of one training, all cores together.
- Only complete protocols have figures: "2 of 6 folds" means that the others have not been run.
- Of the published figures, those with nothing chosen on test come first; the others are marked.
"""


def overview(rows: Rows) -> list[str]:
    """Return the lines of RESULTS.md without the links to the other pages."""
    corpora = [corpus for corpus in rows if corpus != "demo"] or list(rows)  # The demo corpus is synthetic.
    table = [line for corpus in corpora for protocol in rows[corpus] for line in _lines(corpus, protocol, rows)]
    parts = ["# Results", ""]
    if table:  # A benchmark may be of other recipes than the main ones.
        parts += [*markdown_table(table, ("protocol", "figure", *list(table[0])[-2:])), "", KEY]
    if sentences := conclusions(rows):
        numbered = [f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1)]
        parts += ["## What follows", "", *numbered, ""]
    return parts


def conclusions(rows: Rows) -> list[str]:
    """Return what follows from the rows on RAVDESS. Figures and comparisons are computed; a sentence is left out where
    its rows are incomplete."""
    ravdess = rows.get("ravdess", {})
    known, new = (
        {recipe: complete_runs(ravdess.get(protocol, {}).get(recipe, ())) for recipe in MAIN_RECIPES}
        for protocol in ("random", "luna")
    )
    new[PRETRAINED] = complete_runs(ravdess.get("luna", {}).get(PRETRAINED, ()))
    sentences = []
    if new[PRETRAINED] and new[FLAGSHIP] and (gain := _gain(new, PRETRAINED, FLAGSHIP)):
        sentences.append(
            f"With a pretrained speech encoder, whose training audio is not public, `{PRETRAINED}` is {_verdict(gain)} "
            f"`flagship` on new speakers (`luna`): UA {_ua(new[PRETRAINED])} and {_ua(new[FLAGSHIP])}, a gain of "
            f"{gain_text(*gain)} points of WA."
        )
    if new[FLAGSHIP] and new[WEIGHTED] and (gain := _gain(new, FLAGSHIP, WEIGHTED)):
        without_fold_0 = [_wa([run for run in new[name] if run.metrics["fold"] != 0]) for name in (FLAGSHIP, WEIGHTED)]
        sentences.append(
            f"On new speakers (`luna`), `flagship` is {_verdict(gain)} `weighted-mel-mfcc`: UA {_ua(new[FLAGSHIP])} "
            f"and {_ua(new[WEIGHTED])}, WA {_wa(new[FLAGSHIP])} and {_wa(new[WEIGHTED])}, a gain of {gain_text(*gain)} "
            f"points; without fold 0, on which `flagship` was developed, WA {without_fold_0[0]} and "
            f"{without_fold_0[1]}."
        )
    if known[FLAGSHIP] and known[WEIGHTED] and (gain := _gain(known, FLAGSHIP, WEIGHTED)):
        minutes = [mean_minutes(known[recipe], "train_cpu_seconds") for recipe in (FLAGSHIP, WEIGHTED)]
        sentences.append(
            f"On known speakers (`random`), `flagship` is {_verdict(gain)} `weighted-mel-mfcc`: WA "
            f"{_wa(known[FLAGSHIP])} and {_wa(known[WEIGHTED])}, a gain of {gain_text(*gain)} points, for {minutes[0]} "
            f"CPU-minutes instead of {minutes[1]}."
        )
    gains = [_gain(groups, WEIGHTED, PLAIN) if groups[WEIGHTED] and groups[PLAIN] else None for groups in (new, known)]
    if all(gains):
        sentences.append(
            f"The fusion of a mel and an MFCC network, `weighted-mel-mfcc`, is {_verdict(gains[0])} `mel-resnet` on "
            f"new speakers ({gain_text(*gains[0])} points of WA) and {_verdict(gains[1])} `mel-resnet` on known ones "
            f"({gain_text(*gains[1])})."
        )
    if all(known.values()) and all(new[recipe] for recipe in MAIN_RECIPES):
        pairs = [f"{_wa(known[recipe])} and {_wa(new[recipe])} (`{recipe}`)" for recipe in MAIN_RECIPES]
        sentences.append(
            f"The WA on known and on new speakers is {pairs[0]}, {pairs[1]}, {pairs[2]}: only `luna`, `emobox` and "
            "`speaker` measure what to expect of other speakers."
        )
    best = [best_published("ravdess", "luna", pretrained) for pretrained in (False, True)]
    if new[WEIGHTED] and all(best):
        sentences.append(
            f"The best published figures on `luna` are {_published(best[0])} without pre-training and "
            f"{_published(best[1])} with it; `weighted-mel-mfcc`, without it, has UA {_ua(new[WEIGHTED])} and WA "
            f"{_wa(new[WEIGHTED])}."
        )
    return sentences


def _lines(corpus: str, protocol: str, rows: Rows) -> list[dict[str, str]]:
    """Return the lines of one protocol: WA, UA and CPU-minutes of each main recipe, and the best published figures."""
    groups = rows[corpus][protocol]
    speakers = "new" if PROTOCOLS[protocol].whole_speakers else "known"
    if not groups.keys() & COLUMNS.keys():
        return []
    complete = {recipe: complete_runs(groups.get(recipe, ())) for recipe in COLUMNS}
    lacking = {recipe: folds_text(groups[recipe]) if recipe in groups else "–" for recipe in COLUMNS}
    figures = {
        "WA %": lambda group: with_interval(*pooled([run.correct for run in group], group)),
        "UA %": _ua,
        "CPU-minutes": lambda group: mean_minutes(group, "train_cpu_seconds"),
    }
    best = [best_published(corpus, protocol, pretrained) for pretrained in (False, True)]
    lines = []
    for number, (name, text) in enumerate(figures.items()):
        line = {"protocol": "" if number else f"{corpus}, `{protocol}`: {speakers} speakers", "figure": name}
        for recipe, group in complete.items():
            line[COLUMNS[recipe]] = text(group) if group else "" if number else lacking[recipe]
        published = [_published(one) if one else "–" for one in best] if not number else ["", ""]
        line |= dict(zip(("best published, not pretrained", "best published, pretrained"), published, strict=True))
        lines.append(line)
    return lines if any(complete.values()) else lines[:1]


def _published(one: Published) -> str:
    chosen = f"; {one.chosen_on_test} chosen on test" if one.chosen_on_test else ""
    return f"{one.figures} ({one.system}{chosen})"


def _gain(groups: Mapping[str, Sequence[Run]], recipe: str, baseline: str) -> tuple | None:
    """Return the paired gain of one recipe over another over the runs that both have, as `pooled` does; None
    without such runs."""
    own = runs_by_split(groups[recipe])
    pairs = [(own[split], run) for split, run in runs_by_split(groups[baseline]).items() if split in own]
    if not pairs:
        return None
    answers, runs = zip(*pairs, strict=True)
    return pooled(paired_gains(answers, runs), runs)


def _verdict(gain: tuple) -> str:
    """Return how one system compares with another, by the interval of its gain."""
    mean, interval, _ = gain
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "no better than"
    return "better than" if mean > 0 else "worse than"


def _wa(group: Sequence[Run]) -> str:
    return percent(float(np.concatenate([run.correct for run in group]).mean()))


def _ua(group: Sequence[Run]) -> str:
    return mean_and_deviation([run.test["balanced_accuracy"] for run in group])
