"""Measure a run or an exported model on corpora, clean or under conditions; clips it was trained on are no test.

python -m emokeras.evaluate runs/mel-resnet/ravdess-random-split-0-seed-0 --corpus ~/ravdess
python -m emokeras.evaluate saved_models/ravdess --corpus ~/emovo,~/nemo --conditions telephone,babble-10
"""

import argparse
import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emokeras import commandline
from emokeras.errors import CorpusError, RunError, UsageError

CLIPS_PER_BLOCK = 256  # Waveforms under a condition are kept for so many clips at a time.
DECIMALS = 4  # of the probabilities in rows under results/


def evaluate(
    model: Path, *, corpus: str | None = None, subset: str = "test", output: Path | None = None, say=print
) -> dict:
    """Score a model on one subset of its own corpus, or on all clips of another; return the metrics.

    Parameters and errors are those of `evaluate_conditions`, of which this is the clean one.
    """
    (scores,) = evaluate_conditions(model, corpora=[corpus], subset=subset, output=output, say=say).values()
    return scores["clean"]


def evaluate_conditions(
    model: Path,
    *,
    corpora: Sequence[str | None] = (None,),
    conditions: Sequence[str] = ("clean",),
    subset: str = "test",
    output: Path | None = None,
    results: Path | None = None,
    say=print,
) -> dict[str, dict[str, dict]]:
    """Score a model on corpora under conditions; return {corpus: {condition: metrics}}, with clean always first.

    Parameters
    ----------
    model: a run folder or an exported model.
    corpora: each as for `train`; None is the one the model was trained on. Clips are recognized by content, wherever
        the files are. Clips of emotions that the model does not have are left out with a warning.
    conditions: names of `data.conditions.CONDITIONS`. Babble is of neutral clips of the model's training speakers, and
        is left out with a line where there are none on this machine.
    subset: "train", "validation" or "test" of the model's own split. Of a corpus that the model was not trained on all
        clips are taken; of those with DEVELOPMENT_SPEAKERS these speakers for validation, the others for test.
    output: a folder for metrics.json, predictions.csv and confusion_matrix.png; for those of each corpus where there
        are several. The metrics of conditions are in metrics.json too, their predictions in CONDITION/predictions.csv.
    results: the folder of rows (`runs.keep_condition`). Probabilities are rounded to 4 decimals before they are scored,
        so that the rows are small and agree with their figures.
    say: called with each line to print.

    The metrics are those of `metrics.score`, and `same_as_clean`, the share of the clips with the same answer,
    `num_unanswered`, and, where the model has emotions that the corpus lacks, `among_corpus_emotions` and
    `among_common_emotions`: figures over clips of these emotions, as if the model had no others. A clip without an
    answer (NaN probabilities: no speech was found) counts with uniform probabilities.

    Raises
    ------
    UsageError: there is no such condition, or no condition applies to the model.
    CorpusError: a corpus has clips that trained or validated the model and none of the subset, or none of an emotion
        that the model has.
    """
    conditions = check_conditions(conditions)
    if results and subset != "test":
        raise UsageError(f"--results keeps figures of the test subset only: use --output for --subset {subset}")
    commandline.import_tensorflow()
    from emokeras.data.conditions import BABBLE
    from emokeras.recognizer import load_recognizer

    recognizer = load_recognizer(model)
    if len(conditions) > 1 and not recognizer.config.takes_audio:
        raise UsageError(f"{model} takes no audio: no condition changes what it takes")
    loaded = [_load(recognizer, corpus, say) for corpus in corpora]
    names = [corpus.name for corpus in loaded]
    if len(set(names)) < len(names):
        raise UsageError(f"--corpus has two corpora of the name {max(names, key=names.count)}: evaluate them in turn")
    voices = []
    if set(BABBLE) & set(conditions):
        voices = _find_voices(recognizer, loaded, say)
        conditions = [name for name in conditions if voices or name not in BABBLE]
    run = _describe(recognizer, Path(model)) if results else {}
    scores = {}
    for corpus in loaded:
        scored = _Scored(recognizer, corpus, choose_clips(corpus, recognizer.clips_used, subset, say), say)
        folder = output and (output / corpus.name if len(loaded) > 1 else output)
        scores[corpus.name] = {}
        for condition in conditions:
            own, probabilities = scored.under(condition, voices, DECIMALS if results else None)
            scores[corpus.name][condition] = own
            if folder:
                _write_predictions(folder, condition, scored, probabilities)
            if results:
                from emokeras import runs

                row = run | scored.describe() | {"subset": subset, "condition": condition, "test": own}
                runs.keep_condition(row, scored.clips, recognizer.emotions, probabilities, results)
        if folder:
            _write_metrics(folder, scores[corpus.name], scored)
    return scores


def check_conditions(names: Sequence[str]) -> list[str]:
    """Return the conditions of these names, clean first and each once; all of them for "all".

    Raises UsageError for a name that there is not.
    """
    from emokeras.data.conditions import CONDITIONS

    for name in names:
        if name not in (*CONDITIONS, "all"):
            near = difflib.get_close_matches(name, CONDITIONS, 1, 0.0)[0]
            raise UsageError(
                f"there is no condition '{name}'; did you mean '{near}'? There are all, {', '.join(CONDITIONS)}"
            )
    return list(dict.fromkeys(["clean", *(CONDITIONS if "all" in names else names)]))


def choose_clips(corpus, clips_used: tuple[dict[str, str], ...], subset: str, say: Callable = print) -> list:
    """Return the clips to score: those of the subset, found by content, or of a corpus with no clip that was used all,
    or those of its development speakers, or of its other speakers.

    Raises CorpusError when the corpus has clips that were used but none of the subset.
    """
    from emokeras.data.splits import DEVELOPMENT_SPEAKERS

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
    development = DEVELOPMENT_SPEAKERS.get(corpus.name.lower(), ())
    if subset == "train" or not {*development} & {*corpus.speakers}:
        return list(corpus.clips)
    chosen = [clip for clip in corpus.clips if (clip.speaker in development) == (subset == "validation")]
    speakers = ", ".join(sorted({clip.speaker for clip in chosen}))
    say(f"{corpus.name}: {subset} is speakers {speakers}; {', '.join(development)} are the ones to choose recipes on")
    return chosen


class _Scored:
    """The clips of one corpus that are scored: their waveforms, decoded once, and the answers when clean."""

    def __init__(self, recognizer, corpus, clips: Sequence, say: Callable):
        from emokeras.data.audio import load_waveforms
        from emokeras.data.splits import PROTOCOLS
        from emokeras.data.transcripts import read_transcripts, transcript_kind

        self.recognizer, self.corpus, self.say = recognizer, corpus, say
        self.clips = [clip for clip in clips if clip.emotion in recognizer.emotions]
        left_out = Counter(clip.emotion for clip in clips if clip.emotion not in recognizer.emotions)
        for emotion, count in left_out.items():
            say(f"warning: {count} clips of '{emotion}' are left out: the model does not have this emotion")
        if not self.clips:
            names = ", ".join(recognizer.emotions)
            raise CorpusError(f"{corpus.name} has no clip to score of an emotion that the model has: {names}")
        others = len(corpus.clips) - len(self.clips)
        say(f"{len(self.clips)} clips of {corpus.name}" + (f"; the other {others} are not scored" if others else ""))
        self.emotions = [emotion for emotion in recognizer.emotions if emotion in corpus.emotions]
        in_own_split = self.clips[0].content in {row["content"] for row in recognizer.clips_used}
        protocol = PROTOCOLS[recognizer.config.experiment.protocol]
        self.whole_speakers = not in_own_split or protocol.whole_speakers
        # Waveforms and transcripts are cached for a whole corpus, as in training.
        self.waveforms = self.transcripts = self.answers = None
        place = {clip: index for index, clip in enumerate(corpus.clips)}
        if recognizer.config.takes_audio:
            waveforms = load_waveforms(corpus.clips, recognizer.sample_rate_hz)
            self.waveforms = [waveforms[place[clip]] for clip in self.clips]
        if recognizer.config.takes_transcripts:
            say(f"transcripts: {transcript_kind(corpus.clips)}")
            transcripts = read_transcripts(corpus.clips)
            self.transcripts = [transcripts[place[clip]] for clip in self.clips]

    def under(self, condition: str, voices: Sequence, decimals: int | None) -> tuple[dict[str, Any], Any]:
        """Return metrics and probabilities [clips, emotions] under a condition; the first one asked for is clean."""
        import numpy as np

        from emokeras.data.corpora import COMMON_EMOTIONS
        from emokeras.reporting.metrics import figures_among
        from emokeras.training.score import score_clips, to_labels

        probabilities = self._predict(condition, voices)
        unanswered = np.isnan(probabilities).all(axis=1)
        if self.answers is None and unanswered.all():
            raise RunError("the model answers no clip: its weights are not finite, or the corpus has no speech")
        probabilities[unanswered] = 1 / probabilities.shape[1]
        if unanswered.any():
            self.say(f"{condition}: no answer for {unanswered.sum()} clips, which count with uniform probabilities")
        if decimals is not None:
            probabilities = probabilities.round(decimals)
        answers = np.where(unanswered, -1, probabilities.argmax(axis=1))
        if self.answers is None:
            self.answers = answers
        emotions = self.recognizer.emotions
        scores = score_clips(self.clips, emotions, probabilities, self.whole_speakers)
        scores |= {
            "same_as_clean": float(np.mean(answers == self.answers)),
            "num_unanswered": int(unanswered.sum()),
        }
        if set(self.emotions) != set(emotions):
            labels = to_labels(self.clips, emotions)
            has_common = set(COMMON_EMOTIONS) <= set(self.emotions)
            scores |= {
                "among_corpus_emotions": figures_among(labels, probabilities, emotions, self.emotions),
                "among_common_emotions": figures_among(labels, probabilities, emotions, COMMON_EMOTIONS)
                if has_common
                else None,
            }
        return scores, probabilities

    def describe(self) -> dict[str, Any]:
        """Return what a row says of these clips."""
        return {
            "test_corpus": self.corpus.name,
            "num_test": len(self.clips),
            "emotions": list(self.recognizer.emotions),
            "corpus_emotions": self.emotions,
        }

    def _predict(self, condition: str, voices: Sequence):
        import numpy as np

        from emokeras.data.audio import in_parallel
        from emokeras.data.conditions import apply_condition

        if condition == "clean":
            return np.array(self.recognizer.predict(self.waveforms, self.transcripts))
        rate_hz = self.recognizer.sample_rate_hz

        def changed(clip, waveform):
            return apply_condition(condition, waveform, rate_hz, clip.content, voices)

        blocks = []
        for start in range(0, len(self.clips), CLIPS_PER_BLOCK):
            block = slice(start, start + CLIPS_PER_BLOCK)
            waveforms = in_parallel(changed, condition, self.clips[block], self.waveforms[block])
            transcripts = self.transcripts and self.transcripts[block]
            blocks.append(self.recognizer.predict(waveforms, transcripts))
        return np.concatenate(blocks)


def _load(recognizer, corpus: str | None, say: Callable):
    from emokeras.data.corpora import load_corpus

    loaded = load_corpus(corpus or recognizer.config.experiment.corpus, recognizer.config.decode_rate_hz)
    for note in loaded.notes:
        say(f"  {note}")
    return loaded


def _find_voices(recognizer, loaded: Sequence, say: Callable) -> list:
    """Return a voice for babble of each speaker with neutral clips in the model's training: in these corpora, else in
    the model's own. Where there are too few, say so and return none."""
    from emokeras.data.audio import load_waveforms
    from emokeras.data.conditions import MIN_TALKERS, make_voices
    from emokeras.data.corpora import load_corpus

    used = recognizer.clips_used
    neutral = {row["content"] for row in used if row["subset"] == "train" and row["emotion"] == "neutral"}
    neutral -= {row["content"] for row in used if row["subset"] != "train"}
    own = recognizer.config.experiment.corpus
    rate_hz = recognizer.sample_rate_hz
    try:
        searched = [*loaded, load_corpus(own, recognizer.config.decode_rate_hz)]
    except CorpusError:  # It is not on this machine.
        searched = loaded
    for corpus in searched:
        clips = [clip for clip in corpus.clips if clip.content in neutral]
        by_speaker = defaultdict(list)
        for clip, waveform in zip(clips, load_waveforms(clips, rate_hz) if clips else (), strict=True):
            by_speaker[clip.speaker].append(waveform)
        voices = make_voices(by_speaker, rate_hz)
        if len(voices) >= MIN_TALKERS:
            return voices
    say(
        f"babble is left out: it needs neutral clips of {MIN_TALKERS} speakers that trained the model, and "
        f"{', '.join(corpus.name for corpus in searched)} has fewer: prepare or add the training corpus, {own}"
    )
    return []


def _describe(recognizer, model: Path) -> dict[str, Any]:
    """Return what a row says of the model: the keys that name its folder under results/."""
    from emokeras import runs

    experiment = recognizer.config.experiment
    # An export has the corpus's name in its configuration, a run perhaps a path.
    trained = (model / "metrics.json").is_file()
    return {
        "recipe": recognizer.config.recipe,
        "corpus": runs.read_metrics(model)["corpus"] if trained else runs.file_name_of(experiment.corpus),
        **{key: getattr(experiment, key) for key in ("protocol", "fold", "seed", "split_seed")},
    }


def _write_predictions(folder: Path, condition: str, scored: _Scored, probabilities) -> None:
    from emokeras import runs

    folder = folder if condition == "clean" else folder / condition
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_predictions(folder / "predictions.csv", scored.clips, scored.recognizer.emotions, probabilities)


def _write_metrics(folder: Path, scores: dict[str, dict], scored: _Scored) -> None:
    from emokeras import runs
    from emokeras.reporting import plots

    clean, *others = scores
    conditions = {"conditions": {name: scores[name] for name in others}} if others else {}
    runs.write_json(folder / "metrics.json", scores[clean] | conditions)
    title = f"{scored.recognizer.config.recipe} on {scored.corpus.name}: {scores[clean]['accuracy']:.1%}"
    matrix = plots.confusion_matrix(scores[clean]["confusion_matrix"], scored.recognizer.emotions, title)
    plots.save(matrix, folder / "confusion_matrix.png")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.evaluate", __doc__)
    parser.add_argument("model", type=Path, metavar="RUN|MODEL", help="a run folder or an exported model")
    parser.add_argument(
        "--corpus",
        metavar="C[,C…]",
        help="ravdess, emodb, demo, or a folder, zip or manifest.csv; several with commas (default: its own)",
    )
    parser.add_argument("--subset", choices=("train", "validation", "test"), default="test")
    parser.add_argument(
        "--conditions", metavar="NAME[,NAME…]", help="all, or names of conditions, such as telephone,babble-10"
    )
    parser.add_argument("--output", type=Path, metavar="D", help="write metrics, predictions and confusion matrix to D")
    parser.add_argument("--results", type=Path, metavar="D", help="keep a row for each corpus and condition under D")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.reporting import screen

    text = arguments.corpus
    scores = evaluate_conditions(
        arguments.model,
        corpora=[text] if text is None or Path(text).exists() else text.split(","),
        conditions=arguments.conditions.split(",") if arguments.conditions else (),
        subset=arguments.subset,
        output=arguments.output,
        results=arguments.results,
    )
    for corpus, of_condition in scores.items():
        if arguments.conditions:
            screen.print_conditions(f"{arguments.model} on {corpus}, {arguments.subset}", of_condition)
        else:
            screen.print_metrics({arguments.subset: of_condition["clean"]}, arguments.subset)


if __name__ == "__main__":
    raise SystemExit(main())
