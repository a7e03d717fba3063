"""Measure what adaptation to a corpus gives: without labels, to each speaker, and with a few labelled clips.

    python -m tuning.adaptation runs/speech-linear/left-out-0 runs/speech-linear/left-out-1

The runs are of the protocol left-out. Their test clips are dealt to five folds; each is answered by networks that are
adapted to clips of the other four (`predict --adapt`, `emokeras.adapt`). Without labels a network is adapted to clips
of one speaker, drawn until they are as long as wanted, and answers that speaker's; with labels it is adapted to the
same number of clips of each emotion, of all speakers. Answers go to results/adaptation/, which results/adaptation.md is
computed from.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from emokeras import commandline, runs
from emokeras.errors import RunError
from emokeras.files import write_text
from emokeras.reporting.metrics import balanced_accuracy
from emokeras.reporting.texts import markdown_table, percent

SECONDS = (10, 60, 300)  # of a speaker's clips
CLIPS = (5, 10, 20)  # of each emotion
NUM_FOLDS = 5
NONE, ITSELF = "none", "itself"
ABOUT = """\
# Adaptation

Networks of `speech-linear` that were trained without a corpus, on that corpus: as they are, and adapted to it. Every
test clip is answered once, by a network that was adapted to other clips of the same speakers; the development speakers
are in neither. **Seconds** are of one speaker's clips, without labels (`predict --adapt`), as far as there are as many.
**Clips** are labelled, of each emotion, of all speakers together (`emokeras.adapt`), as far as there are as many. **By
itself** a network has the statistics of all test clips of all speakers, those it answers among them. UA in percent,
among all emotions of the network. The speakers act every emotion equally often: what one gains in a conversation, or
from recordings of one emotion, is not measured.

Written by `python -m tuning.adaptation` from the predictions in results/adaptation.
"""


def measure(run: Path, results: Path, say=print) -> None:
    """Write the predictions of every point of a run's curves to results/adaptation/CORPUS/POINT.csv."""
    import keras

    from emokeras.data.corpora import load_corpus
    from emokeras.recognizer.model import load_networks
    from emokeras.training.adapt import clips_of

    recognizer = load_networks(run)
    config = recognizer.config
    if config.experiment.protocol != "left-out":
        raise RunError(f"{run} is of the protocol {config.experiment.protocol}: give runs of left-out")
    subsets = {row["clip"]: row["subset"] for row in runs.read_split(run)}
    corpus = load_corpus(config.experiment.source, recognizer.sample_rate_hz, config.experiment.emotion_map)
    chosen = [number for number, clip in enumerate(corpus.clips) if subsets.get(clip.name) == "test"]
    clips = clips_of(recognizer, corpus).take(np.array(chosen))
    (name,) = {clip.corpus for clip in clips.clips}
    network = recognizer.members[0].network
    for point, probabilities in curves(network, config, clips):
        folder = results / "adaptation" / name
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_predictions(folder / f"{point}.csv", clips.clips, recognizer.emotions, probabilities)
        ua = balanced_accuracy(clips.labels, probabilities.argmax(axis=1))
        say(f"{name}, {point}: UA {100 * ua:.1f}")
    keras.backend.clear_session()


def curves(network, config, clips) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the probabilities [clips, emotions] of each point."""
    from emokeras.data.speech import frame_statistics
    from emokeras.recognizer.adapt import with_statistics
    from emokeras.training.adapt import adapt_network
    from emokeras.training.score import to_probabilities
    from emokeras.training.subsets import predict_subset

    frames = [own[0] for own in clips.speech]
    yield NONE, to_probabilities(predict_subset(network, clips, config))
    yield ITSELF, to_probabilities(predict_subset(with_statistics(network, frame_statistics(frames)), clips, config))
    speakers = np.array([clip.speaker for clip in clips.clips])
    fold_of = np.random.default_rng(0).permutation(len(speakers)) % NUM_FOLDS

    for seconds in SECONDS:
        answers = np.zeros([len(speakers), len(config.experiment.emotions)])
        for speaker in np.unique(speakers):
            for fold in range(NUM_FOLDS):
                own = speakers == speaker
                taken = _drawn(np.flatnonzero(own & (fold_of != fold)), [len(one) for one in frames], seconds, fold)
                adapted = with_statistics(network, frame_statistics(frames[number] for number in taken))
                tested = np.flatnonzero(own & (fold_of == fold))
                answers[tested] = to_probabilities(predict_subset(adapted, clips.take(tested), config))
        yield f"{seconds}-seconds", answers

    for count in CLIPS:
        answers = np.zeros([len(speakers), len(config.experiment.emotions)])
        for fold in range(NUM_FOLDS):
            order = np.random.default_rng(fold).permutation(np.flatnonzero(fold_of != fold))
            taken = np.concatenate([order[clips.labels[order] == label][:count] for label in np.unique(clips.labels)])
            adapted = adapt_network(network, config, clips.take(taken))
            tested = np.flatnonzero(fold_of == fold)
            answers[tested] = to_probabilities(predict_subset(adapted, clips.take(tested), config))
        yield f"{count}-clips", answers


def _drawn(numbers: np.ndarray, num_frames: Sequence[int], seconds: float, seed: int) -> np.ndarray:
    """Return clips in a random order, until they have as many seconds of speech."""
    from emokeras.config import SpeechConfig

    order = np.random.default_rng(seed).permutation(numbers)
    before = np.cumsum([0, *(num_frames[number] * SpeechConfig.hop_seconds for number in order[:-1])])
    return order[before < seconds]


def page(results: Path) -> str:
    """Return the page, with a line for each corpus."""
    points = {NONE: "as it is"} | {f"{seconds}-seconds": f"{seconds} s" for seconds in SECONDS}
    points |= {ITSELF: "by itself"} | {f"{count}-clips": f"{count} clips" for count in CLIPS}
    lines = []
    for folder in sorted((results / "adaptation").iterdir()):
        read = {point: runs.read_predictions(folder / f"{point}.csv") for point in points}
        ua = {point: balanced_accuracy(own.labels, own.probabilities.argmax(axis=1)) for point, own in read.items()}
        share = (ua["60-seconds"] - ua[NONE]) / (ua[ITSELF] - ua[NONE])
        figures = {name: percent(ua[point]) for point, name in points.items()}
        clips = {"clips tested": str(len(read[NONE].labels))}
        lines.append({"corpus": folder.name} | clips | figures | {"gain from 60 s, of that by itself": f"{share:.0%}"})
    return "\n".join([ABOUT, *markdown_table(lines, ["corpus"]), ""])


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("tuning.adaptation", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs of the protocol left-out")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="D", help="where figures go")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    commandline.import_tensorflow()
    for run in arguments.runs:
        measure(run, arguments.results)
    write_text(arguments.results / "adaptation.md", page(arguments.results))


if __name__ == "__main__":
    raise SystemExit(main())
