"""Whisper's transcripts are written batch by batch and found again; without them the scripts are the transcripts."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

from emokeras.data import transcripts
from emokeras.data.corpora import Corpus, join_corpora, load_corpus
from emokeras.errors import CorpusError, UsageError

MODEL = "openai/whisper-tiny"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def clips(demo_corpus):
    """Return 7 clips, of which the last is the third under another name."""
    return (*demo_corpus.clips[:6], replace(demo_corpus.clips[2], name="copy"))


@pytest.fixture
def batches(monkeypatch):
    """Replace Whisper by a function of a waveform's length; return the lengths of the batches it has transcribed."""
    batches = []

    def load(model, language, batch_size, say):
        def transcribe_batch(waveforms):
            assert len(waveforms) <= batch_size
            batches.append([len(waveform) for waveform in waveforms])
            return [text_of(waveform, model) for waveform in waveforms]

        return transcribe_batch

    monkeypatch.setattr(transcripts, "load_whisper", load)
    return batches


def text_of(waveform: np.ndarray, model: str = MODEL) -> str:
    return f'{len(waveform)} samples, by "{model}"'


def quiet(line: str) -> None:
    """Print nothing."""


def rows_of(path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def waveforms_of(clips) -> list[np.ndarray]:
    return [transcripts.load_waveforms([clip], 16000)[0] for clip in clips]


# Reading


def test_without_a_file_the_script_is_the_transcript(clips):
    assert transcripts.read_transcripts(clips) == [clip.transcript for clip in clips]
    assert transcripts.transcript_kind(clips) == "script"


def test_clips_without_any_transcript_are_refused(clips):
    clips = [replace(clip, transcript="") if number else clip for number, clip in enumerate(clips)]
    with pytest.raises(CorpusError) as caught:
        transcripts.read_transcripts(clips)
    assert str(caught.value) == (
        f"6 clips without a transcript: {clips[1].name}, {clips[2].name}, {clips[3].name} and 3 more: run "
        "`python -m emokeras.transcribe --corpus …` with this corpus, or fill the column transcript of its manifest.csv"
    )


def test_whisper_transcripts_take_precedence_over_scripts(clips, batches):
    transcripts.transcribe_clips(clips, MODEL, say=quiet)
    assert transcripts.read_transcripts(clips) == [text_of(waveform) for waveform in waveforms_of(clips)]
    assert transcripts.transcript_kind(clips) == "whisper transcripts by openai/whisper-tiny"
    unscripted = [replace(clip, transcript="") for clip in clips]
    assert transcripts.read_transcripts(unscripted) == transcripts.read_transcripts(clips)


def test_joined_corpora_have_the_transcripts_that_each_has_alone(clips, batches):
    alone, scripted = clips[:3], clips[3:6]
    transcripts.transcribe_clips(alone, MODEL, say=quiet)
    joined = join_corpora([Corpus("b", alone, ()), Corpus("a", scripted, ())])
    expected = [clip.transcript for clip in scripted] + [text_of(waveform) for waveform in waveforms_of(alone)]
    assert transcripts.read_transcripts(joined.clips) == expected
    assert transcripts.transcript_kind(joined.clips) == "script and whisper transcripts by openai/whisper-tiny"


def test_every_layout_of_a_corpus_has_the_same_file(demo_folder, demo_corpus, tmp_path, home):
    shutil.copytree(demo_folder, tmp_path / "moved")
    moved = load_corpus(tmp_path / "moved")
    renamed = [replace(clip, name=f"other-{number}") for number, clip in enumerate(reversed(moved.clips))]
    path = transcripts.transcripts_path(demo_corpus.clips)
    assert transcripts.transcripts_path(renamed) == path
    assert transcripts.transcripts_path(demo_corpus.clips[1:]) != path
    assert (path.name, path.parents[1]) == ("transcripts.csv", home / "transcripts")


def test_an_incomplete_file_is_refused(clips, batches):
    path = transcripts.transcribe_clips(clips, MODEL, language="German", say=quiet)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    for read in (transcripts.read_transcripts, transcripts.transcript_kind):
        with pytest.raises(CorpusError) as caught:
            read(clips)
        assert str(caught.value) == (
            f"{path} lacks 2 clips of 7: {clips[4].name}, {clips[5].name}: run `python -m emokeras.transcribe "
            "--corpus … --model openai/whisper-tiny --language de` again to finish, or delete the file to do without it"
        )
    path.write_bytes(lines[0][:-3])  # a kill in the middle of the header
    with pytest.raises(CorpusError, match=r"lacks 7 clips of 7: .*`python -m emokeras.transcribe --corpus …` again"):
        transcripts.read_transcripts(clips)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.replace(b"content", b"contents"), r" has the columns clip, contents, script"),
        (lambda data: data + b"a,b\n", r", line 8: 2 columns, the header has 6"),
        (lambda data: data + b"\xff,\n", r" is not UTF-8 \(.*can't decode byte 0xff"),
        (lambda data: data + b'a,"b\n', r" is not CSV \(unexpected end of data"),
    ],
)
def test_a_damaged_file_is_a_one_line_error(clips, batches, damage, message):
    path = transcripts.transcribe_clips(clips, MODEL, say=quiet)
    path.write_bytes(damage(path.read_bytes()))
    for call in (transcripts.read_transcripts, lambda clips: transcripts.transcribe_clips(clips, MODEL)):
        with pytest.raises(CorpusError, match=message) as caught:
            call(clips)
        assert str(caught.value).startswith(str(path))
        assert str(caught.value).endswith("delete it, and run `python -m emokeras.transcribe --corpus …` again")


# Writing


def test_a_row_has_all_columns_of_a_recording(clips, batches):
    clips = (replace(clips[0], name="caf\udce9"), *clips[1:])  # A file name that is not UTF-8.
    path = transcripts.transcribe_clips(clips, MODEL, batch_size=4, say=quiet)
    header, *rows = rows_of(path)
    assert header == ["clip", "content", "script", "transcript", "model", "language"]
    names = ["caf\\udce9", *(clip.name for clip in clips[1:6])]
    assert rows == [
        [name, clip.content, clip.transcript, text_of(waveform), MODEL, "en"]
        for name, clip, waveform in zip(names, clips[:6], waveforms_of(clips[:6]), strict=True)
    ]
    lengths = [len(waveform) for waveform in waveforms_of(clips[:6])]
    assert batches == [lengths[:4], lengths[4:]]  # without the copy
    assert [file.name for file in path.parent.iterdir()] == ["transcripts.csv"]


def test_a_stopped_run_continues(clips, batches, monkeypatch):
    load = transcripts.load_whisper

    def load_and_stop(*arguments):
        transcribe_batch = load(*arguments)

        def stop(waveforms):
            if len(batches) == 2:
                raise KeyboardInterrupt
            return transcribe_batch(waveforms)

        return stop

    monkeypatch.setattr(transcripts, "load_whisper", load_and_stop)
    with pytest.raises(KeyboardInterrupt):
        transcripts.transcribe_clips(clips, MODEL, batch_size=2)
    path = transcripts.transcripts_path(clips)
    before = path.read_bytes()
    assert len(rows_of(path)) == 1 + 4
    monkeypatch.setattr(transcripts, "load_whisper", load)
    batches.clear()
    lines = []
    transcripts.transcribe_clips(clips, MODEL, batch_size=2, say=lines.append)
    assert lines == ["4 recordings are transcribed, 2 are left"]
    assert batches == [[len(waveform) for waveform in waveforms_of(clips[4:6])]]
    assert path.read_bytes().startswith(before)
    assert transcripts.read_transcripts(clips) == [text_of(waveform) for waveform in waveforms_of(clips)]


def test_transcribed_clips_are_not_transcribed_again(clips, batches):
    path = transcripts.transcribe_clips(clips, MODEL, say=quiet)
    before, lines = path.read_bytes(), []
    batches.clear()
    assert transcripts.transcribe_clips(clips, MODEL, say=lines.append) == path
    assert lines == ["already transcribed by openai/whisper-tiny, language en: nothing to do"]
    assert (path.read_bytes(), batches) == (before, [])


@pytest.mark.parametrize("kept_bytes", [-1, -30, -200])
def test_an_incomplete_last_line_is_transcribed_again(clips, batches, kept_bytes):
    path = transcripts.transcribe_clips(clips, MODEL, say=quiet)
    whole = path.read_bytes()
    num_whole = whole[:kept_bytes].count(b"\n") - 1
    assert num_whole in (4, 5)
    path.write_bytes(whole[:kept_bytes])
    batches.clear()
    lines = []
    transcripts.transcribe_clips(clips, MODEL, say=lines.append)
    assert lines == [
        "the last line is incomplete: its recording is transcribed again",
        f"{num_whole} recordings are transcribed, {6 - num_whole} are left",
    ]
    assert path.read_bytes() == whole
    assert batches == [[len(waveform) for waveform in waveforms_of(clips[num_whole:6])]]


@pytest.mark.parametrize(("model", "language"), [("openai/whisper-base", "en"), (MODEL, "de")])
def test_rows_of_another_model_or_language_are_replaced(clips, batches, model, language):
    path = transcripts.transcribe_clips(clips, MODEL, say=quiet)
    lines = []
    transcripts.transcribe_clips(clips, model, language=language, say=lines.append)
    assert lines == ["6 rows by openai/whisper-tiny, language en, are replaced"]
    assert {tuple(row[4:]) for row in rows_of(path)[1:]} == {(model, language)}
    assert len(batches) == 2
    assert transcripts.read_transcripts(clips) == [text_of(waveform, model) for waveform in waveforms_of(clips)]


def test_a_model_that_cannot_be_loaded_replaces_nothing(clips, batches, monkeypatch):
    path = transcripts.transcribe_clips(clips, MODEL, say=quiet)
    before = path.read_bytes()

    def fail(*arguments):
        raise UsageError("no such model")

    monkeypatch.setattr(transcripts, "load_whisper", fail)
    with pytest.raises(UsageError):
        transcripts.transcribe_clips(clips, "openai/whisper-typo")
    assert path.read_bytes() == before


def test_a_relative_and_an_absolute_path_are_the_same_model(clips, batches, tmp_path, monkeypatch):
    (tmp_path / "my-whisper").mkdir()
    monkeypatch.chdir(tmp_path)
    path = transcripts.transcribe_clips(clips, "my-whisper", say=quiet)
    assert {row[4] for row in rows_of(path)[1:]} == {str(tmp_path / "my-whisper")}
    lines = []
    transcripts.transcribe_clips(clips, str(tmp_path / "my-whisper"), say=lines.append)
    assert lines[0].startswith("already transcribed")
    assert transcripts.transcript_kind(clips) == "whisper transcripts by my-whisper"


# Evaluation


def test_plain_words_have_no_case_and_no_punctuation():
    assert transcripts.plain_words("  Kids aren’t talking –\tby the DOOR_2!") == "kids arent talking by the door 2"
    assert transcripts.plain_words("?! …") == ""
    assert transcripts.plain_words("Äh, nein!") == "äh nein"


def test_word_error_rate_equals_the_count_by_hand():
    pytest.importorskip("jiwer")
    scripts = ["Kids are talking by the door", "Dogs are sitting by the door", "Oh"]
    # One substitution and one deletion; none; two insertions: 4 errors in 6 + 6 + 1 words.
    found = ["kids, are walking by door.", "DOGS are sitting by the door!", "Oh my God..."]
    assert transcripts.word_error_rate(scripts, found) == pytest.approx(4 / 13)
    assert transcripts.word_error_rate(scripts[:1], [""]) == 1.0
    assert transcripts.word_error_rate(scripts[2:], ["well I say"]) == 3.0
