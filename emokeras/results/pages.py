"""Write RESULTS.md and a page for each protocol from the rows under results/.

python -m emokeras.results.pages          # results/ -> RESULTS.md, results/<protocol>.md, results/generalization.md
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from emokeras import recipes
from emokeras.data.splits import PROTOCOLS
from emokeras.files import write_text
from emokeras.reporting.texts import markdown_table
from emokeras.results.fusion_gain import fusion_section
from emokeras.results.generalization import generalization_page, read_conditions
from emokeras.results.overview import overview
from emokeras.results.published import published_section
from emokeras.results.rows import Run, read_rows
from emokeras.results.selection import selection_lines
from emokeras.results.tables import complete_runs, recipe_rows, settings_note

FIRST_CORPORA, LAST_CORPORA = ("ravdess", "emodb"), ("demo",)
REPORTS_CORPUS, REPORTS_PROTOCOL = "ravdess", "random"  # of the student reports
HEADER = "<!-- Written by `python -m emokeras.results.pages` from the files under results/. Do not edit. -->"
COLUMNS = """\
- **WA** is accuracy, **UA** the mean recall over the emotions: mean ± standard deviation over the runs. **Pooled WA**
  is of the test clips of all runs together, with {interval}.
- **P** and **F1** are weighted by the emotions' clips; weighted recall is WA. **Minutes** are wall-clock minutes of one
  training, **CPU-minutes** those of all cores together; an ensemble has those of its members.
"""
SPEAKER_INTERVAL = """a 95 % interval by a bootstrap over speakers, or with the range over the
  speakers where these are fewer than ten"""
CLIP_INTERVAL = "a 95 % interval by a bootstrap over clips"
REPORT = """\
- **Report** is the accuracy in percent that the student report behind a recipe (A to E) states, and the subset it was
  measured on, each on a split of its own. On validation clips the epoch was chosen by the same clips.
"""
CHANCE = """\
RAVDESS has two sentences, each spoken with every emotion: a transcript has no information on the emotion. Recipes that
take nothing else are expected at chance, about 13 %, and to have no gain in a fusion: {names}.
"""
COMMAND = """\
```bash
{command}
```

This makes the files of one row; `python -m emokeras.benchmark RECIPE --protocol {protocol}` does so for {all_runs}.
"""


def write_results(results_root: Path = Path("results"), path: Path = Path("RESULTS.md")) -> None:
    """Write RESULTS.md at `path`, and a page for each protocol in `results_root`; one of other corpora and conditions
    where there are rows of them.

    The text depends on the files under `results_root` and the recipes only. Raises RunError as `read_rows` does.
    """
    results_root, path = Path(results_root), Path(path)
    rows = read_rows(results_root)
    rows = {corpus: _in_order(rows[corpus], list(PROTOCOLS)) for corpus in sorted(rows, key=_corpus_order)}
    for protocol in dict.fromkeys(protocol for protocols in rows.values() for protocol in protocols):
        of_corpus = {corpus: protocols[protocol] for corpus, protocols in rows.items() if protocol in protocols}
        write_text(results_root / f"{protocol}.md", _page(protocol, of_corpus))
    if conditions := read_conditions(results_root):
        ordered = {corpus: conditions[corpus] for corpus in sorted(conditions, key=_corpus_order)}
        write_text(results_root / "generalization.md", "\n".join([HEADER, "", *generalization_page(ordered)]))
    links = _links(dict.fromkeys(protocol for protocols in rows.values() for protocol in protocols), results_root, path)
    write_text(path, "\n".join([HEADER, "", *overview(rows), *links]))


def _links(protocols: Iterable[str], results_root: Path, path: Path) -> list[str]:
    """Return the lines with the links from the overview at `path` to the other pages that there are."""
    root = Path(os.path.relpath(results_root, path.parent)).as_posix()
    others = {
        results_root / "generalization.md": f"[generalization]({root}/generalization.md): other corpora and recording "
        "conditions.",
        results_root / "history.md": f"[history]({root}/history.md): configurations that are no longer recipes.",
        results_root / "ablation.md": f"[ablation]({root}/ablation.md): changes of one setting, on validation clips.",
        results_root / "robustness.md": f"[robustness]({root}/robustness.md): changes of settings under recording "
        "conditions and on other corpora, on validation clips.",
        results_root / "adaptation.md": f"[adaptation]({root}/adaptation.md): a network of other corpora, adapted to "
        "speakers with and without labels.",
        path.parent / "docs": "[docs](docs): recipes, settings, protocols, ensembles and transcripts.",
    }
    links = [f"[{protocol}]({root}/{protocol}.md): {PROTOCOLS[protocol].description}." for protocol in protocols]
    links += [link for file, link in others.items() if file.exists()]
    return ["## Details", "", *(f"- {link}" for link in links), ""]


def _page(protocol: str, rows: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """Return the page of a protocol. `rows` are the runs of each recipe by corpus."""
    interval = SPEAKER_INTERVAL if PROTOCOLS[protocol].whole_speakers else CLIP_INTERVAL
    report = REPORT if REPORTS_CORPUS in rows else ""
    lines = [HEADER, "", f"# Protocol {protocol}", "", f"Split: {PROTOCOLS[protocol].description}.", ""]
    first_runs = [next(iter(groups.values()))[0] for groups in rows.values()]
    lines += [COLUMNS.format(interval=interval) + report, _command(protocol, first_runs)]
    for corpus, groups in rows.items():
        synthetic = ["This corpus is synthetic speech.", ""] if corpus == "demo" else []
        lines += [f"## {corpus}", "", *synthetic, *_corpus_lines(corpus, protocol, groups)]
    return "\n".join(lines)


def _corpus_lines(corpus: str, protocol: str, groups: Mapping[str, Sequence[Run]]) -> list[str]:
    complete = {recipe: runs for recipe, group in groups.items() if (runs := complete_runs(group))}
    partial = {recipe: group for recipe, group in groups.items() if recipe not in complete}
    lines = _recipe_lines(corpus, complete)
    if partial:
        lines += ["### On part of the folds", "", *_recipe_lines(corpus, partial)]
    if corpus == REPORTS_CORPUS:
        takes_text = sorted(name for name, group in groups.items() if [*_inputs(group)] == ["tokens"])
        lines += [CHANCE.format(names=", ".join(f"`{name}`" for name in takes_text))] if takes_text else []
    lines += selection_lines(corpus, protocol, groups)
    lines += fusion_section(complete | partial)
    lines += published_section(corpus, protocol)
    if (corpus, protocol) == (REPORTS_CORPUS, REPORTS_PROTOCOL):
        lines += _recipes_without_row(groups)
    return lines


def _recipe_lines(corpus: str, groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the table of these recipes, and a note for each row whose settings are not the recipe's present ones."""
    if not groups:
        return []
    notes = {recipe: note for recipe, group in groups.items() if (note := settings_note(recipe, group))}
    table = []
    for row in recipe_rows(groups):
        recipe = row["recipe"]
        report = recipes.RECIPES[recipe].reported if recipe in recipes.RECIPES else ""
        row["recipe"] = f"`{recipe}`" + (r" \*" if recipe in notes else "")
        table.append(row | ({"report": report or "–"} if corpus == REPORTS_CORPUS else {}))
    lines = [*markdown_table(table, ("recipe", "runs", "report")), ""]
    of_note = defaultdict(list)
    for recipe, note in sorted(notes.items()):
        of_note[note].append(f"`{recipe}`")
    return lines + [line for note, names in of_note.items() for line in (rf"\* {', '.join(names)}: {note}.", "")]


def _recipes_without_row(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return the lines that name the recipes without a row, those that need pretrained weights with what they need."""
    needed, waiting = [], []
    for name, recipe in recipes.RECIPES.items():
        models = [network.model for network in recipe.config.networks.values()]
        weights = next((model.weights or model.pretrained for model in models if model.weights or model.pretrained), "")
        if name not in groups:
            needed += [f"`{name}` (`{weights}`)"] if weights else []
            waiting += [] if weights else [f"`{name}`"]
    lines = [f"- not measured, for lack of pretrained weights: {', '.join(needed)}"] if needed else []
    lines += [f"- not measured yet: {', '.join(waiting)}"] if waiting else []
    return ["### Recipes without a row", "", *lines, ""] if lines else []


def _command(protocol: str, first_runs: Sequence[Run]) -> str:
    """Return the lines with the command that makes a row. `first_runs` has a run on each corpus."""
    has_folds = PROTOCOLS[protocol].has_folds
    corpus = "CORPUS"
    if len(first_runs) == 1:
        experiment = first_runs[0].settings["experiment"]
        corpus = ",".join(experiment.get("corpora") or [first_runs[0].metrics["corpus"]])
        corpus += f" --map {','.join(experiment['emotion_map'])}" if experiment.get("emotion_map") else ""
    command = f"python -m emokeras.train RECIPE --corpus {corpus} --protocol {protocol} "
    command += f"{'--fold K' if has_folds else '--split-seed P'} --seed S --results results"
    return COMMAND.format(command=command, protocol=protocol, all_runs="all folds" if has_folds else "several seeds")


def _inputs(group: Sequence[Run]) -> Sequence[str]:
    return group[0].settings.get("encoders", {})


def _in_order(items: Mapping[str, Mapping], order: Sequence[str]) -> dict:
    return {name: items[name] for name in sorted(items, key=order.index)}


def _corpus_order(corpus: str) -> tuple[int, str]:
    for rank, names in ((0, FIRST_CORPORA), (2, LAST_CORPORA)):
        if corpus in names:
            return rank, str(names.index(corpus))
    return 1, corpus


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    from emokeras import commandline

    parser = commandline.make_parser("emokeras.results.pages", __doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="D", help="the folder of the rows")
    parser.add_argument("--output", type=Path, default=Path("RESULTS.md"), metavar="FILE", help="the overview")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    write_results(arguments.results, arguments.output)
    print(f"{arguments.output} and the pages in {arguments.results} are written")


if __name__ == "__main__":
    raise SystemExit(main())
