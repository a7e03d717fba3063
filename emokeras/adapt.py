"""Adapt a trained model to your own recordings with labels, and export it as one SavedModel.

    python -m emokeras.adapt --corpus FOLDER
    python -m emokeras.adapt runs/speech-tcn/ravdess-luna-fold-0-seed-0 --corpus FOLDER --target saved_models/mine

The statistics of its speech encoder's frames are moved to these recordings, and its last layer is fitted to their
labels, in seconds: no GPU, no epochs. What is gained is measured first, by cross-validation.
"""

import argparse
import tempfile
from pathlib import Path

from emokeras import commandline
from emokeras.runs import find_model

TARGET = Path("saved_models") / "adapted"


def adapt(model: Path, corpus: str, target: Path = TARGET, *, emotion_map: tuple[str, ...] = (), say=print) -> Path:
    """Adapt a model to a corpus; return the folder of the new export.

    Parameters
    ----------
    model: a run or an exported model of one network that takes audio alone.
    corpus: a folder or table of clips, as `load_corpus` takes it. Emotions that the model lacks are added to it.
    target: the folder of the adapted model's versions.
    emotion_map: pairs of emotions, as `load_corpus` takes them, beside those that the model was trained with.
    say: called with each line to print.

    Raises
    ------
    UsageError: the model cannot be adapted.
    CorpusError: the corpus cannot be read, or has too few clips.
    """
    commandline.import_tensorflow()
    from emokeras import runs
    from emokeras.config import to_json, with_experiment
    from emokeras.data.corpora import absolute_source, load_corpus, split_source
    from emokeras.files import write_text
    from emokeras.recognizer.export import export_recognizer
    from emokeras.recognizer.model import load_networks
    from emokeras.training.adapt import adapt_recognizer, clips_of

    recognizer = load_networks(model)
    emotion_map = (*recognizer.config.experiment.emotion_map, *emotion_map)
    loaded = load_corpus(corpus, recognizer.sample_rate_hz, emotion_map)
    say(f"corpus {loaded.name}: {len(loaded.clips)} clips, {len(loaded.speakers)} speakers")
    for note in loaded.notes:
        say(f"  {note}")
    clips = clips_of(recognizer, loaded)
    calibration = _measure(recognizer, clips, say)
    adapted = adapt_recognizer(recognizer, clips)
    with tempfile.TemporaryDirectory() as temporary:  # As the folder of a run, which an export is made of.
        folder = Path(temporary)
        corpora = [absolute_source(source) for source in split_source(corpus)]
        experiment = {"corpora": corpora, "emotion_map": emotion_map, "protocol": "all", "fold": 0}
        write_text(folder / "config.json", to_json(with_experiment(adapted.config, **experiment)))
        runs.write_json(folder / "metrics.json", {"corpus": loaded.name})
        runs.write_split(folder, loaded.clips, ["train"] * len(loaded.clips))
        runs.write_earlier_splits(folder, recognizer.clips_used)
        adapted.members[0].network.save(folder / "model.keras")
        return export_recognizer(adapted, folder, Path(target), calibration=calibration, say=say)


def _measure(recognizer, clips, say) -> dict | None:
    """Say what the adaptation gains, by cross-validation, on the clips that did not train the model; return the
    temperature that fits them, None without any."""
    import numpy as np

    from emokeras.data.splits import UNUSED
    from emokeras.models.late import fit_temperature
    from emokeras.reporting.metrics import balanced_accuracy
    from emokeras.training.adapt import cross_validate

    before, after, unit = cross_validate(recognizer, clips)
    used = {row["content"] for row in recognizer.clips_used if row["subset"] != UNUSED}
    fresh = np.array([clip.content not in used for clip in clips.clips])
    if not fresh.all():
        say(f"{np.sum(~fresh)} of the clips were used to make the model: what is gained on them is not measured")
    if not fresh.any():
        return None
    labels = clips.labels[fresh]
    was, will = (100 * balanced_accuracy(labels, own[fresh].argmax(axis=1)) for own in (before, after))
    say(f"UA {was:.1f} % before, {will:.1f} % after, by cross-validation over {unit}")
    if unit == "clips":
        say("these are of speakers who were adapted to: give each speaker a folder, to measure what others may expect")
    if will <= was:
        say("warning: nothing is gained: more clips, or clips like those to be recognized, may help")
    return {"temperature": fit_temperature([after[fresh]], [labels]), "runs": [f"cross-validation over {unit}"]}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.adapt", __doc__)
    parser.add_argument("model", nargs="?", metavar="RUN|EXPORT|NAME", help="default: the model of emokeras.predict")
    parser.add_argument("--target", type=Path, metavar="D", default=TARGET, help=f"where it goes (default: {TARGET})")
    parser.add_argument("--corpus", required=True, help="your recordings, as for emokeras.train")
    parser.add_argument("--map", metavar="calm=neutral", help="count the clips of one emotion as another")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    emotion_map = tuple(arguments.map.split(",")) if arguments.map else ()
    adapt(find_model(arguments.model), arguments.corpus, arguments.target, emotion_map=emotion_map)


if __name__ == "__main__":
    raise SystemExit(main())
