"""Train recipes on every fold and seed of a protocol, one after another, and bring RESULTS.md up to date.

    python -m emokeras.benchmark mel-resnet mfcc-cnn2 --protocol luna --seeds 0,1,2

Killed, it goes on by the same command: what is done already is not trained again. A run that fails does not stop the
others; RESULTS.md is written after each that ends.
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
    """Train what is not trained yet, each recipe on each fold with each seed, and write RESULTS.md.

    Parameters
    ----------
    recipes: names of recipes, or configuration files, such as the best.json of a search.
    folds: of the protocol, from 0; all of them by default.
    corpus: as `train` takes it; by default RAVDESS where it has been prepared, else the demo corpus.
    runs_dir: where the run folders lie; results: where the figures are kept.
    output: the page to write; RESULTS.md beside `results` by default.
    values: settings by dotted path, as `config.override` takes them, for every recipe.
    again: train anew what lies there trained with other settings, rather than refuse it.

    Returns
    -------
    The runs that have ended, by recipe, and a line for each thing that went wrong.

    Raises
    ------
    UsageError: arguments that are wrong. CorpusError: no such corpus, or one that the protocol cannot split. RunError:
    runs with other settings lie where these would. Nothing has been trained then.
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
        except RunError as error:  # While others are still to be trained, this is no reason to stop.
            say(f"{output} is not written: {error}")

    failed = jobs.run_jobs(planned, again, say, write_page)
    problems = []
    if failed:
        names = ", ".join(f"{name} ({reason})" for name, reason in failed.items())
        counts = f"{len(failed)} of {len(planned)} jobs failed"
        problems.append(f"{counts}: {names}; what they said stands above, the same command tries them again")
    ended = defaultdict(list)
    try:
        for job in planned:
            if job.name not in failed:
                ended[job.config.recipe].append(rows.read_run(job.row, results))
        if ended:
            pages.write_results(results, output)
            say(f"figures are kept in {results}, their tables in {output}")
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
    parser.add_argument("--seeds", default="0", metavar="S,S", help="draw weights and augmentation (default: 0)")
    parser.add_argument("--corpus", help="ravdess, emodb, demo, or a folder, zip or manifest.csv")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="D", help="where the run folders lie")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="D",
        help="where the figures are kept (default: results)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page to write (default: RESULTS.md beside the results folder)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change any setting of all recipes"
    )
    parser.add_argument("--again", action="store_true", help="train anew what was trained with other settings")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.errors import RunError
    from emokeras.reporting import screen
    from emokeras.results.tables import benchmark_rows

    ended, problems = benchmark(
        arguments.recipes,
        arguments.protocol,
        commandline.parse_numbers("--seeds", arguments.seeds),
        None if arguments.folds is None else commandline.parse_numbers("--folds", arguments.folds),
        arguments.corpus,
        arguments.runs_dir,
        arguments.results,
        arguments.output,
        commandline.parse_settings(arguments.set),
        arguments.again,
    )
    if ended:
        first = next(iter(ended.values()))[0].metrics
        screen.print_benchmark(f"{first['corpus']}, protocol {first['protocol']}", benchmark_rows(ended))
    if problems:
        raise RunError("; ".join(problems))


if __name__ == "__main__":
    raise SystemExit(main())
