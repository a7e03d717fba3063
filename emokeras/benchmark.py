"""Train recipes on every fold of a protocol with every seed, one run after another; write RESULTS.md after each.

    python -m emokeras.benchmark mel-resnet mfcc-cnn2 --protocol luna --seeds 0,1,2

The same command continues after a kill: what has been trained is not trained again. A run that fails does not stop the
others.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from emokeras import commandline
from emokeras.config import MeasuredProtocol

if TYPE_CHECKING:
    from emokeras.results.rows import Run


def benchmark(
    recipes: Sequence[str],
    protocol: str,
    *,
    seeds: Sequence[int] = (0,),
    folds: Sequence[int] | None = None,
    corpus: str | None = None,
    runs_dir: Path = Path("runs"),
    results: Path = Path("results"),
    output: Path | None = None,
    values: dict[str, Any] | None = None,
    again: bool = False,
    say=print,
) -> tuple[dict[str, list["Run"]], list[str]]:
    """Train each recipe on each fold with each seed, unless that has been done, and write RESULTS.md.

    Parameters
    ----------
    recipes: names of recipes, or configuration files, whose names end in .json.
    seeds: for weights and augmentation.
    folds: of the protocol, from 0; by default all of them.
    corpus: as `train` takes it; by default RAVDESS where it has been prepared, else the demo corpus.
    runs_dir: the folder of the run folders.
    results: the folder in which the figures are kept.
    output: the page to write; by default RESULTS.md beside `results`.
    values: settings by dotted path, as `recipes.configure` takes them, for every recipe.
    again: train again what was trained with other settings; by default it is refused.
    say: gets lines for the reader.

    Returns
    -------
    The runs that have ended, by recipe, and a line for each failure.

    Raises
    ------
    UsageError: the arguments are wrong.
    CorpusError: there is no such corpus, or the protocol cannot split it.
    RunError: there are runs with other settings in the folders of these.

    In each case nothing has been trained.
    """
    from emokeras.data.corpora import default_source
    from emokeras.errors import RunError
    from emokeras.results import pages, rows
    from emokeras.training import jobs

    results = Path(results)
    output = output or results.parent / "RESULTS.md"
    planned = jobs.plan_jobs(
        recipes, corpus or default_source(), protocol, folds, seeds, values or {}, runs_dir, results
    )

    def write_page(_) -> None:
        try:
            pages.write_results(results, output)
        except RunError as error:  # The other jobs can be run all the same.
            say(f"{output} is not written: {error}")

    failed = jobs.run_jobs(planned, again, say, write_page)
    problems = []
    if failed:
        names = ", ".join(f"{name} ({reason})" for name, reason in failed.items())
        counts = f"{len(failed)} of {len(planned)} jobs failed"
        problems.append(f"{counts}: {names}; their messages are above, the same command tries them again")
    ended = defaultdict(list)
    try:
        for job in planned:
            if job.name not in failed:
                ended[job.config.recipe].append(rows.read_run(job.row, results))
        if ended:
            pages.write_results(results, output)
            say(f"figures are kept in {results}, tables in {output}")
    except RunError as error:
        problems.append(f"{output} is not written: {error}")
    return dict(ended), problems


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.benchmark", __doc__)
    parser.add_argument(
        "recipes", nargs="+", metavar="RECIPE", help="names that `python -m emokeras.train --list` shows, or FILE.json"
    )
    parser.add_argument("--protocol", choices=get_args(MeasuredProtocol), required=True, help="how clips are split")
    parser.add_argument("--folds", metavar="K,K", help="which folds of the protocol, from 0 (default: all)")
    parser.add_argument("--seeds", default="0", metavar="S,S", help="for weights and augmentation (default: 0)")
    parser.add_argument("--corpus", metavar="C[,C...]", help="ravdess, emodb, demo, a folder, zip or manifest.csv")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="D", help="keep runs under D (default: runs)"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="D", help="keep figures under D (default: results)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page to write (default: RESULTS.md beside the results folder)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change any setting of all recipes"
    )
    parser.add_argument("--again", action="store_true", help="train again what was trained with other settings")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.errors import RunError
    from emokeras.reporting import screen
    from emokeras.results.tables import benchmark_rows

    ended, problems = benchmark(
        arguments.recipes,
        arguments.protocol,
        seeds=commandline.parse_numbers("--seeds", arguments.seeds),
        folds=None if arguments.folds is None else commandline.parse_numbers("--folds", arguments.folds),
        corpus=arguments.corpus,
        runs_dir=arguments.runs_dir,
        results=arguments.results,
        output=arguments.output,
        values=commandline.parse_settings(arguments.set),
        again=arguments.again,
    )
    if ended:
        first = next(iter(ended.values()))[0].metrics
        screen.print_benchmark(f"{first['corpus']}, protocol {first['protocol']}", benchmark_rows(ended))
    if problems:
        raise RunError("; ".join(problems))


if __name__ == "__main__":
    raise SystemExit(main())
