"""What chose the settings of the recipes, and how often each test subset has been read."""

from collections import Counter
from collections.abc import Mapping, Sequence

from emokeras.data.splits import LUNA_VALIDATION_ACTORS
from emokeras.results.rows import Run

# For each fold, or split seed, the number of rows that are in results/history.md and no longer under results/.
EARLIER_READINGS = {
    ("ravdess", "random"): {0: 30, 1: 13, 2: 13},
    ("ravdess", "random-10fold"): {0: 1, 1: 2, 2: 1},
    ("ravdess", "luna"): {0: 25, 1: 6, 2: 6, 3: 6, 4: 6},
    ("ravdess", "emobox"): {0: 12, 1: 11, 2: 11, 3: 9, 4: 7, 5: 9},
    ("demo", "speaker"): {0: 2},
}
CHOSEN_BY = """\
- **Choice of the recipes.** Their settings were chosen on RAVDESS by validation clips: those of all folds of `luna`
  (actors {actors}), of two splits of `speaker` and of one of `random`
  ([ablation.md](ablation.md)). A speaker who validates one fold of `luna` is tested in another, and these speakers are
  tested under the other protocols too. `mfcc-delta-tcn-robust` became a recipe of its own after its test on fold 0 of
  `luna` had been read. The layers of `speech-tcn` were chosen by a logistic regression on the **test** clips of `luna`,
  its pooling and `speech.equalization` with all speakers of EMOVO and nEMO and the test actors of folds 0 and 1 in
  view. `speech-linear` has the same; its L2, and the constants of the adaptation, were chosen on the development
  speakers of EMOVO and nEMO. The weights of `flagship-speech` were chosen by the validation clips of folds 0 to 2.
"""
CHOSEN_FOR_OTHERS = """\
- **Choice of the recipes.** The pooling of `speech-tcn` and `speech.equalization` were chosen with all speakers of
  EMOVO and nEMO in view. The L2 of `speech-linear` was chosen on their development speakers, who are not tested; but
  logistic regressions on the tested speakers had been read before. Its layers were chosen on test clips of `luna`.
"""
READINGS = """\
- **Test readings.** Each run, here and in [history.md](history.md), has read its test subset once. Runs here + runs
  there: {counts}.
  Runs that a later run has replaced are not counted.
"""


def selection_lines(corpus: str, protocol: str, groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the lines for one corpus and protocol: whose clips chose the recipes, and the readings of each test
    subset."""
    runs = [run for group in groups.values() for run in group]
    name, key = ("fold", "fold") if runs[0].protocol.has_folds else ("split", "split_seed")
    here = Counter(run.metrics[key] for run in runs)
    earlier = EARLIER_READINGS.get((corpus, protocol), {})
    counts = ", ".join(f"{name} {number} {here[number]} + {earlier.get(number, 0)}" for number in sorted(here))
    actors = ", ".join(map(str, sorted({actor for actors in LUNA_VALIDATION_ACTORS for actor in actors})))
    chosen_by = CHOSEN_BY.format(actors=actors) if corpus == "ravdess" else ""
    if protocol == "left-out" and {"emovo", "nemo"} & set(corpus.partition(",")[0].split("+")):
        chosen_by = CHOSEN_FOR_OTHERS
    return [chosen_by + READINGS.format(counts=counts)]
