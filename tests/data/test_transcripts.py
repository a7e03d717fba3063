"""Transcripts: what Whisper heard is kept row by row and found again; the script serves where there is nothing else."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

from emokeras.data import transcripts
from emokeras.data.corpora import load_corpus
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
def heard(monkeypatch):
    """Put an ear in Whisper's place that says how long a waveform is; return the batches it has heard."""
    batches = []

    def load(model, language, batch_size, say):
        def recognise(waveforms):
            assert len(waveforms) <= batch_size
            batches.append([len(waveform) for waveform in waveforms])
            return [said(waveform, model) for waveform in waveforms]

        return recognise

    monkeypatch.setattr(transcripts, "load_whisper", load)
    return batches


def said(waveform: np.ndarray, model: str = MODEL) -> str:
    return f'{len(waveform)} samples, said "{model}"'


def rows_of(path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def waveforms_of(clips) -> list[np.ndarray]:
    return [transcripts.load_waveforms([clip], 16000)[0] for clip in clips]


# Reading


def test_without_a_file_the_script_is_the_transcript(clips):
    assert transcripts.read_transcripts(clips) == [clip.transcript for clip in clips]
    assert transcripts.transcript_kind(clips) == "script"


def test_clips_without_any_transcript_are_told(clips):
    clips = [replace(clip, transcript="") if number else clip for number, clip in enumerate(clips)]
    with pytest.raises(CorpusError) as caught:
        transcripts.read_transcripts(clips)
    assert str(caught.value) == (
        f"6 clips without a transcript: {clips[1].name}, {clips[2].name}, {clips[3].name} and 3 more: run "
        "`python -m emokeras.transcribe --corpus …` with this corpus, or fill the column transcript of its manifest.csv"
    )


def test_what_whisper_heard_comes_before_the_script(clips, heard):
    transcripts.transcribe_clips(clips, MODEL, say=lambda line: None)
    assert transcripts.read_transcripts(clips) == [said(waveform) for waveform in waveforms_of(clips)]
    assert transcripts.transcript_kind(clips) == "whisper transcripts by openai/whisper-tiny"
    mute = [replace(clip, transcript="") for clip in clips]
    assert transcripts.read_transcripts(mute) == transcripts.read_transcripts(clips)


def test_any_layout_of_the_corpus_finds_the_same_file(demo_folder, demo_corpus, tmp_path, home):
    shutil.copytree(demo_folder, tmp_path / "moved")
    moved = load_corpus(tmp_path / "moved")
    renamed = [replace(clip, name=f"other-{number}") for number, clip in enumerate(reversed(moved.clips))]
    path = transcripts.transcripts_path(demo_corpus.clips)
    assert transcripts.transcripts_path(renamed) == path
    assert transcripts.transcripts_path(demo_corpus.clips[1:]) != path
    assert (path.name, path.parents[1]) == ("transcripts.csv", home / "transcripts")


def test_an_incomplete_file_is_no_transcript(clips, heard):
    path = transcripts.transcribe_clips(clips, MODEL, language="German", say=lambda line: None)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    for read in (transcripts.read_transcripts, transcripts.transcript_kind):
        with pytest.raises(CorpusError) as caught:
            read(clips)
        assert str(caught.value) == (
            f"{path} lacks 2 clips of 7: {clips[4].name}, {clips[5].name}: run `python -m emokeras.transcribe "
            "--corpus … --model openai/whisper-tiny --language de` again to finish, or delete the file to do without it"
        )
    path.write_bytes(lines[0][:-3])  # A kill in the middle of the header.
    with pytest.raises(CorpusError, match=r"lacks 7 clips of 7: .*`python -m emokeras.transcribe --corpus …` again"):
        transcripts.read_transcripts(clips)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data.replace(b"content", b"contents"), r"its columns are clip, contents, script"),
        (lambda data: data + b"a,b\n", r"row 7 has not 6 cells"),
        (lambda data: data + b"\xff,\n", r"can't decode byte 0xff"),
        (lambda data: data + b'a,"b\n', r"unexpected end of data"),
    ],
)
def test_a_damaged_file_is_one_line(clips, heard, damage, said):
    path = transcripts.transcribe_clips(clips, MODEL, say=lambda line: None)
    path.write_bytes(damage(path.read_bytes()))
    for call in (transcripts.read_transcripts, lambda clips: transcripts.transcribe_clips(clips, MODEL)):
        with pytest.raises(CorpusError, match=said) as caught:
            call(clips)
        assert str(caught.value).startswith(f"{path} is damaged (")
        assert str(caught.value).endswith("delete it, and run `python -m emokeras.transcribe --corpus …` again")


# Writing


def test_a_row_tells_all_of_a_recording(clips, heard):
    clips = (replace(clips[0], name="caf\udce9"), *clips[1:])  # A file name that is not UTF-8.
    path = transcripts.transcribe_clips(clips, MODEL, batch_size=4, say=lambda line: None)
    header, *rows = rows_of(path)
    assert header == ["clip", "content", "script", "transcript", "model", "language"]
    names = ["caf\\udce9", *(clip.name for clip in clips[1:6])]
    assert rows == [
        [name, clip.content, clip.transcript, said(waveform), MODEL, "en"]
        for name, clip, waveform in zip(names, clips[:6], waveforms_of(clips[:6]), strict=True)
    ]
    lengths = [len(waveform) for waveform in waveforms_of(clips[:6])]
    assert heard == [lengths[:4], lengths[4:]]  # The copy is not heard again.
    assert [file.name for file in path.parent.iterdir()] == ["transcripts.csv"]


def test_a_stopped_run_goes_on_where_it_was(clips, heard, monkeypatch):
    load = transcripts.load_whisper

    def load_and_stop(*arguments):
        recognise = load(*arguments)

        def stop(waveforms):
            if len(heard) == 2:
                raise KeyboardInterrupt
            return recognise(waveforms)

        return stop

    monkeypatch.setattr(transcripts, "load_whisper", load_and_stop)
    with pytest.raises(KeyboardInterrupt):
        transcripts.transcribe_clips(clips, MODEL, batch_size=2)
    path = transcripts.transcripts_path(clips)
    before = path.read_bytes()
    assert len(rows_of(path)) == 1 + 4
    monkeypatch.setattr(transcripts, "load_whisper", load)
    heard.clear()
    lines = []
    transcripts.transcribe_clips(clips, MODEL, batch_size=2, say=lines.append)
    assert lines == ["4 recordings are transcribed already, 2 are left"]
    assert heard == [[len(waveform) for waveform in waveforms_of(clips[4:6])]]
    assert path.read_bytes().startswith(before)
    assert transcripts.read_transcripts(clips) == [said(waveform) for waveform in waveforms_of(clips)]


def test_what_is_done_is_not_done_again(clips, heard):
    path = transcripts.transcribe_clips(clips, MODEL, say=lambda line: None)
    before, lines = path.read_bytes(), []
    heard.clear()
    assert transcripts.transcribe_clips(clips, MODEL, say=lines.append) == path
    assert lines == ["transcribed already by openai/whisper-tiny, language en: nothing is changed"]
    assert (path.read_bytes(), heard) == (before, [])


@pytest.mark.parametrize("kept_bytes", [-1, -30, -200])
def test_a_torn_last_line_is_transcribed_again(clips, heard, kept_bytes):
    path = transcripts.transcribe_clips(clips, MODEL, say=lambda line: None)
    whole = path.read_bytes()
    num_whole = whole[:kept_bytes].count(b"\n") - 1
    assert num_whole in (4, 5)
    path.write_bytes(whole[:kept_bytes])
    heard.clear()
    lines = []
    transcripts.transcribe_clips(clips, MODEL, say=lines.append)
    assert lines == [
        "the last line was torn by a kill: its clip is transcribed again",
        f"{num_whole} recordings are transcribed already, {6 - num_whole} are left",
    ]
    assert path.read_bytes() == whole
    assert heard == [[len(waveform) for waveform in waveforms_of(clips[num_whole:6])]]


@pytest.mark.parametrize(("model", "language"), [("openai/whisper-base", "en"), (MODEL, "de")])
def test_rows_of_another_model_or_language_are_replaced(clips, heard, model, language):
    path = transcripts.transcribe_clips(clips, MODEL, say=lambda line: None)
    lines = []
    transcripts.transcribe_clips(clips, model, language=language, say=lines.append)
    assert lines == [
        "6 rows by openai/whisper-tiny, language en, are replaced: their clips are transcribed again",
    ]
    assert {tuple(row[4:]) for row in rows_of(path)[1:]} == {(model, language)}
    assert len(heard) == 2
    assert transcripts.read_transcripts(clips) == [said(waveform, model) for waveform in waveforms_of(clips)]


def test_a_model_that_cannot_be_loaded_replaces_nothing(clips, heard, monkeypatch):
    path = transcripts.transcribe_clips(clips, MODEL, say=lambda line: None)
    before = path.read_bytes()

    def fail(*arguments):
        raise UsageError("no such model")

    monkeypatch.setattr(transcripts, "load_whisper", fail)
    with pytest.raises(UsageError):
        transcripts.transcribe_clips(clips, "openai/whisper-typo")
    assert path.read_bytes() == before


def test_a_folder_is_one_model_from_wherever_it_is_named(clips, heard, tmp_path, monkeypatch):
    (tmp_path / "my-whisper").mkdir()
    monkeypatch.chdir(tmp_path)
    path = transcripts.transcribe_clips(clips, "my-whisper", say=lambda line: None)
    assert {row[4] for row in rows_of(path)[1:]} == {str(tmp_path / "my-whisper")}
    lines = []
    transcripts.transcribe_clips(clips, str(tmp_path / "my-whisper"), say=lines.append)
    assert lines[0].startswith("transcribed already")
    assert transcripts.transcript_kind(clips) == "whisper transcripts by my-whisper"


def test_languages_have_one_code():
    assert [transcripts.language_code(name) for name in ("en", "English", "DE", "german")] == ["en", "en", "de", "de"]
    with pytest.raises(UsageError, match=r"--language klingon: Whisper knows no such language; give a code such as en"):
        transcripts.language_code("klingon")


# Measuring


def test_words_are_compared_without_case_and_punctuation():
    assert transcripts.plain_words("  Kids aren’t talking –\tby the DOOR_2!") == "kids arent talking by the door 2"
    assert transcripts.plain_words("?! …") == ""
    assert transcripts.plain_words("Äh, nein!") == "äh nein"


def test_word_error_rate_is_what_it_is_by_hand():
    jiwer = pytest.importorskip("jiwer")
    scripts = ["Kids are talking by the door", "Dogs are sitting by the door", "Oh"]
    # "walking" for "talking" and no "the"; nothing; two words too many: 4 errors in 6 + 6 + 1 words.
    heard = ["kids, are walking by door.", "DOGS are sitting by the door!", "Oh my God..."]
    assert transcripts.word_error_rate(scripts, heard) == pytest.approx(4 / 13)
    assert transcripts.word_error_rate(scripts[:1], [""]) == 1.0
    assert transcripts.word_error_rate(scripts[2:], ["well I say"]) == 3.0
    exact = ["kids are talking by the door", "dogs are sitting by the door", "oh"]
    measured = jiwer.process_words(exact, ["kids are walking by door", "dogs are sitting by the door", "oh my god"])
    assert (measured.substitutions, measured.deletions, measured.insertions, measured.hits) == (1, 1, 2, 11)
    assert transcripts.word_error_rate(scripts, heard) == measured.wer
