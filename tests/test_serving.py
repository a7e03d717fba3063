"""Serving: `predict`, `evaluate` and `export` compute the same probabilities, and refuse what they cannot use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import tensorflow as tf
from conftest import REAL_CLIPS
from sounds import noise, syllables

from emokeras import evaluate, export, predict, runs
from emokeras.config import override, read_config
from emokeras.data.audio import load_waveform
from emokeras.data.corpora.ravdess import EMOTIONS as RAVDESS_EMOTIONS
from emokeras.errors import UsageError
from emokeras.models.late import with_temperature
from emokeras.recognizer import export as recognizer_export
from emokeras.recognizer import load_recognizer

ROOT = Path(__file__).parents[1]

QUALITY = {"speech_seconds", "snr_decibels", "bandwidth_hz", "clipped_share"}

WITHOUT_EMOKERAS = """
import json, sys
import soundfile, soxr
import tensorflow as tf

predict = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answers = []
for file in sys.argv[2:]:
    samples, rate = soundfile.read(file, dtype="float32")
    answer = predict(waveform=tf.constant(soxr.resample(samples, rate, 16000, "HQ").clip(-1, 1)[None]))
    answers.append({name: value.numpy().tolist()[0] for name, value in answer.items()})
    answers[-1]["emotion"] = answers[-1]["emotion"].decode()
assert not any(name.startswith("emokeras") for name in sys.modules)
print(json.dumps(answers))
"""

# Probabilities of the shipped models for clips of the demo corpus, computed when they were exported.
SHIPPED_PROBABILITIES = {
    "speech": {
        "Actor_01/03-01-01-01-01-01-01": (0.247545, 0.016642, 0.439629, 0.103225, 0.072168, 0.115984, 0.004807),
        "Actor_02/03-01-07-01-01-01-02": (0.148234, 0.040531, 0.166614, 0.245995, 0.146660, 0.224266, 0.027701),
        "Actor_04/03-01-05-01-01-01-04": (0.112622, 0.089061, 0.080467, 0.444930, 0.230333, 0.028422, 0.014163),
    },
    "small": {
        "Actor_01/03-01-01-01-01-01-01": (0.289221, 0.088402, 0.369991, 0.035217, 0.065750, 0.079742, 0.071676),
        "Actor_02/03-01-07-01-01-01-02": (0.289568, 0.135053, 0.179554, 0.062896, 0.116800, 0.100158, 0.115971),
        "Actor_04/03-01-05-01-01-01-04": (0.334577, 0.236177, 0.069728, 0.136852, 0.087625, 0.047676, 0.087364),
    },
}


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """Return the folder of the versions of an export, made by the command."""
    target = tmp_path_factory.mktemp("saved_models") / "tiny"
    assert export.main([str(trained_run), str(target)]) == 0
    return target


def predicted(files, model, capsys) -> list[dict]:
    """Return the answers of the command."""
    assert predict.main([*map(str, files), "--model", str(model), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# The same probabilities everywhere


def test_an_export_computes_without_emokeras_what_predict_computes(exported, trained_run, recordings, capsys):
    answers = predicted(recordings, trained_run, capsys)
    command = [sys.executable, "-c", WITHOUT_EMOKERAS, str(exported / "1"), *map(str, recordings)]
    served = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout)
    for answer, own in zip(answers, served, strict=True):
        assert own["emotion"] == answer["emotion"]
        np.testing.assert_allclose(own["probabilities"], list(answer["probabilities"].values()), atol=1e-5)
        assert sum(own["probabilities"]) == pytest.approx(1, abs=1e-5)
        for name in QUALITY:
            assert own[name] == pytest.approx(answer[name], rel=1e-3), name


def test_run_and_export_agree_for_clips_alone_and_in_a_batch(exported, trained_run, recordings, capsys):
    answers = predicted(recordings, trained_run, capsys)
    assert [answer["file"] for answer in answers] == [str(file) for file in recordings]
    expected = [list(answer["probabilities"].values()) for answer in answers]
    waveforms = [load_waveform(file, 16000) for file in recordings]
    for folder in (trained_run, exported, exported / "1"):
        model = load_recognizer(folder)
        np.testing.assert_allclose(model.predict(waveforms), expected, atol=1e-5)
        for waveform, row in zip(waveforms, expected, strict=True):
            np.testing.assert_allclose(model.predict([waveform]), [row], atol=1e-5)


# evaluate


def test_evaluate_computes_the_metrics_of_the_run(trained_run, exported, demo_folder, tmp_path):
    metrics = runs.read_metrics(trained_run)
    for model in (trained_run, exported):
        for subset in ("test", "validation"):
            output = tmp_path / f"{model.name}-{subset}"
            arguments = [str(model), "--corpus", str(demo_folder), "--subset", subset, "--output", str(output)]
            assert evaluate.main(arguments) == 0
            scores = runs.read_metrics(output)
            assert scores["confusion_matrix"] == metrics[subset]["confusion_matrix"]
            assert scores["cross_entropy"] == pytest.approx(metrics[subset]["cross_entropy"], abs=1e-5)


def test_evaluate_refuses_training_clips_by_content(trained_run, demo_folder, tmp_path, capsys):
    train = [row["clip"] for row in runs.read_split(trained_run) if row["subset"] == "train"]
    for clip in train[:3]:  # as other files in another format
        source = next(demo_folder.glob(f"**/{clip.split('/')[-1]}.wav"))
        target = tmp_path / "happy" / f"{source.stem[::-1]}.flac"
        target.parent.mkdir(exist_ok=True)
        soundfile.write(target, *soundfile.read(source, dtype="int16"))
    assert evaluate.main([str(trained_run), "--corpus", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "3 clips of" in message
    assert "were used to train or select the model" in message


def test_evaluate_matches_emotions_by_name_and_leaves_out_the_others(trained_run, recordings, tmp_path, capsys):
    for emotion, file in zip(("boredom", "happy", "sad"), recordings, strict=True):
        (tmp_path / emotion).mkdir()
        shutil.copy(file, tmp_path / emotion / "clip.wav")
    assert evaluate.main([str(trained_run), "--corpus", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "1 clips of 'boredom' are left out" in printed
    assert "2 clips of" in printed


# export


def test_each_export_is_a_new_version_with_split_and_configuration(exported, trained_run):
    assert export.main([str(trained_run), str(exported)]) == 0
    assert sorted(folder.name for folder in exported.iterdir()) == ["1", "2"]
    extra = exported / "2" / "assets.extra"
    assert (extra / "split.csv").read_bytes() == (trained_run / "split.csv").read_bytes()
    # The corpus has its name in place of its folder, which is private.
    own = override(read_config(trained_run / "config.json"), {"experiment.corpora": ["demo"]})
    assert read_config(extra / "config.json") == own


def test_an_export_that_differs_is_an_error_and_leaves_nothing(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recognizer_export, "TOLERANCE", -1.0)
    assert export.main([str(trained_run), str(tmp_path / "model")]) == 1
    assert "differs by" in capsys.readouterr().err
    assert list((tmp_path / "model").glob("*")) == []


# predict


def test_predict_answers_for_readable_files_and_names_the_others(trained_run, recordings, tmp_path, capsys):
    empty, text, silent, broken = (tmp_path / name for name in ("empty.wav", "text.wav", "none.wav", "nan.wav"))
    empty.touch()
    text.write_text("not audio")
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


def test_predict_reads_the_formats_of_libsndfile(trained_run, recordings, tmp_path, capsys):
    samples, rate = soundfile.read(recordings[1])
    tolerances = {"flac": 1e-4, "aiff": 1e-4, "ogg": 0.1, "mp3": 0.1}  # OGG and MP3 are lossy.
    files = [tmp_path / f"clip.{suffix}" for suffix in tolerances]
    for file in files:
        soundfile.write(file, np.stack([samples, samples], axis=1), rate)
    wav, *others = predicted([recordings[1], *files], trained_run, capsys)
    for other, tolerance in zip(others, tolerances.values(), strict=True):
        assert other["probabilities"] == pytest.approx(wav["probabilities"], abs=tolerance), other["file"]


def write_pcm(path: Path, waveform: np.ndarray, rate: int = 16000) -> Path:
    soundfile.write(path, waveform, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def without_speech(tmp_path_factory):
    """Return files that have none: silence, an offset, 10 ms of a voice, steady noise."""
    folder = tmp_path_factory.mktemp("without-speech")
    sounds = {
        "silence": np.zeros(32000),
        "offset": np.full(32000, 0.3),
        "10 ms": syllables(0.01),
        "noise": noise(48000),
        "last bit": np.random.default_rng(0).integers(-1, 2, 48000) / 32768,
    }
    return [write_pcm(folder / f"{name}.wav", waveform) for name, waveform in sounds.items()]


@pytest.mark.parametrize("is_exported", [False, True], ids=["run", "export"])
def test_without_speech_there_is_no_emotion_but_a_remark(
    exported, trained_run, recordings, without_speech, is_exported, capsys
):
    model = exported if is_exported else trained_run
    *silent, spoken = predicted([*without_speech, recordings[1]], model, capsys)
    for answer, file in zip(silent, without_speech, strict=True):
        assert answer == {
            "file": str(file),
            "emotion": None,
            "probabilities": None,
            "remark": "no speech found",
            **dict.fromkeys(QUALITY, 0.0),
        }
    assert spoken["emotion"] in spoken["probabilities"]
    assert spoken["speech_seconds"] > 2
    assert predict.main([str(without_speech[0]), "--model", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "none" in printed
    assert f"{without_speech[0]}: no speech found" in printed


def test_remarks_say_why_to_doubt_an_answer(trained_run, tmp_path, capsys):
    clip = syllables(2.0, silence_seconds=0.5)
    narrow = scipy.signal.sosfilt(scipy.signal.butter(8, [300, 3400], "bandpass", fs=16000, output="sos"), clip)
    clips = {
        "good": clip + noise(len(clip), 1e-3),
        "short": syllables(0.3, silence_seconds=0.5),
        "clipped": np.clip(8 * clip, -0.999, 0.999),
        "noisy": clip + noise(len(clip), 2 * np.std(clip)),
        "band-limited": narrow,
    }
    files = [write_pcm(tmp_path / f"{name}.wav", waveform) for name, waveform in clips.items()]
    remarks = [answer["remark"] for answer in predicted(files, trained_run, capsys)]
    assert remarks[0] == ""
    for remark, beginning in zip(remarks[1:], ("only 0.3 s", "clipped: ", "noisy: ", "band-limited: "), strict=True):
        assert remark.startswith(beginning)


# Long recordings


def repeated(waveform: np.ndarray, seconds: float) -> np.ndarray:
    return np.resize(waveform, round(16000 * seconds))


@pytest.mark.parametrize("minutes", [1, 5])
def test_a_long_recording_is_answered_by_what_most_of_it_is(trained_run, demo_folder, tmp_path, minutes, capsys):
    """Not by 2.7 s at its beginning, middle and end."""
    files = sorted(demo_folder.glob("**/*.wav"))
    model = load_recognizer(trained_run)
    clips = [load_waveform(file, 16000) for file in files]
    probabilities = model.predict(clips)
    order = np.log(np.sort(probabilities, axis=1))
    sure = int((order[:, -1] - order[:, -2]).argmax())
    other = next(number for number, row in enumerate(probabilities) if row.argmax() != probabilities[sure].argmax())
    whole, part = repeated(clips[sure], 60.0 * minutes), repeated(clips[other], 2.7)
    mixed = whole.copy()
    for first in (0, (len(whole) - len(part)) // 2, len(whole) - len(part)):
        mixed[first : first + len(part)] = part
    kinds = {"whole": whole, "part": part, "mixed": mixed}
    answers = predicted([write_pcm(tmp_path / f"{name}.wav", kinds[name]) for name in kinds], trained_run, capsys)
    whole, part, mixed = (answer["emotion"] for answer in answers)
    assert mixed == whole != part
    assert answers[2]["speech_seconds"] == pytest.approx(answers[0]["speech_seconds"], rel=0.2)


def test_a_long_recording_that_breaks_off_is_named_and_not_answered(trained_run, recordings, tmp_path, capsys):
    """Although its first blocks could be."""
    broken = repeated(syllables(2.0), 130.0)
    broken[-1] = np.nan
    soundfile.write(tmp_path / "broken.wav", broken, 16000, subtype="FLOAT")
    files = [recordings[0], tmp_path / "broken.wav", recordings[1]]
    assert predict.main([*map(str, files), "--model", str(trained_run), "--json"]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [str(files[0]), str(files[2])]
    assert printed.err.startswith(f"error: {files[1]} has 1 samples that are not finite")


PEAK_MEGABYTES = """
import resource, sys
from emokeras import predict
assert predict.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_the_memory_of_predict_does_not_grow_with_the_length(trained_run, tmp_path):
    minute = repeated(np.concatenate([syllables(3.0, 44100, seed=seed) for seed in range(5)]), 60 * 44100 / 16000)
    peaks = []
    for minutes in (1, 20):
        file = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(file, "w", 44100, 2, "PCM_16") as target:
            for _ in range(minutes):
                target.write(np.stack([minute, minute], axis=1))
        command = [sys.executable, "-c", PEAK_MEGABYTES, str(file), "--model", str(trained_run)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        peaks.append(float(done.stdout.splitlines()[-1]))
    assert abs(peaks[1] - peaks[0]) < 300


def test_transcripts_for_a_model_that_takes_none_are_refused(trained_run, recordings, capsys):
    assert predict.main([str(recordings[0]), "--transcript", "hello", "--model", str(trained_run)]) == 2
    assert f"{trained_run} takes no transcripts: leave out --transcript" in capsys.readouterr().err


def test_a_model_of_audio_without_files_is_refused(trained_run):
    with pytest.raises(UsageError, match="needs audio files"):
        predict.predict([], trained_run)
    with pytest.raises(UsageError, match="this model needs audio"):
        load_recognizer(trained_run).predict(transcripts=["hello"])


@pytest.mark.parametrize("command", [predict, evaluate, export])
def test_a_folder_without_a_model_is_refused_in_one_line(command, tmp_path, recordings, capsys):
    arguments = [str(recordings[0]), "--model", str(tmp_path)] if command is predict else [str(tmp_path)]
    assert command.main(arguments) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {tmp_path} is no run folder and no exported model")


def test_a_row_under_results_cannot_predict(trained_run, tmp_path, recordings, capsys):
    for name in ("config.json", "metrics.json"):
        shutil.copy(trained_run / name, tmp_path)
    assert predict.main([str(recordings[0]), "--model", str(tmp_path)]) == 1
    assert f"{tmp_path} has metrics but no network" in capsys.readouterr().err


def test_a_run_that_has_not_ended_cannot_predict(trained_run, tmp_path, recordings, capsys):
    shutil.copy(trained_run / "config.json", tmp_path)
    assert predict.main([str(recordings[0]), "--model", str(tmp_path)]) == 1
    assert f"--resume {tmp_path}" in capsys.readouterr().err


# The shipped model


@pytest.mark.parametrize("name", runs.SHIPPED)
def test_a_shipped_model_keeps_its_probabilities(name, demo_folder):
    model, expected = load_recognizer(runs.find_model(name)), SHIPPED_PROBABILITIES[name]
    assert model.emotions == ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    waveforms = [load_waveform(demo_folder / f"{clip}.wav", model.sample_rate_hz) for clip in expected]
    np.testing.assert_allclose(model.predict(waveforms), list(expected.values()), rtol=0, atol=1e-4)


def test_predict_takes_the_first_shipped_model_by_default_and_others_by_name(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert predict.main([str(recordings[0]), "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert f"model: {ROOT / 'saved_models' / 'speech'}" in printed.err
    assert "weights: CC BY-NC-SA 4.0, not for commercial use" in printed.err
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert set(answer) == {"file", "emotion", "probabilities", "remark", *QUALITY}
    assert predict.main([str(recordings[0]), "--json", "--model", "small"]) == 0
    assert json.loads(capsys.readouterr().out)["probabilities"] != answer["probabilities"]


def test_an_export_of_an_earlier_version_answers_and_measures_nothing(exported, recordings, tmp_path, capsys):
    """It has the earlier trimming in its configuration, and no other outputs; there is nothing to remark."""
    now = load_recognizer(exported)

    class Earlier(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "waveform")])
        def serve(self, waveform):
            row = tf.nn.softmax(tf.range(len(now.emotions), dtype=tf.float32))
            probabilities = tf.repeat(row[tf.newaxis], tf.shape(waveform)[0], axis=0)
            emotion = tf.fill([tf.shape(waveform)[0]], now.emotions[-1])
            return {"probabilities": probabilities, "emotion": emotion}

    model = Earlier()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.serve})
    shutil.copytree(exported / "1" / "assets.extra", tmp_path / "1" / "assets.extra")
    config = tmp_path / "1" / "assets.extra" / "config.json"
    settings = json.loads(config.read_text())
    settings["audio"] |= {"trim_decibels": settings["audio"].pop("speech_decibels"), "num_windows": 3}
    del settings["audio"]["window_step_seconds"]
    config.write_text(json.dumps(settings))
    for answer in predicted(recordings, tmp_path, capsys):
        assert set(answer) == {"file", "emotion", "probabilities", "remark"}
        assert answer["emotion"] == now.emotions[-1]
        assert answer["remark"] == ""


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="needs the clips of RAVDESS")
@pytest.mark.parametrize("name", runs.SHIPPED)
def test_a_shipped_model_recognizes_its_training_clips_and_cannot_be_tested_on_them(name, capsys):
    """Most must be right: serving computes the features of training."""
    clips = sorted((REAL_CLIPS / "Actor_01").glob("*.flac"))[::6]
    answers = predicted(clips, name, capsys)
    emotions = [RAVDESS_EMOTIONS[int(clip.stem.split("-")[2]) - 1] for clip in clips]
    expected = ["neutral" if emotion == "calm" else emotion for emotion in emotions]
    num_correct = sum(answer["emotion"] == emotion for answer, emotion in zip(answers, expected, strict=True))
    assert num_correct >= 0.7 * len(clips)
    assert evaluate.main([str(runs.find_model(name)), "--corpus", str(REAL_CLIPS / "Actor_01")]) == 1
    assert "were used to train or select the model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wheel_contains_the_shipped_models(recordings, tmp_path):
    """`predict` finds it where there is no checkout."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--wheel-dir", str(wheels)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(site)], check=True)
    python = site / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    pip[0] = str(python)
    subprocess.run([*pip, "install", "--no-deps", "--force-reinstall", str(wheel)], check=True)
    # Dependencies come from the environment of the tests.
    others = [path for path in sys.path if path.endswith("site-packages")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(others)}
    command = [str(python), "-m", "emokeras.predict", str(recordings[0])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"model: {site / 'share' / 'emokeras' / 'saved_models' / 'speech'}" in done.stderr
    assert (site / "share" / "emokeras" / "saved_models" / "small" / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_an_export_is_calibrated_on_the_test_predictions_of_runs(trained_run, mfcc_run, recordings, tmp_path, capsys):
    target = tmp_path / "calibrated"
    assert export.main([str(trained_run), str(target), "--calibrate-on", str(trained_run), str(mfcc_run)]) == 0
    calibration = json.loads((target / "1" / "assets.extra" / "calibration.json").read_text())
    temperature = calibration["temperature"]
    assert temperature != 1
    waveforms = [load_waveform(file, 16000) for file in recordings]
    plain, calibrated = (load_recognizer(model).predict(waveforms) for model in (trained_run, target))
    np.testing.assert_allclose(calibrated, with_temperature(plain, temperature), atol=1e-5)
    other = tmp_path / "other"
    shutil.copytree(mfcc_run, other)
    text = (other / "predictions.csv").read_text().replace("surprised", "boredom")
    (other / "predictions.csv").write_text(text)
    capsys.readouterr()
    assert export.main([str(trained_run), str(target), "--calibrate-on", str(other)]) == 1
    assert "has other emotions than the model: calibrate on runs with the same ones" in capsys.readouterr().err
    assert [folder.name for folder in target.iterdir()] == ["1"]
