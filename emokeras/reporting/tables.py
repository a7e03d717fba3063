"""Figures -> tables: the short one a person sees after training, and RESULTS.md, which no hand writes.

python -m emokeras.reporting.tables          # results/ -> RESULTS.md
"""

import argparse
import json
import shlex
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emokeras import recipes
from emokeras.config import AnyConfig, EnsembleConfig, InputName, to_json
from emokeras.data.splits import PROTOCOLS
from emokeras.errors import RunError
from emokeras.files import write_text
from emokeras.reporting import metrics as figures_of
from emokeras.reporting import runs
from emokeras.reporting.fusion import fusion_section
from emokeras.reporting.published import published_section
from emokeras.reporting.rows import Run, read_run
from emokeras.reporting.texts import markdown_table, mean_and_deviation, percent, short, with_interval
from emokeras.reporting.tuned import tuned_section

# What training takes from the weights that a body starts from, by the body's kind.
SIZES_OF_WEIGHTS = {
    "bert": {"vocabulary_size", "num_positions", "units", "num_heads", "num_blocks", "hidden_units"},
}
NAMED_BY_PATH = {"model.weights", "model.pretrained", "model.start_from", "model.branches", "training.teacher"}
FIRST_CORPORA, LAST_CORPORA = ("ravdess", "emodb"), ("demo",)
SEEDS_CORPUS, SEEDS_PROTOCOL = "ravdess", "random"  # what the seeds' reports measured on, and how

PREAMBLE = """\
<!-- Written by `python -m emokeras.reporting.tables` from the files under results/. Do not edit: change a run. -->

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
  An ensemble's are those of its members; a network that goes on from trained branches has its own alone.
- A row whose name no recipe has is of other settings than the recipe it is named after: those of its config.json.
- Every figure is computed from `results/<corpus>/<protocol>/<recipe>/<run>/predictions.csv`. With `--results results`
  a command below makes its run's files anew, and `python -m emokeras.reporting.tables` this page;
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


# What a person sees


def print_metrics(metrics: Mapping[str, Any], subset: str = "test", console: Console | None = None) -> None:
    """Print the short table of a run: its subsets side by side, then the emotions of one subset.

    Args:
        metrics: what metrics.json holds; of the subsets it needs only the one to show.
        subset: whose emotions to show.
        console: where to; stdout by default. Where that is no terminal, the text is plain.
    """
    console = console or _console()
    shown = [name for name in ("test", "validation") if name in metrics]
    if metrics.get("protocol") == "all":
        console.print(f"all {metrics['num_train']} clips have trained {metrics['recipe']}: nothing is measured")
        return
    if subset not in metrics:
        raise RunError(f"the metrics have no subset '{subset}', only {', '.join(shown) or 'none'}")
    shown = [subset, *(name for name in shown if name != subset)]

    summary = _table(console, _title(metrics), "", *shown)
    lines = {
        "clips": lambda scores: str(sum(row["support"] for row in scores["per_emotion"].values())),
        "accuracy (WA) %": lambda scores: with_interval(scores["accuracy"], scores["accuracy_ci95"]),
        "balanced accuracy (UA) %": lambda scores: with_interval(
            scores["balanced_accuracy"], scores["balanced_accuracy_ci95"]
        ),
        "macro F1 %": lambda scores: percent(scores["f1_macro"]),
        "calibration error %": lambda scores: percent(scores["expected_calibration_error"]),
    }
    for label, text in lines.items():
        summary.add_row(label, *(escape(text(metrics[name])) for name in shown))

    emotions = _table(console, f"{subset}, by emotion", "", "precision %", "recall %", "F1 %", "clips")
    for name, row in metrics[subset]["per_emotion"].items():
        figures = (percent(row[key]) for key in ("precision", "recall", "f1"))
        emotions.add_row(escape(name), *figures, str(row["support"]))
    console.print(summary)
    if not console.is_terminal:
        console.print()
    console.print(emotions)


def print_predictions(answers: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print what `emokeras.predict` answers: each file's emotion with its probability, and the next likely one."""
    console = console or _console()
    table = _table(console, "", "file", "emotion", "%", "or", "%")
    for column in (table.columns[1], table.columns[3]):
        column.justify = "left"
    for answer in answers:
        (emotion, share), (other, other_share), *_ = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
        table.add_row(escape(answer["file"]), escape(emotion), percent(share), escape(other), percent(other_share))
    console.print(table)


def print_benchmark(groups: Mapping[str, Sequence[Run]], console: Console | None = None) -> None:
    """Print what a benchmark measured: one line a recipe, over its runs, the most accurate first.

    Args:
        groups: for each recipe the runs of it to average, as `read_run` reads them; of one corpus and protocol.
        console: where to; stdout by default. Where that is no terminal, the text is plain.
    """
    console = console or _console()
    measured = next(group[0].metrics for group in groups.values())
    columns = ("runs", "WA %", "UA %", "pooled WA % [95 %]", "F1 %", "minutes")
    title = f"{measured['corpus']}, protocol {measured['protocol']}"
    table = _table(console, title, "recipe", *columns)
    table.columns[1].justify = "left"
    for recipe in _by_accuracy(groups):
        row = _row(measured["protocol"], groups[recipe])
        table.add_row(escape(recipe), *(escape(row[column]) for column in columns))
    console.print(table)


def print_recipes(console: Console | None = None) -> None:
    """Print the recipes: name, where each comes from, and the figure its source reports."""
    console = console or _console()
    table = _table(console, "recipes", "name", "source", "reported there, %")
    for column in table.columns[1:]:
        column.justify = "left"
    for name, recipe in recipes.RECIPES.items():
        table.add_row(escape(name), escape(recipe.source), escape(recipe.seed_figure or "-"))
    console.print(table)


def _console() -> Console:
    """A terminal has its own width; a file or a pipe gets whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=400)


def _table(console: Console, title: str, first: str, *others: str) -> Table:
    table = Table(
        title=escape(title), title_justify="left", box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False
    )
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _title(metrics: Mapping[str, Any]) -> str:
    parts = [" on ".join(metrics[key] for key in ("recipe", "corpus") if key in metrics)]
    parts += [f"protocol {metrics['protocol']}"] if "protocol" in metrics else []
    if "seed" in metrics:
        parts.append(
            runs.run_name(metrics.get("protocol", ""), *(metrics[key] for key in ("fold", "seed", "split_seed")))
        )
    return ", ".join(part for part in parts if part)


# RESULTS.md


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
    by_accuracy = _by_accuracy(averaged)
    body = []
    for recipe in by_accuracy:
        _same_settings(rows[recipe])
        row = {"recipe": f"`{recipe}`"} | _row(protocol, averaged[recipe])
        body.append(row | ({"report": _report(recipe)} if with_reports else {}))
    lines = [f"### {protocol}", ""]
    if protocol in PROTOCOLS:
        lines += [f"Protocol: {PROTOCOLS[protocol].description}.", ""]
    lines += [*markdown_table(body, ("recipe", "runs", "report")), ""]
    lines += fusion_section(averaged, has_scripts=corpus == SEEDS_CORPUS)
    lines += tuned_section(rows)
    lines += published_section(corpus, protocol)
    if with_reports:
        lines += _chance_lines(rows)
    if (corpus, protocol) == (SEEDS_CORPUS, SEEDS_PROTOCOL):
        lines += _unmeasured_lines(rows)
    lines += ["```bash", *(command for recipe in by_accuracy for command in commands(rows[recipe])), "```", ""]
    return "\n".join(lines)


def whole_seeds(protocol: str, group: Sequence[Run]) -> list[Run]:
    """Return the runs of the seeds that have all folds of a protocol; where no seed has, all runs. A fold that was run
    more often than the others would weigh more than they."""
    num_folds = PROTOCOLS[protocol].num_folds if protocol in PROTOCOLS else 1
    folds_of = defaultdict(set)
    for run in group:
        folds_of[run.metrics["seed"], run.metrics["split_seed"]].add(run.metrics["fold"])
    whole = {seed for seed, folds in folds_of.items() if len(folds) == num_folds}
    return [run for run in group if not whole or (run.metrics["seed"], run.metrics["split_seed"]) in whole]


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


def _by_accuracy(rows: Mapping[str, Sequence[Run]]) -> list[str]:
    return sorted(rows, key=lambda recipe: (-_mean(rows[recipe], "accuracy"), recipe))


def _row(protocol: str, group: Sequence[Run]) -> dict[str, str]:
    """Return the figures of a recipe over its runs, by the names of the columns."""
    correct = np.concatenate([run.correct for run in group])
    clips = [clip for run in group for clip in run.clips]
    parameters = sorted({run.metrics["num_parameters"] for run in group})
    return {
        "runs": _runs_text(protocol, group),
        "test clips": f"{len(set(clips)):,}",
        "WA %": mean_and_deviation([run.test["accuracy"] for run in group]),
        "UA %": mean_and_deviation([run.test["balanced_accuracy"] for run in group]),
        "pooled WA % [95 %]": with_interval(float(correct.mean()), figures_of.accuracy_interval(correct, clips)),
        "P %": percent(_mean(group, "precision_weighted")),
        "R %": percent(_mean(group, "recall_weighted")),
        "F1 %": percent(_mean(group, "f1_weighted")),
        "parameters": "–".join(f"{count:,}" for count in dict.fromkeys((parameters[0], parameters[-1]))),
        "minutes": _minutes([run.metrics["train_seconds"] for run in group]),
        "CPU-minutes": _minutes([run.metrics.get("train_cpu_seconds") for run in group]),
    }


def _minutes(seconds: Sequence[float | None]) -> str:
    """Return the mean in minutes; nothing where a run did not count them."""
    return "–" if None in seconds else f"{statistics.mean(seconds) / 60:.1f}"


def _runs_text(protocol: str, group: Sequence[Run]) -> str:
    """Say how many folds, splits and seeds were run, and when folds are lacking."""
    folds = {run.metrics["fold"] for run in group}
    seeds = {(run.metrics["seed"], run.metrics["split_seed"]) for run in group}
    seeds_text = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    num_folds = PROTOCOLS[protocol].num_folds if protocol in PROTOCOLS else 1
    if num_folds == 1:
        splits = len({run.metrics["split_seed"] for run in group})
        if splits == 1:
            return seeds_text
        return f"{splits} splits" if splits == len(group) else f"{len(group)} runs of {splits} splits"
    folds_text = f"{num_folds} folds" if len(folds) == num_folds else f"{len(folds)} of {num_folds} folds"
    text = f"{folds_text} × {seeds_text}"
    return text if len(group) == len(folds) * len(seeds) else f"{len(group)} runs of {text}"


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
    """Return the settings in which a run differs from its recipe as it is now."""
    recipe = recipes.RECIPES.get(run.metrics["recipe"])
    if recipe is None:
        return {}
    return {key: own for key, (own, _) in differing_settings(run.settings, recipe.config).items()}


def differing_settings(settings: Mapping[str, Any], config: AnyConfig) -> dict[str, tuple[Any, Any]]:
    """Compare what a config.json holds with a configuration, but for which run it is (recipe and experiment).

    Of an ensemble the method, and each member as it would be alone.

    A setting that the file lacks is younger than the run, which was trained as the setting's default says; one that
    the configuration lacks is gone, and is not compared. Neither are sizes that follow from `model.weights`. Of a run
    or a file counts what it is, not where it lies: results keep no more.

    Returns {dotted path: (value in the file, value in the configuration)} of those that differ, by their names.
    """
    if isinstance(config, EnsembleConfig):
        own, other = settings.get("members", {}), config.members
        differing = {"members": (list(own), list(other))} if list(own) != list(other) else {}
        if settings.get("method") != config.method:
            differing["method"] = (settings.get("method"), config.method)
        for name in own.keys() & other.keys():
            of_member = differing_settings(own[name], other[name]).items()
            differing |= {f"members.{name}.{key}": values for key, values in of_member}
        return dict(sorted(differing.items()))
    own, other = _flat(settings), _flat(json.loads(to_json(config)))
    for name, encoder in config.encoders.items():
        for key in SIZES_OF_WEIGHTS.get(encoder.kind, ()):
            other.pop(f"encoders.{name}.{key}", None)
    if config.hears_pretrained:
        other.pop("speech.units", None)
    defaults = {section: asdict(type(value)()) for section, value in vars(config).items() if is_dataclass(value)}
    encoders = settings.get("encoders", {})
    defaults["encoders"] = {
        name: asdict(type(encoder)())
        for name, encoder in config.encoders.items()
        if encoders.get(name, {}).get("kind") == encoder.kind  # Another kind has other settings.
    }
    own = _flat(json.loads(json.dumps(defaults))) | own
    both = {key: (own[key], other[key]) for key in sorted(own.keys() & other.keys())}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1] and not _same_names(key, *pair)}


def _same_names(key: str, *values: str | Sequence[str]) -> bool:
    if key not in NAMED_BY_PATH:
        return False
    own, other = ([value] if isinstance(value, str) else value for value in values)
    return [*map(runs.shareable_name, own)] == [*map(runs.shareable_name, other)]


def _same_settings(group: Sequence[Run]) -> None:
    first = _flat(group[0].settings)
    for run in group[1:]:
        other = _flat(run.settings)
        for key in sorted(first.keys() & other.keys()):
            if first[key] != other[key]:
                raise RunError(
                    f"{run.folder}: {key} is {short(other[key])}, in {group[0].folder.name} beside it "
                    f"{short(first[key])}: runs of one row share their settings; name a recipe for the other"
                )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings by dotted path, without those that say which run it is and those of inputs it has not."""
    flat = {}
    if not prefix and "members" in tree:
        members = {name: _flat(member) for name, member in tree["members"].items()}
        return {"method": tree.get("method")} | {
            f"members.{name}.{key}": value for name, member in members.items() for key, value in member.items()
        }
    unused = set(get_args(InputName)) - set(tree.get("encoders", {}))
    for key, value in tree.items():
        if not prefix and key in {"recipe", "experiment", *unused}:
            continue
        if isinstance(value, Mapping) and key != "auxiliaries":  # Those are one setting, whichever there are.
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _mean(group: Sequence[Run], key: str) -> float:
    return statistics.mean(run.test[key] for run in group)


def _report(recipe: str) -> str:
    return (recipes.RECIPES[recipe].seed_figure if recipe in recipes.RECIPES else "") or "–"


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

    parser = commandline.make_parser("emokeras.reporting.tables", __doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="D", help="where the runs are kept")
    parser.add_argument("--output", type=Path, default=Path("RESULTS.md"), metavar="FILE", help="what to write")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    write_results(arguments.results, arguments.output)
    print(f"{arguments.output} written from {arguments.results}")


if __name__ == "__main__":
    raise SystemExit(main())
