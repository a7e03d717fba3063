"""Measure a run or an exported model on a corpus; clips that it was trained on are refused as a test.

python -m emokeras.evaluate runs/mel-resnet/ravdess-random-split-0-seed-0 --corpus ~/ravdess
"""

import argparse
from collections import Counter
from pathlib import Path

from emokeras import commandline
from emokeras.errors import CorpusError


def evaluate(
    model: Path, *, corpus: str | None = None, subset: str = "test", output: Path | None = None, say=print
) -> dict:
    """Score a model on one subset of its own corpus, or on all clips of another; return the metrics.

    Parameters
    ----------
    model: a run folder or an exported model.
    corpus: as for `train`, by default the one the model was trained on. Clips are recognized by content, wherever the
        files are. Clips of emotions that the model does not have are left out with a warning.
    subset: "train", "validation" or "test" of the model's own split.
    output: a folder for metrics.json, predictions.csv and confusion_matrix.png.
    say: called with each line to print.

    Raises
    ------
    CorpusError: the corpus has clips that trained or validated the model and none of the subset, or none of an emotion
    that the model has.
    """
    commandline.import_tensorflow()
    from emokeras import runs
    from emokeras.data.corpora import load_corpus
    from emokeras.data.splits import PROTOCOLS
    from emokeras.data.transcripts import transcript_kind
    from emokeras.recognizer import load_recognizer
    from emokeras.reporting import plots
    from emokeras.training.score import score_clips

    recognizer = load_recognizer(model)
    loaded = load_corpus(corpus or recognizer.config.experiment.corpus, recognizer.config.decode_rate_hz)
    for note in loaded.notes:
        say(f"  {note}")
    clips = choose_clips(loaded, recognizer.clips_used, subset)
    known = [clip for clip in clips if clip.emotion in recognizer.emotions]
    for emotion, count in Counter(clip.emotion for clip in clips if clip.emotion not in recognizer.emotions).items():
        say(f"warning: {count} clips of '{emotion}' are left out: the model does not have this emotion")
    if not known:
        names = ", ".join(recognizer.emotions)
        raise CorpusError(f"{loaded.name} has no clip of an emotion that {model} has: {names}")
    others = len(loaded.clips) - len(known)
    say(f"{len(known)} clips of {loaded.name}" + (f"; the other {others} are not scored" if others else ""))
    if recognizer.config.takes_transcripts:
        say(f"transcripts: {transcript_kind(loaded.clips)}")
    probabilities = recognizer.predict_clips(known, loaded)
    in_own_split = known[0].content in {row["content"] for row in recognizer.clips_used}
    whole_speakers = not in_own_split or PROTOCOLS[recognizer.config.experiment.protocol].whole_speakers
    scores = score_clips(known, recognizer.emotions, probabilities, whole_speakers)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        runs.write_json(output / "metrics.json", scores)
        runs.write_predictions(output / "predictions.csv", known, recognizer.emotions, probabilities)
        title = f"{recognizer.config.recipe} on {loaded.name}: {scores['accuracy']:.1%}"
        matrix = plots.confusion_matrix(scores["confusion_matrix"], recognizer.emotions, title)
        plots.save(matrix, output / "confusion_matrix.png")
    return scores


def choose_clips(corpus, clips_used: tuple[dict[str, str], ...], subset: str) -> list:
    """Return the clips to score: those of the subset, found by content, or all of a corpus with no clip that was used.

    Raises CorpusError when the corpus has clips that were used but none of the subset.
    """
    subset_of = {row["content"]: row["subset"] for row in clips_used}
    own = [clip for clip in corpus.clips if subset_of.get(clip.content) == subset]
    if own:
        return own
    used = [clip for clip in corpus.clips if clip.content in subset_of]
    if used:
        others = ", ".join(sorted(set(subset_of.values())))
        named = ", ".join(f"{clip.name} ({subset_of[clip.content]})" for clip in used[:3])
        raise CorpusError(
            f"{len(used)} clips of {corpus.name} were used to train or select the model, such as {named}, and none is "
            f"of its {subset} subset: take them out, or ask for another --subset: {others}"
        )
    return list(corpus.clips)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.evaluate", __doc__)
    parser.add_argument("model", type=Path, metavar="RUN|MODEL", help="a run folder or an exported model")
    parser.add_argument("--corpus", help="ravdess, emodb, demo, or a folder, zip or manifest.csv (default: its own)")
    parser.add_argument("--subset", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--output", type=Path, metavar="D", help="write metrics, predictions and confusion matrix to D")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.reporting import screen

    scores = evaluate(arguments.model, corpus=arguments.corpus, subset=arguments.subset, output=arguments.output)
    screen.print_metrics({arguments.subset: scores}, arguments.subset)


if __name__ == "__main__":
    raise SystemExit(main())
