"""Transcribe, from the command to transcripts.csv, with a real Whisper that is small and overfitted to six clips."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from emokeras import predict, transcribe
from emokeras.data import transcripts
from emokeras.data import whisper as recognition
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import load_corpus
from emokeras.errors import EmokerasError, UsageError


def write_corpus(folder: Path, scripts: dict[str, str]) -> Path:
    """Write the manifest: the script of each clip, "" where it is unknown."""
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker", "transcript"])
        writer.writerows([f"{name}.wav", "sad", "anna", script] for name, script in scripts.items())
    return folder


@pytest.fixture(scope="module")
def scripts(demo_corpus):
    """Return the scripts of a.wav to f.wav. g.wav is a copy of f.wav without a script."""
    return dict(zip("abcdefg", [*(clip.transcript for clip in demo_corpus.clips[:6]), ""], strict=True))


@pytest.fixture(scope="module")
def corpus(demo_corpus, scripts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "seven"
    folder.mkdir()
    for name, clip in zip("abcdef", demo_corpus.clips[:6], strict=True):
        shutil.copy(clip.path, folder / f"{name}.wav")
    shutil.copy(folder / "f.wav", folder / "g.wav")
    return write_corpus(folder, scripts)


@pytest.fixture(scope="module")
def waveforms(corpus):
    return load_waveforms(load_corpus(corpus).clips[:6], 16000)


@pytest.fixture(scope="module")
def whisper(scripts, waveforms, tmp_path_factory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("jiwer")
    from small_whisper import make_whisper

    return make_whisper(tmp_path_factory.mktemp("models") / "small-whisper", [*scripts.values()][:6], waveforms)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def english_only(whisper, tmp_path) -> Path:
    """Return the same model marked as English-only. It fails with a language token."""
    folder = tmp_path / "small-whisper.en"
    shutil.copytree(whisper, folder)
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    settings["is_multilingual"] = False
    del settings["lang_to_id"], settings["task_to_id"]
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def run(corpus: Path, model: Path | str, *arguments: str) -> int:
    return transcribe.main(["--corpus", str(corpus), "--model", str(model), *arguments])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def transcripts_of(corpus: Path) -> list[str]:
    return transcripts.read_transcripts(load_corpus(corpus).clips)


# Transcripts


def test_the_command_writes_transcripts_and_prints_a_summary(corpus, whisper, scripts, capfd):
    assert run(corpus, whisper, "--batch-size", "4") == 0
    clips = load_corpus(corpus).clips
    path = transcripts.transcripts_path(clips)
    assert [tuple(row.values()) for row in rows_of(path)] == [
        (clip.name, clip.content, scripts[clip.name], scripts[clip.name], str(whisper), "en") for clip in clips[:6]
    ]
    assert transcripts.read_transcripts(clips) == [*(scripts[name] for name in "abcdef"), scripts["f"]]
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        "  1 recording under several names, all kept, on one side of any split: f = g",
        "7 clips of seven (6 recordings), whisper transcripts by small-whisper",
        "word error rate 0.00 % against the script of 6 clips",
        "1 clip without a script and so without a word error rate: g",
        "no transcript is empty",
        str(path),
    ]
    assert err == ""  # no hints of the libraries, and progress bars on terminals only


def test_the_word_error_rate_equals_the_count_by_hand(corpus, whisper, scripts, tmp_path, capsys):
    changed = {**scripts, "g": scripts["f"]}
    num_words = sum(len(text.split()) for text in changed.values()) + 1
    changed["a"] = f"Well, {changed['a'].upper()}!"  # a deletion
    changed["b"] = " ".join(["other", *changed["b"].split()[1:]])  # a substitution
    shutil.copytree(corpus, tmp_path / "scripted")
    assert run(write_corpus(tmp_path / "scripted", changed), whisper) == 0
    assert f"word error rate {100 * 2 / num_words:.2f} % against the script of 7 clips\n" in capsys.readouterr().out


def test_a_corpus_without_scripts_has_no_word_error_rate(corpus, whisper, scripts, tmp_path, monkeypatch, capsys):
    shutil.copytree(corpus, tmp_path / "unscripted")
    load = transcripts.load_whisper

    def load_without_f(*arguments):
        transcribe_batch = load(*arguments)
        return lambda waveforms: ["" if text == scripts["f"] else text for text in transcribe_batch(waveforms)]

    monkeypatch.setattr(transcripts, "load_whisper", load_without_f)
    assert run(write_corpus(tmp_path / "unscripted", dict.fromkeys("abcdefg", "")), whisper) == 0
    assert capsys.readouterr().out.splitlines()[2:4] == [
        "7 clips without a script and so without a word error rate: a, b, c and 4 more",
        "2 clips with an empty transcript: f, g",
    ]


def test_a_multilingual_model_gets_the_language(corpus, whisper, scripts, capsys):
    assert run(corpus, whisper, "--language", "German") == 0
    assert transcripts_of(corpus)[:6] == [" ".join(reversed(scripts[name].split())) for name in "abcdef"]
    assert run(corpus, whisper) == 0
    assert transcripts_of(corpus)[:6] == [scripts[name] for name in "abcdef"]
    assert "6 rows by" in capsys.readouterr().out


def test_an_english_only_model_gets_no_language(corpus, english_only, scripts, capsys):
    assert run(corpus, english_only) == 0
    assert transcripts_of(corpus)[:6] == [scripts[name].upper() for name in "abcdef"]
    assert run(corpus, english_only, "--language", "de") == 2
    assert capsys.readouterr().err == (
        f"error: {english_only} is English-only: leave out --language, or give another with --model NAME|DIR\n"
    )


def test_a_transcript_does_not_depend_on_the_batch(whisper, waveforms, scripts):
    english = [scripts[name] for name in "abcdef"]
    for batch_size in (1, 4, 6):
        assert recognition.load_whisper(str(whisper), batch_size=batch_size)(waveforms) == english
    assert recognition.load_whisper(str(whisper))(waveforms[3:4]) == english[3:4]


def test_a_clip_longer_than_whispers_input_is_transcribed_to_its_end(whisper, waveforms, scripts):
    from small_whisper import SECONDS

    step = round(SECONDS * 16000 * 2 / 3)  # Pieces overlap by a third; the second begins here.
    assert len(waveforms[5]) + step > SECONDS * 16000 > len(waveforms[0])
    long = np.concatenate([waveforms[0], np.zeros(step, np.float32)])[:step]
    long = np.concatenate([long, waveforms[5]])
    transcribe_batch = recognition.load_whisper(str(whisper))
    assert transcribe_batch([waveforms[1], long, waveforms[2]])[::2] == [scripts["b"], scripts["c"]]
    assert transcribe_batch([long])[0].endswith(scripts["f"])
    assert scripts["f"] not in transcribe_batch([long[: SECONDS * 16000]])[0]


# Errors


def one_error_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_without_torch_the_message_has_the_extra(corpus, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "jiwer", None)
    assert run(corpus, "any") == 2
    assert one_error_line(capsys) == "error: transcribing needs torch and jiwer: run `pip install 'emokeras[asr]'`\n"


@pytest.mark.usefixtures("whisper")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "--batch-size 0: give 1 or more"),
        (["--corpus", "demo,ravdess"], "--corpus demo,ravdess: transcribe one corpus after another"),
        (["--language", "klingon"], "--language klingon: Whisper has no such language; give a code such as en"),
    ],
)
def test_wrong_arguments_are_refused(corpus, whisper, arguments, message, capsys):
    assert run(corpus, whisper, *arguments) == 2
    assert message in one_error_line(capsys)


def test_languages_have_one_code():
    assert [recognition.language_code(name) for name in ("en", "English", "DE", "german")] == ["en", "en", "de", "de"]


def test_a_language_that_the_model_does_not_know_is_refused(corpus, whisper, capsys, home):
    assert run(corpus, whisper, "--language", "fr") == 2
    assert f"{whisper} does not know the language fr: give another --language" in one_error_line(capsys)
    assert not (home / "transcripts").exists()


@pytest.mark.usefixtures("whisper")
def test_a_model_that_cannot_be_downloaded_is_a_one_line_error(corpus, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run(corpus, "nobody/no-such-whisper") == 1
    error = one_error_line(capsys)
    assert error.startswith(
        "error: nobody/no-such-whisper is not a folder and cannot be downloaded (We couldn't connect"
    )
    assert error.endswith("give a folder with a Whisper model of transformers by --model DIR\n")


def test_a_downloaded_model_is_not_downloaded_again(whisper, monkeypatch):
    calls = []

    def read(model, local_files_only):
        calls.append(local_files_only)
        if local_files_only and len(calls) == 1:
            raise OSError("not in the cache")
        return "network", "processor"

    monkeypatch.setattr(recognition, "_read_model", read)
    lines = []
    for _ in range(2):
        assert recognition._load_model("openai/whisper-tiny", lines.append) == ("network", "processor")
    assert calls == [True, False, True]
    assert lines == ["downloading openai/whisper-tiny from huggingface.co"]


def test_a_full_disk_is_not_reported_as_a_damaged_model(whisper, monkeypatch):
    def read(model, local_files_only):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recognition, "_read_model", read)
    with pytest.raises(OSError, match="No space left on device") as caught:
        recognition._load_model("openai/whisper-tiny", lambda line: None)
    assert not isinstance(caught.value, EmokerasError)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("config.json", None),
        ("config.json", b"{"),
        ("config.json", b"{}"),
        ("model.safetensors", None),
        ("model.safetensors", b"\x10"),
        ("tokenizer.json", b"{}"),
        ("preprocessor_config.json", None),
    ],
)
def test_an_incomplete_model_is_a_one_line_error(corpus, whisper, tmp_path, file, data, capsys, home):
    shutil.copytree(whisper, tmp_path / "broken")
    (tmp_path / "broken" / file).unlink()
    if data:
        (tmp_path / "broken" / file).write_bytes(data)
    assert run(corpus, tmp_path / "broken") == 1
    error = one_error_line(capsys)
    assert error.startswith(f"error: {tmp_path / 'broken'} is not a complete Whisper model (")
    assert error.endswith("--model DIR\n")
    assert not (home / "transcripts").exists()


def test_a_model_of_another_kind_is_refused(corpus, whisper, tmp_path, capsys):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path / "bert")
    assert run(corpus, tmp_path / "bert") == 1
    assert "bert is a model of the kind bert, not Whisper: give another with --model" in one_error_line(capsys)


def test_missing_weights_are_refused(corpus, whisper, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    shutil.copytree(whisper, tmp_path / "encoder")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "decoder.layers" not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, tmp_path / "encoder" / "model.safetensors", metadata={"format": "pt"})
    assert run(corpus, tmp_path / "encoder") == 1
    lacking = f"lacks {len(weights) - len(kept)} weights of Whisper: model.decoder.layers.0."
    assert lacking in one_error_line(capsys)


def test_a_missing_tokenizer_is_refused(corpus, whisper, tmp_path, capsys):
    shutil.copytree(whisper, tmp_path / "untokenized")
    (tmp_path / "untokenized" / "tokenizer.json").unlink()
    assert run(corpus, tmp_path / "untokenized") == 1
    assert "untokenized has no complete tokenizer (is tokenizer.json missing?)" in one_error_line(capsys)


def test_a_missing_corpus_is_a_one_line_error(whisper, tmp_path, capsys):
    assert run(tmp_path / "none", whisper) == 1
    assert "there is no corpus or path" in one_error_line(capsys)


def test_debug_shows_the_traceback(corpus, whisper):
    with pytest.raises(UsageError):
        run(corpus, whisper, "--language", "fr", "--debug")


# Processes


def test_help_imports_no_large_library():
    code = (
        "import sys\nfrom emokeras import transcribe\n"
        "try:\n    transcribe.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'torch', 'transformers', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "python -m emokeras.transcribe --corpus ravdess" in done.stdout
    assert "--model NAME|DIR" in done.stdout


@pytest.mark.slow
def test_a_killed_process_is_resumed(demo_folder, whisper, home):
    code = (
        "import sys\nfrom emokeras import transcribe\nstatus = transcribe.main(sys.argv[1:])\n"
        "assert 'tensorflow' not in sys.modules\nsys.exit(status)"
    )
    command = [sys.executable, "-c", code, "--corpus", str(demo_folder), "--model", str(whisper), "--batch-size", "1"]
    environment = {**os.environ, "EMOKERAS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    clips = load_corpus(demo_folder).clips
    path = transcripts.transcripts_path(clips)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (path.exists() and path.read_bytes().count(b"\n") > 5) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = path.read_bytes()
    num_done = before.count(b"\n") - 1
    assert 5 <= num_done < len(clips)

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{num_done} recordings are transcribed, {len(clips) - num_done} are left" in done.stdout
    whole = path.read_bytes()
    assert whole.startswith(before[: before.rfind(b"\n") + 1])
    assert [row["content"] for row in rows_of(path)] == [clip.content for clip in clips]
    waveforms = load_waveforms(clips, 16000)
    assert transcripts.read_transcripts(clips) == recognition.load_whisper(str(whisper))(waveforms)


# predict without transcripts


def predicted(capfd, *arguments: str) -> tuple[list[dict], str]:
    assert predict.main([*arguments, "--json"]) == 0
    out, err = capfd.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_predict_transcribes_with_whisper(text_run, corpus, whisper, scripts, capfd):
    files = [str(corpus / f"{name}.wav") for name in "ab"]
    answers, err = predicted(capfd, *files, "--model", str(text_run), "--whisper", str(whisper))
    assert f"transcripts by {whisper}" in err
    assert f"{files[0]}: {scripts['a']}" in err
    options = [part for name in "ab" for part in ("--transcript", scripts[name])]
    expected, _ = predicted(capfd, *files, *options, "--model", str(text_run))
    assert answers == expected
    assert [answer["file"] for answer in answers] == files


def test_predict_without_torch_needs_transcripts(text_run, corpus, monkeypatch, capfd):
    monkeypatch.setattr(recognition.importlib.util, "find_spec", lambda name: None)
    assert predict.main([str(corpus / "a.wav"), "--model", str(text_run)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "needs transcripts: give --transcript TEXT for each file" in err
    assert "(transcribing needs torch: run `pip install 'emokeras[asr]'`)" in err
