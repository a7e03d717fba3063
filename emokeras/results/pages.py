"""results/ -> the tables of RESULTS.md, which no hand writes.

python -m emokeras.results.pages          # results/ -> RESULTS.md
"""

import argparse
import json
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emokeras import recipes
from emokeras.data.splits import PROTOCOLS
from emokeras.errors import RunError
from emokeras.files import write_text
from emokeras.reporting.texts import markdown_table, short
from emokeras.results.averages import by_accuracy, figures_row, whole_seeds
from emokeras.results.fusion_gain import fusion_section
from emokeras.results.other_settings import other_settings_section
from emokeras.results.published import published_section
from emokeras.results.rows import Run, read_run
from emokeras.runs.differences import differences, differing_settings, whole_settings

FIRST_CORPORA, LAST_CORPORA = ("ravdess", "emodb"), ("demo",)
SEEDS_CORPUS, SEEDS_PROTOCOL = "ravdess", "random"  # what the seeds' reports measured on, and how

PREAMBLE = """\
<!-- Written by `python -m emokeras.results.pages` from the files under results/. Do not edit: change a run. -->

# Results

- **WA** is plain accuracy, the share of the clips that are recognised. **UA** is the unweighted average recall, the
  mean over the emotions of the share of each that is recognised: an emotion with few clips counts as much as one with
  many.
- Over several folds or seeds, WA and UA are mean ± standard deviation over the runs. **Pooled WA** counts the test
  clips of all runs together; its 95 % interval is a percentile bootstrap over clips (10,000 resamples; what several
  runs say of one clip is drawn together). Precision (P), recall (R) and F1 are weighted by the emotions' clips.
- The **test** subset is read once, after training has ended. Epoch, weights, normalisation and vocabulary come from
  training and validation clips alone, and the same recording is never on two sides of a split. The recipes' settings
  were chosen by validation clips too: under `luna` by those of all folds, and a speaker who validates one fold tests
  another.
- A **protocol** says which clips are tested. Where speakers are on all sides of the split (`random`, `random-10fold`) a
  network can recognise the voice, and its figures say little of strangers; `luna`, `emobox` and `speaker` test speakers
  it has never heard.
- **Minutes** are the wall-clock minutes that the epochs of one run took on the machine that trained it, which may have
  done other work beside it; **CPU-minutes** are the minutes its processor cores worked for them, all cores together.
  An ensemble's are those of its members, and of networks that told them of clips; a network that goes on from trained
  branches has its own alone.
- A row whose name no recipe has is of other settings than the recipe it is named after: those of its config.json.
- Every figure is computed from `results/<corpus>/<protocol>/<recipe>/<run>/predictions.csv`. With `--results results`
  a command below makes its run's files anew, and `python -m emokeras.results.pages` this page;
  `python -m emokeras.benchmark` does both, for many runs one after another.
"""
CHANCE = (
    "RAVDESS crosses two fixed sentences with every emotion: a script transcript carries no label information, and "
    "chance (about 13 %) is the honest result of a recipe that reads nothing else, as {names} here."
)
SEEDS_PREAMBLE = """\
- **Report** is the accuracy in percent that the student report behind a recipe (A to E) states, and the subset it was
  measured on. The reports drew their own splits, and an accuracy on validation clips has chosen its own epoch.
"""


def write_results(results_root: Path = Path("results"), path: Path = Path("RESULTS.md")) -> None:
    """Write RESULTS.md: for each corpus and protocol a table of the recipes, and the commands that make them.

    The text depends on the files under `results_root` and the recipes alone.

    Raises RunError, naming the run, when one lacks a file, when its figures are not those of its predictions, when it
    lies in another's place, or when runs to be averaged were trained with different settings.
    """
    folders = sorted(folder for folder in Path(results_root).glob("*/*/*/*") if folder.is_dir())
    if not folders:
        raise RunError(f"{results_root} holds no run: train with --results {results_root} first")
    tables = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for folder in folders:
        run = read_run(folder, results_root)
        corpus, protocol, recipe = folder.relative_to(results_root).parts[:3]
        tables[corpus][protocol][recipe].append(run)

    parts = [PREAMBLE + (SEEDS_PREAMBLE if SEEDS_CORPUS in tables else "")]
    for corpus in sorted(tables, key=_corpus_order):
        parts.append(f"## {corpus}\n")
        for protocol in sorted(tables[corpus], key=_protocol_order):
            parts.append(_protocol_section(corpus, protocol, tables[corpus][protocol]))
    named = {recipe for protocols in tables.values() for rows in protocols.values() for recipe in rows}
    sources = [f"- `{name}`: {recipe.source}" for name, recipe in recipes.RECIPES.items() if name in named]
    if sources:
        parts.append("\n".join(["## The recipes and their sources", "", *sources, ""]))
    write_text(path, "\n".join(parts))


def _protocol_section(corpus: str, protocol: str, rows: Mapping[str, list[Run]]) -> str:
    with_reports = corpus == SEEDS_CORPUS
    averaged = {recipe: whole_seeds(protocol, group) for recipe, group in rows.items()}
    sorted_names = by_accuracy(averaged)
    body = []
    for recipe in sorted_names:
        _same_settings(rows[recipe])
        row = {"recipe": f"`{recipe}`"} | figures_row(protocol, averaged[recipe])
        body.append(row | ({"report": _report(recipe)} if with_reports else {}))
    lines = [f"### {protocol}", ""]
    if protocol in PROTOCOLS:
        lines += [f"Protocol: {PROTOCOLS[protocol].description}.", ""]
    lines += [*markdown_table(body, ("recipe", "runs", "report")), ""]
    lines += fusion_section(averaged, has_scripts=corpus == SEEDS_CORPUS)
    lines += other_settings_section(rows)
    lines += published_section(corpus, protocol)
    if with_reports:
        lines += _chance_lines(rows)
    if (corpus, protocol) == (SEEDS_CORPUS, SEEDS_PROTOCOL):
        lines += _unmeasured_lines(rows)
    lines += ["```bash", *(command for recipe in sorted_names for command in commands(rows[recipe])), "```", ""]
    return "\n".join(lines)


def _chance_lines(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """Say what the accuracy of a network that reads transcripts alone is worth on RAVDESS, where one stands there."""
    text_only = [name for name, group in rows.items() if list(group[0].settings.get("encoders", {})) == ["tokens"]]
    return [CHANCE.format(names=", ".join(f"`{name}`" for name in sorted(text_only))), ""] if text_only else []


def _unmeasured_lines(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    """List the recipes that have no row: those that need weights of others each with the reason."""
    lacking = {name: recipe for name, recipe in recipes.RECIPES.items() if name not in rows}
    lines, waiting = [], []
    for name, recipe in lacking.items():
        models = [network.model for network in recipe.config.networks.values()]
        needed = [("weights=FILE|DIR", model.weights) for model in models if model.weights]
        needed += [("pretrained=NAME|DIR", model.pretrained) for model in models if model.pretrained]
        if needed:
            ((setting, weights), *_) = needed
            lines.append(
                f"- `{name}`: not measured: needs the weights of `{weights}` "
                f"(`--set model.{setting}`), which could not be fetched where these rows were measured"
            )
        else:
            waiting.append(f"`{name}`")
    if waiting:
        lines.append(f"- not measured yet: {', '.join(waiting)}")
    return ["Recipes without a row:", "", *lines, ""] if lines else []


def commands(group: Sequence[Run]) -> list[str]:
    """Return the command lines that make these runs; settings that are not the recipe's go into `--set`. What is no
    recipe (a configuration that was searched for, an ensemble of a person's own) is trained from its configuration."""
    lines = []
    for run in group:
        figures = run.metrics
        known = figures["recipe"] in recipes.RECIPES
        what = [figures["recipe"]] if known else ["--config", (run.folder / "config.json").as_posix()]
        words = ["python", "-m", "emokeras.train", *what, "--corpus", figures["corpus"]]
        words += ["--protocol", figures["protocol"]]
        if figures["protocol"] in PROTOCOLS and PROTOCOLS[figures["protocol"]].num_folds > 1:
            words += ["--fold", str(figures["fold"])]
        words += ["--seed", str(figures["seed"])]
        if figures["split_seed"]:
            words += ["--split-seed", str(figures["split_seed"])]
        for key, value in _changed_settings(run).items():
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        lines.append(shlex.join(words))
    return lines


def _changed_settings(run: Run) -> dict[str, Any]:
    """Return the settings in which a run differs from its recipe as it is now, with one more branch where it has one of
    a speech model."""
    recipe = recipes.RECIPES.get(run.metrics["recipe"])
    if recipe is None:
        return {}
    config, asked = recipe.config, {}
    networks = run.settings["members"].values() if "members" in run.settings else [run.settings]
    speech = [network["model"]["pretrained"] for network in networks if "speech" in network["encoders"]]
    if speech and not config.has_speech_encoder:
        asked = {"model.pretrained": speech[0]}
        config = recipes.configure(config, asked)
    return asked | {key: own for key, (own, _) in differing_settings(run.settings, config).items()}


def _same_settings(group: Sequence[Run]) -> None:
    first = whole_settings(group[0].settings)
    for run in group[1:]:
        for key, (own, other) in differences(whole_settings(run.settings), first).items():
            raise RunError(
                f"{run.folder}: {key} is {short(own)}, in {group[0].folder.name} beside it {short(other)}: runs of one "
                "row share their settings; name a recipe for the other"
            )


def _report(recipe: str) -> str:
    return (recipes.RECIPES[recipe].reported if recipe in recipes.RECIPES else "") or "–"


def _corpus_order(corpus: str) -> tuple[int, str]:
    for rank, names in ((0, FIRST_CORPORA), (2, LAST_CORPORA)):
        if corpus in names:
            return rank, str(names.index(corpus))
    return 1, corpus


def _protocol_order(protocol: str) -> tuple[int, str]:
    known = list(PROTOCOLS)
    return (known.index(protocol) if protocol in known else len(known)), protocol


def main(argv: list[str] | None = None) -> int:
    """Write RESULTS.md; return the exit status."""
    from emokeras import commandline

    parser = commandline.make_parser("emokeras.results.pages", __doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="D", help="where the runs are kept")
    parser.add_argument("--output", type=Path, default=Path("RESULTS.md"), metavar="FILE", help="what to write")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    write_results(arguments.results, arguments.output)
    print(f"{arguments.output} written from {arguments.results}")


if __name__ == "__main__":
    raise SystemExit(main())
