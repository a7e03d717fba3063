"""The clips of a corpus that test a recognizer, and its scores on them, clean and under conditions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emokeras.data.audio import in_parallel, load_waveforms
from emokeras.data.conditions import MIN_TALKERS, apply_condition, make_voices
from emokeras.data.corpora import COMMON_EMOTIONS, Clip, Corpus, for_each_corpus, load_corpus
from emokeras.data.splits import DEVELOPMENT_SPEAKERS, PROTOCOLS, UNUSED
from emokeras.data.transcripts import read_transcripts, transcript_kind
from emokeras.errors import CorpusError, RunError
from emokeras.recognizer import Recognizer
from emokeras.reporting.metrics import among
from emokeras.training.score import score_clips, to_labels

CLIPS_PER_BLOCK = 256  # Waveforms under a condition are in memory for so many clips at a time.


class ScoredClips:
    """The clips of one corpus that test a recognizer: decoded once, scored under one condition after another.

    clips: those of an emotion that the model has. corpus_emotions: the model's emotions that the corpus has.
    """

    def __init__(self, recognizer: Recognizer, corpus: Corpus, subset: str, say: Callable[[str], None]):
        """Choose the clips; call `say` with each line to print. Raises CorpusError as `choose_clips` does."""
        self.recognizer, self.corpus, self.say = recognizer, corpus, say
        chosen = choose_clips(corpus, recognizer.clips_used, subset, say)
        self.clips = [clip for clip in chosen if clip.emotion in recognizer.emotions]
        unknown = Counter(clip.emotion for clip in chosen if clip.emotion not in recognizer.emotions)
        for emotion, count in unknown.items():
            say(f"warning: {count} clips of '{emotion}' are left out: the model does not have this emotion")
        if not self.clips:
            names = ", ".join(recognizer.emotions)
            raise CorpusError(f"{corpus.name} has no clip to score of an emotion that the model has: {names}")
        others = len(corpus.clips) - len(self.clips)
        say(f"{len(self.clips)} clips of {corpus.name}" + (f"; the other {others} are not scored" if others else ""))
        self.corpus_emotions = [emotion for emotion in recognizer.emotions if emotion in corpus.emotions]
        in_own_split = self.clips[0].content in {row["content"] for row in recognizer.clips_used}
        self.whole_speakers = not in_own_split or PROTOCOLS[recognizer.config.experiment.protocol].whole_speakers
        # Waveforms and transcripts are cached for a whole corpus, as in training.
        self.waveforms = self.transcripts = self.clean_answers = None
        if recognizer.config.takes_audio:
            rate = recognizer.sample_rate_hz
            waveforms = for_each_corpus(corpus.clips, lambda clips: load_waveforms(clips, rate))
            waveform_of = dict(zip(corpus.clips, waveforms, strict=True))
            self.waveforms = [waveform_of[clip] for clip in self.clips]
        if recognizer.config.takes_transcripts:
            say(f"transcripts: {transcript_kind(corpus.clips)}")
            transcript_of = dict(zip(corpus.clips, read_transcripts(corpus.clips), strict=True))
            self.transcripts = [transcript_of[clip] for clip in self.clips]

    def score(
        self, condition: str = "clean", voices: Sequence[np.ndarray] = (), decimals: int | None = None
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Return the metrics and the probabilities [clips, emotions] under a condition; clean has to come first.

        Parameters
        ----------
        voices: for babble, of `find_voices`.
        decimals: those that probabilities are rounded to before they are scored; None keeps them as they are.

        The metrics are those of `metrics.score` and

        - same_as_clean: the share of the clips with the same answer; num_unanswered: clips without an answer (NaN, as
          no speech was found), which count with uniform probabilities;
        - where the corpus lacks emotions of the model, among_corpus_emotions and among_common_emotions: the same
          metrics over clips of these emotions, as if the model had no others (`metrics.among`), None without them.

        Raises
        ------
        RunError: the model answers no clip when clean.
        """
        emotions = self.recognizer.emotions
        probabilities = self._predict(condition, voices)
        unanswered = np.isnan(probabilities).all(axis=1)
        if condition == "clean" and unanswered.all():
            raise RunError(
                f"the model answers no clip of {self.corpus.name}: there is no speech, or its weights diverged"
            )
        if unanswered.any():
            self.say(f"{condition}: {unanswered.sum()} clips without an answer count with uniform probabilities")
        probabilities = np.where(unanswered[:, np.newaxis], np.float32(1 / len(emotions)), probabilities)
        if decimals is not None:
            probabilities = probabilities.round(decimals)
        answers = np.where(unanswered, -1, probabilities.argmax(axis=1))
        if condition == "clean":
            self.clean_answers = answers
        scores = score_clips(self.clips, emotions, probabilities, self.whole_speakers)
        scores["same_as_clean"] = float(np.mean(answers == self.clean_answers))
        scores["num_unanswered"] = int(unanswered.sum())
        if set(self.corpus_emotions) != set(emotions):
            has_common = {clip.emotion for clip in self.clips}.issuperset(COMMON_EMOTIONS)
            scores["among_corpus_emotions"] = self._score_among(probabilities, self.corpus_emotions)
            scores["among_common_emotions"] = self._score_among(probabilities, COMMON_EMOTIONS) if has_common else None
        return scores, probabilities

    def _score_among(self, probabilities: np.ndarray, kept: Sequence[str]) -> dict[str, Any]:
        emotions = self.recognizer.emotions
        kept = [emotion for emotion in emotions if emotion in kept]
        indices, _, shares = among(to_labels(self.clips, emotions), probabilities, emotions, kept)
        return score_clips([self.clips[index] for index in indices], kept, shares, self.whole_speakers)

    def _predict(self, condition: str, voices: Sequence[np.ndarray]) -> np.ndarray:
        if condition == "clean":
            return self.recognizer.predict(self.waveforms, self.transcripts)
        rate_hz = self.recognizer.sample_rate_hz

        def change(clip: Clip, waveform: np.ndarray) -> np.ndarray:
            return apply_condition(condition, waveform, rate_hz, clip.content, voices)

        probabilities = []
        for start in range(0, len(self.clips), CLIPS_PER_BLOCK):
            block = slice(start, start + CLIPS_PER_BLOCK)
            waveforms = in_parallel(change, condition, self.clips[block], self.waveforms[block])
            probabilities.append(self.recognizer.predict(waveforms, self.transcripts and self.transcripts[block]))
        return np.concatenate(probabilities)


def choose_clips(
    corpus: Corpus, clips_used: Sequence[dict[str, str]], subset: str, say: Callable[[str], None]
) -> list[Clip]:
    """Return the clips to score: those of the subset, found by content. Of a corpus with no clip that was used all, or,
    where it has DEVELOPMENT_SPEAKERS, these for validation and the others for test.

    Raises CorpusError when the corpus has clips that were used but none of the subset.
    """
    subset_of = {row["content"]: row["subset"] for row in clips_used if row["subset"] != UNUSED}
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
    if subset == "train" or not set(development) & set(corpus.speakers):
        return list(corpus.clips)
    chosen = [clip for clip in corpus.clips if (clip.speaker in development) == (subset == "validation")]
    speakers = ", ".join(sorted({clip.speaker for clip in chosen}))
    kept_for_choosing = f"; {', '.join(development)} are kept for choosing recipes (--subset validation)"
    say(f"{corpus.name}: speakers {speakers}" + kept_for_choosing * (subset == "test"))
    return chosen


def find_voices(recognizer: Recognizer, corpora: Sequence[Corpus], say: Callable[[str], None]) -> list[np.ndarray]:
    """Return a voice for babble, float32 [samples], of each speaker with neutral clips in the model's training.

    They are looked for by content in these corpora, then in the model's own. Where none has enough, there is no voice,
    and `say` is called with a line about it.
    """
    used = recognizer.clips_used
    neutral = {row["content"] for row in used if row["subset"] == "train" and row["emotion"] == "neutral"}
    neutral -= {row["content"] for row in used if row["subset"] != "train"}
    own, rate_hz = recognizer.config.experiment.source, recognizer.sample_rate_hz
    try:
        searched = [*corpora, load_corpus(own, recognizer.config.decode_rate_hz)]
    except CorpusError:  # It is not on this machine.
        searched = corpora
    for corpus in searched:
        clips = [clip for clip in corpus.clips if clip.content in neutral]
        by_speaker = defaultdict(list)
        for clip, waveform in zip(clips, load_waveforms(clips, rate_hz) if clips else (), strict=True):
            by_speaker[clip.speaker].append(waveform)
        voices = make_voices(by_speaker, rate_hz)
        if len(voices) >= MIN_TALKERS:
            return voices
    names = ", ".join(dict.fromkeys(corpus.name for corpus in searched))
    say(
        f"babble is left out: it is made of neutral clips of {MIN_TALKERS} or more speakers who trained the model, and "
        f"{names} has too few: add the corpus that the model was trained on, {own}, to --corpus"
    )
    return []
