"""Transcribe: a real Whisper, small and taught six clips on the spot, from the command to transcripts.csv."""

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
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import load_corpus
from emokeras.errors import EmokerasError, UsageError

SECONDS = 4  # What the small Whisper hears at once; the six clips are shorter.
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|notimestamps|>",
)


def write_corpus(folder: Path, scripts: dict[str, str]) -> Path:
    """Write the manifest: each clip's script, "" where it is not known."""
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker", "transcript"])
        writer.writerows([f"{name}.wav", "sad", "anna", script] for name, script in scripts.items())
    return folder


@pytest.fixture(scope="module")
def scripts(demo_corpus):
    """Return what is said in a.wav to f.wav; g.wav is a copy of f.wav, and its script is not known."""
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
    """Return the folder of a Whisper that knows six clips: in English their words, in German the words backwards.

    Asked as an English-only model it says them in capitals.
    """
    torch = pytest.importorskip("torch")
    pytest.importorskip("jiwer")
    from tokenizers import ByteLevelBPETokenizer
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    folder = tmp_path_factory.mktemp("models") / "small-whisper"
    folder.mkdir()
    said = [scripts[name] for name in "abcdef"]
    texts = {
        ("<|en|>", "<|transcribe|>"): said,
        ("<|de|>", "<|transcribe|>"): [" ".join(reversed(text.split())) for text in said],
        (): [text.upper() for text in said],
    }
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(
        [text for answers in texts.values() for text in answers], vocab_size=500, show_progress=False
    )
    vocabulary = json.loads(pieces.to_str())["model"]["vocab"]
    merges = [tuple(pair) for pair in json.loads(pieces.to_str())["model"]["merges"]]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges)  # without a pad_token
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    code = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}

    torch.set_num_threads(1)  # Several wait for each other where a machine is busy, and this is small.
    torch.manual_seed(0)
    end, start = code["<|endoftext|>"], code["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=20,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=50 * SECONDS,
        max_target_positions=100,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    network = WhisperForConditionalGeneration(config)
    generation = network.generation_config
    generation._from_model_config = False
    generation.is_multilingual = True
    generation.lang_to_id = {token: code[token] for token in ("<|en|>", "<|de|>")}
    generation.task_to_id = {"translate": code["<|translate|>"], "transcribe": code["<|transcribe|>"]}
    generation.no_timestamps_token_id = code["<|notimestamps|>"]

    extractor = WhisperFeatureExtractor(feature_size=20, chunk_length=SECONDS)
    features = extractor(waveforms, sampling_rate=16000, return_tensors="pt").input_features
    rows, labels = [], []
    for prompt, answers in texts.items():
        head = [start, *(code[token] for token in prompt), code["<|notimestamps|>"]]
        for answer in answers:
            body = [*tokenizer.encode(f" {answer}", add_special_tokens=False), end]
            rows.append(head + body)
            labels.append([-100] * (len(head) - 1) + body)
    longest = max(map(len, rows))
    inputs = torch.tensor([row + [end] * (longest - len(row)) for row in rows])[:, :-1]
    targets = torch.tensor([label + [-100] * (longest - 1 - len(label)) for label in labels])
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(300):
        states = network.get_encoder()(features).last_hidden_state.repeat(len(texts), 1, 1)
        logits = network(encoder_outputs=(states,), decoder_input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets)
        if loss < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02, "the small Whisper has not learnt its clips"
    network.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOKERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def english_only(whisper, tmp_path) -> Path:
    """Return the same model, said to be English-only: it fails when it is told a language."""
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


# What is heard


def test_the_command_writes_what_whisper_hears(corpus, whisper, scripts, capfd):
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
        "1 clip without a script, so without a word error rate: g",
        "no transcript is empty",
        str(path),
    ]
    assert err == ""  # Neither hints of the libraries nor bars, which are for terminals.


def test_the_word_error_rate_is_what_it_is_by_hand(corpus, whisper, scripts, tmp_path, capsys):
    said = {**scripts, "g": scripts["f"]}
    num_words = sum(len(text.split()) for text in said.values()) + 1
    said["a"] = f"Well, {said['a'].upper()}!"  # one word that is not heard
    said["b"] = " ".join(["other", *said["b"].split()[1:]])  # one word that is heard as another
    shutil.copytree(corpus, tmp_path / "scripted")
    assert run(write_corpus(tmp_path / "scripted", said), whisper) == 0
    assert f"word error rate {100 * 2 / num_words:.2f} % against the script of 7 clips\n" in capsys.readouterr().out


def test_a_corpus_without_scripts_has_no_word_error_rate(corpus, whisper, scripts, tmp_path, monkeypatch, capsys):
    shutil.copytree(corpus, tmp_path / "mute")
    load = transcripts.load_whisper

    def load_hard_of_hearing(*arguments):
        recognise = load(*arguments)
        return lambda waveforms: ["" if text == scripts["f"] else text for text in recognise(waveforms)]

    monkeypatch.setattr(transcripts, "load_whisper", load_hard_of_hearing)
    assert run(write_corpus(tmp_path / "mute", dict.fromkeys("abcdefg", "")), whisper) == 0
    assert capsys.readouterr().out.splitlines()[2:4] == [
        "7 clips without a script, so without a word error rate: a, b, c and 4 more",
        "2 clips with an empty transcript: f, g",
    ]


def test_a_multilingual_model_is_told_the_language(corpus, whisper, scripts, capsys):
    assert run(corpus, whisper, "--language", "German") == 0
    assert transcripts_of(corpus)[:6] == [" ".join(reversed(scripts[name].split())) for name in "abcdef"]
    assert run(corpus, whisper) == 0
    assert transcripts_of(corpus)[:6] == [scripts[name] for name in "abcdef"]
    assert "6 rows by" in capsys.readouterr().out


def test_an_english_only_model_is_told_none(corpus, english_only, scripts, capsys):
    assert run(corpus, english_only) == 0
    assert transcripts_of(corpus)[:6] == [scripts[name].upper() for name in "abcdef"]
    assert run(corpus, english_only, "--language", "de") == 2
    assert capsys.readouterr().err == (
        f"error: {english_only} has no choice of languages, as English-only models: leave out --language\n"
    )


def test_a_clip_is_heard_the_same_in_any_company(whisper, waveforms, scripts):
    said = [scripts[name] for name in "abcdef"]
    for batch_size in (1, 4, 6):
        assert transcripts.load_whisper(str(whisper), batch_size=batch_size)(waveforms) == said
    assert transcripts.load_whisper(str(whisper))(waveforms[3:4]) == said[3:4]


def test_a_clip_longer_than_whisper_hears_at_once_is_heard_to_its_end(whisper, waveforms, scripts):
    step = round(SECONDS * 16000 * 2 / 3)  # Pieces overlap by a third: the second begins here.
    assert len(waveforms[5]) + step > SECONDS * 16000 > len(waveforms[0])
    long = np.concatenate([waveforms[0], np.zeros(step, np.float32)])[:step]
    long = np.concatenate([long, waveforms[5]])
    recognise = transcripts.load_whisper(str(whisper))
    assert recognise([waveforms[1], long, waveforms[2]])[::2] == [scripts["b"], scripts["c"]]
    assert recognise([long])[0].endswith(scripts["f"])
    assert scripts["f"] not in recognise([long[: SECONDS * 16000]])[0]


# What goes wrong


def one_error_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_without_torch_the_extra_is_named(corpus, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "jiwer", None)
    assert run(corpus, "any") == 2
    assert one_error_line(capsys) == "error: transcribing needs torch and jiwer: run `pip install 'emokeras[asr]'`\n"


@pytest.mark.usefixtures("whisper")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch-size", "0"], "--batch-size 0: a batch is of 1 clip or more"),
        (["--language", "klingon"], "--language klingon: Whisper knows no such language"),
    ],
)
def test_arguments_that_are_wrong(corpus, whisper, arguments, said, capsys):
    assert run(corpus, whisper, *arguments) == 2
    assert said in one_error_line(capsys)


def test_a_language_that_the_model_does_not_know(corpus, whisper, capsys, home):
    assert run(corpus, whisper, "--language", "fr") == 2
    assert f"{whisper} does not know the language fr: give another --language" in one_error_line(capsys)
    assert not (home / "transcripts").exists()


@pytest.mark.usefixtures("whisper")
def test_a_model_that_cannot_be_fetched(corpus, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run(corpus, "nobody/no-such-whisper") == 1
    error = one_error_line(capsys)
    assert error.startswith(
        "error: nobody/no-such-whisper is no folder here and cannot be fetched (We couldn't connect"
    )
    assert error.endswith("give a folder that holds a Whisper model of transformers with --model DIR\n")


def test_what_was_fetched_before_is_not_asked_for_again(whisper, monkeypatch):
    asked = []

    def read(model, local_files_only):
        asked.append(local_files_only)
        if local_files_only and len(asked) == 1:
            raise OSError("not in the cache")
        return "network", "processor"

    monkeypatch.setattr(transcripts, "_read_model", read)
    lines = []
    for _ in range(2):
        assert transcripts._load_model("openai/whisper-tiny", lines.append) == ("network", "processor")
    assert asked == [True, False, True]
    assert lines == ["fetching openai/whisper-tiny from huggingface.co"]


def test_a_full_disk_is_no_fault_of_the_model(whisper, monkeypatch):
    def read(model, local_files_only):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transcripts, "_read_model", read)
    with pytest.raises(OSError, match="No space left on device") as caught:
        transcripts._load_model("openai/whisper-tiny", lambda line: None)
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
def test_a_folder_that_is_no_whole_model(corpus, whisper, tmp_path, file, data, capsys, home):
    shutil.copytree(whisper, tmp_path / "broken")
    (tmp_path / "broken" / file).unlink()
    if data:
        (tmp_path / "broken" / file).write_bytes(data)
    assert run(corpus, tmp_path / "broken") == 1
    error = one_error_line(capsys)
    assert error.startswith(f"error: {tmp_path / 'broken'} holds no whole Whisper model (")
    assert error.endswith("--model DIR\n")
    assert not (home / "transcripts").exists()


def test_a_model_of_another_kind(corpus, whisper, tmp_path, capsys):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path / "bert")
    assert run(corpus, tmp_path / "bert") == 1
    assert "bert is no Whisper but a model of the kind bert: give another with --model" in one_error_line(capsys)


def test_weights_that_are_not_there_are_not_drawn_at_random(corpus, whisper, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    shutil.copytree(whisper, tmp_path / "encoder")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "decoder.layers" not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, tmp_path / "encoder" / "model.safetensors", metadata={"format": "pt"})
    assert run(corpus, tmp_path / "encoder") == 1
    lacking = f"lacks {len(weights) - len(kept)} weights of a Whisper that transcribes: model.decoder.layers.0."
    assert lacking in one_error_line(capsys)


def test_a_tokenizer_that_is_not_there_is_not_an_empty_one(corpus, whisper, tmp_path, capsys):
    shutil.copytree(whisper, tmp_path / "speechless")
    (tmp_path / "speechless" / "tokenizer.json").unlink()
    assert run(corpus, tmp_path / "speechless") == 1
    assert "speechless has no tokenizer that spells what it hears (it lacks tokenizer.json?)" in one_error_line(capsys)


def test_a_corpus_that_is_not_there(whisper, tmp_path, capsys):
    assert run(tmp_path / "none", whisper) == 1
    assert "there is no corpus or path" in one_error_line(capsys)


def test_debug_shows_the_traceback(corpus, whisper):
    with pytest.raises(UsageError):
        run(corpus, whisper, "--language", "fr", "--debug")


# The process


def test_help_answers_without_tensorflow():
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
    assert f"{num_done} recordings are transcribed already, {len(clips) - num_done} are left" in done.stdout
    whole = path.read_bytes()
    assert whole.startswith(before[: before.rfind(b"\n") + 1])
    assert [row["content"] for row in rows_of(path)] == [clip.content for clip in clips]
    waveforms = load_waveforms(clips, 16000)
    assert transcripts.read_transcripts(clips) == transcripts.load_whisper(str(whisper))(waveforms)


# What predict does where no transcript is given


def predicted(capfd, *arguments: str) -> tuple[list[dict], str]:
    assert predict.main([*arguments, "--json"]) == 0
    out, err = capfd.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_a_missing_transcript_is_written_by_whisper(text_run, corpus, whisper, scripts, capfd):
    files = [str(corpus / f"{name}.wav") for name in "ab"]
    answers, err = predicted(capfd, *files, "--model", str(text_run), "--whisper", str(whisper))
    assert f"transcripts by {whisper}" in err
    assert f"{files[0]}: {scripts['a']}" in err
    given = [part for name in "ab" for part in ("--transcript", scripts[name])]
    expected, _ = predicted(capfd, *files, *given, "--model", str(text_run))
    assert answers == expected
    assert [answer["file"] for answer in answers] == files


def test_without_a_recogniser_a_missing_transcript_is_refused(text_run, corpus, monkeypatch, capfd):
    monkeypatch.setattr(transcripts.importlib.util, "find_spec", lambda name: None)
    assert predict.main([str(corpus / "a.wav"), "--model", str(text_run)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "needs transcripts: give --transcript TEXT for each file" in err
    assert "(transcribing needs torch: run `pip install 'emokeras[asr]'`)" in err
