"""predict, export and evaluate give the same probabilities for the same sound, and refuse what they cannot use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REAL_CLIPS

from emokeras import evaluate, export, predict, recognizer, runs
from emokeras.config import override, read_config
from emokeras.data.corpora.ravdess import EMOTIONS as RAVDESS_EMOTIONS

ROOT = Path(__file__).parents[1]

WITHOUT_EMOKERAS = """
import json, sys
import soundfile, soxr
import tensorflow as tf

recognize = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answers = []
for file in sys.argv[2:]:
    samples, rate = soundfile.read(file, dtype="float32")
    answer = recognize(waveform=tf.constant(soxr.resample(samples, rate, 16000, "HQ").clip(-1, 1)[None]))
    answers.append((answer["emotion"].numpy()[0].decode(), answer["probabilities"].numpy()[0].tolist()))
assert not any(name.startswith("emokeras") for name in sys.modules)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    target = tmp_path_factory.mktemp("saved_models") / "tiny"
    assert export.main([str(trained_run), str(target)]) == 0
    return target


def predicted(files, model, capsys):
    assert predict.main([*map(str, files), "--model", str(model), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_exported_model_answers_as_predict_without_emokeras(exported, trained_run, recordings, capsys):
    answers = predicted(recordings, trained_run, capsys)
    command = [sys.executable, "-c", WITHOUT_EMOKERAS, str(exported / "1"), *map(str, recordings)]
    served = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout)
    for answer, (emotion, probabilities) in zip(answers, served, strict=True):
        assert emotion == answer["emotion"]
        np.testing.assert_allclose(probabilities, list(answer["probabilities"].values()), atol=1e-5)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_predict_answers_alike_with_run_and_export_alone_and_together(exported, trained_run, recordings, capsys):
    together = predicted(recordings, trained_run, capsys)
    for file, answer in zip(recordings, together, strict=True):
        for model in (trained_run, exported, exported / "1"):
            (alone,) = predicted([file], model, capsys)
            assert alone["file"] == str(file)
            for emotion, probability in alone["probabilities"].items():
                assert probability == pytest.approx(answer["probabilities"][emotion], abs=1e-5)


def test_evaluate_gives_the_figures_of_the_run(trained_run, exported, demo_folder, tmp_path):
    metrics = runs.read_metrics(trained_run)
    for model in (trained_run, exported):
        for subset in ("test", "validation"):
            output = tmp_path / f"{model.name}-{subset}"
            arguments = [str(model), "--corpus", str(demo_folder), "--subset", subset, "--output", str(output)]
            assert evaluate.main(arguments) == 0
            scores = runs.read_metrics(output)
            assert scores["confusion_matrix"] == metrics[subset]["confusion_matrix"]
            assert scores["cross_entropy"] == pytest.approx(metrics[subset]["cross_entropy"], abs=1e-5)


def test_evaluate_refuses_clips_that_were_heard_in_training(trained_run, demo_folder, tmp_path, capsys):
    heard = [row["clip"] for row in runs.read_split(trained_run) if row["subset"] == "train"]
    for clip in heard[:3]:  # Under another name: content is what counts.
        source = next(demo_folder.glob(f"**/{clip.split('/')[-1]}.wav"))
        target = tmp_path / "happy" / f"{source.stem[::-1]}.flac"
        target.parent.mkdir(exist_ok=True)
        soundfile.write(target, *soundfile.read(source, dtype="int16"))
    assert evaluate.main([str(trained_run), "--corpus", str(tmp_path)]) == 1
    assert "3 clips of" in (message := capsys.readouterr().err)
    assert "were heard while the model was made" in message


def test_evaluate_maps_emotions_by_name_and_tells_what_it_left_out(trained_run, recordings, tmp_path, capsys):
    for emotion, file in zip(("boredom", "happy", "sad"), recordings, strict=True):
        (tmp_path / emotion).mkdir()
        shutil.copy(file, tmp_path / emotion / "clip.wav")
    assert evaluate.main([str(trained_run), "--corpus", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "1 clips of 'boredom' are left out" in shown
    assert "2 clips of" in shown


def test_export_counts_its_versions_and_keeps_what_evaluate_needs(exported, trained_run):
    assert export.main([str(trained_run), str(exported)]) == 0
    assert sorted(folder.name for folder in exported.iterdir()) == ["1", "2"]
    extra = exported / "2" / "assets.extra"
    assert (extra / "split.csv").read_bytes() == (trained_run / "split.csv").read_bytes()
    # The corpus goes by its name: where it lay is nobody's business.
    own = override(read_config(trained_run / "config.json"), {"experiment.corpus": "demo"})
    assert read_config(extra / "config.json") == own


def test_export_that_differs_is_an_error_and_leaves_nothing(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    assert export.main([str(trained_run), str(tmp_path / "model")]) == 1
    assert "differs by" in capsys.readouterr().err
    assert list((tmp_path / "model").glob("*")) == []


def test_predict_reads_what_it_can_and_names_the_rest(trained_run, recordings, tmp_path, capsys):
    empty, text, silent, broken = (tmp_path / name for name in ("empty.wav", "text.wav", "none.wav", "nan.wav"))
    empty.touch()
    text.write_text("this is no sound")
    soundfile.write(silent, np.zeros((0, 1)), 16000)
    soundfile.write(broken, np.full(100, np.nan, np.float32), 16000, subtype="FLOAT")
    files = [empty, recordings[0], text, silent, broken, tmp_path / "missing.wav"]
    assert predict.main([*map(str, files), "--model", str(trained_run)]) == 1
    captured = capsys.readouterr()
    assert str(recordings[0]) in captured.out.replace("\n", "")
    errors = captured.err.splitlines()
    assert len(errors) == 5
    for file, error, reason in zip(
        (empty, text, silent, broken, files[-1]),
        errors,
        ("empty file", "not an audio file", "no samples", "not finite", "No such file"),
        strict=True,
    ):
        assert error.startswith(f"error: {file}")
        assert reason in error


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_predict_takes_what_libsndfile_reads(trained_run, recordings, tmp_path, capsys, suffix):
    samples, rate = soundfile.read(recordings[1])
    soundfile.write(tmp_path / f"clip.{suffix}", np.stack([samples, samples], axis=1), rate)
    wav, other = predicted([recordings[1], tmp_path / f"clip.{suffix}"], trained_run, capsys)
    tolerance = 1e-4 if suffix in ("flac", "aiff") else 0.1  # MP3 and OGG are lossy.
    for emotion, probability in other["probabilities"].items():
        assert probability == pytest.approx(wav["probabilities"][emotion], abs=tolerance)


def test_predict_without_a_model_takes_the_one_that_is_shipped(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert predict.main([str(recordings[0]), "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert f"model: {ROOT / 'saved_models' / 'ravdess'}" in printed.err
    assert set(answer["probabilities"]) == set(RAVDESS_EMOTIONS)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_shipped_model_is_small_and_has_heard_every_clip():
    folder = ROOT / "saved_models" / "ravdess" / "1"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 8e6
    config = read_config(folder / "assets.extra" / "config.json")
    assert (config.experiment.corpus, config.experiment.protocol) == ("ravdess", "all")
    split = runs.read_split(folder / "assets.extra")
    assert len(split) == 1440
    assert {row["subset"] for row in split} == {"train"}


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="needs the real clips")
def test_the_shipped_model_knows_its_own_clips(tmp_path, capsys):
    """It has heard them, so most must be right: what is checked is that it hears as it heard in training. And for that
    reason it may not be tested on them."""
    clips = sorted((REAL_CLIPS / "Actor_01").glob("*.flac"))[::6]
    answers = predicted(clips, predict.shipped_model(), capsys)
    expected = [RAVDESS_EMOTIONS[int(clip.stem.split("-")[2]) - 1] for clip in clips]
    right = sum(answer["emotion"] == emotion for answer, emotion in zip(answers, expected, strict=True))
    assert right >= 0.8 * len(clips)
    assert evaluate.main([str(predict.shipped_model()), "--corpus", str(REAL_CLIPS)]) == 1
    assert "were heard while the model was made" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wheel_brings_the_shipped_model(recordings, tmp_path):
    """Installed where no checkout is, predict finds it all the same."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--wheel-dir", str(wheels)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(site)], check=True)
    python = site / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    pip[0] = str(python)
    subprocess.run([*pip, "install", "--no-deps", "--force-reinstall", str(wheel)], check=True)
    # What it depends on is that of the environment which the tests run in.
    others = [path for path in sys.path if path.endswith("site-packages")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(others)}
    command = [str(python), "-m", "emokeras.predict", str(recordings[0])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"model: {site / 'share' / 'emokeras' / 'saved_models' / 'ravdess'}" in done.stderr


@pytest.mark.parametrize("command", [predict, evaluate, export])
def test_what_is_no_model_is_refused_in_one_line(command, tmp_path, recordings, capsys):
    arguments = [str(recordings[0]), "--model", str(tmp_path)] if command is predict else [str(tmp_path)]
    assert command.main(arguments) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {tmp_path} is no run folder and no exported model")


def test_a_transcript_for_a_model_that_does_not_read_is_refused(trained_run, recordings, capsys):
    assert predict.main([str(recordings[0]), "--transcript", "hello", "--model", str(trained_run)]) == 2
    assert "does not read what is said: leave --transcript out" in capsys.readouterr().err


def test_a_row_of_figures_cannot_predict(trained_run, tmp_path, recordings, capsys):
    for name in ("config.json", "metrics.json"):
        shutil.copy(trained_run / name, tmp_path)
    assert predict.main([str(recordings[0]), "--model", str(tmp_path)]) == 1
    assert f"{tmp_path} has figures and no network" in capsys.readouterr().err


def test_long_clips_do_not_multiply_the_memory_of_others():
    """Neighbours go together, in their order, while what is padded to the longest stays small."""
    assert recognizer._batches([3] * 20, 100) == [slice(0, 16), slice(16, 20)]
    assert recognizer._batches([3, 3, 90, 3, 3, 200, 3], 100) == [
        slice(0, 2),
        slice(2, 3),
        slice(3, 5),
        slice(5, 6),
        slice(6, 7),
    ]


def test_a_run_that_has_not_ended_cannot_predict(trained_run, tmp_path, recordings, capsys):
    shutil.copy(trained_run / "config.json", tmp_path)
    assert predict.main([str(recordings[0]), "--model", str(tmp_path)]) == 1
    assert f"--resume {tmp_path}" in capsys.readouterr().err
