"""Train one member of an ensemble, whose run was begun in a folder: how `training.run` trains several at once.

python -m emokeras.training.member runs/flagship/ravdess-luna-fold-0-seed-0/members/mel-resnet-muon
"""

import argparse
from pathlib import Path

from emokeras import commandline
from emokeras.config import read_config


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.training.member", __doc__)
    parser.add_argument("folder", type=Path, help="the run's folder")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    config = read_config(arguments.folder / "config.json")
    commandline.import_tensorflow()
    from emokeras.data.corpora import load_corpus
    from emokeras.training.run import continue_run

    source = config.experiment.source
    corpus = load_corpus(source, config.decode_rate_hz, config.experiment.emotion_map)
    continue_run(arguments.folder, corpus, source)


if __name__ == "__main__":
    raise SystemExit(main())
