"""A trained model adapted to recordings: without labels in `predict --adapt`, with labels in `emokeras.adapt`."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import tiny, tiny_arguments
from sklearn.linear_model import LogisticRegression

from emokeras import adapt, evaluate, export, predict, runs, train
from emokeras.config import SpeechConfig, with_experiment
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import load_corpus
from emokeras.data.speech import FrameStatistics, frame_statistics
from emokeras.models.build import build_model
from emokeras.recipes import RECIPES, configure
from emokeras.recognizer import adapt as without_labels
from emokeras.recognizer import load_recognizer
from emokeras.recognizer import model as recognizers
from emokeras.recognizer.model import load_networks
from emokeras.training.adapt import adapt_recognizer, clips_of, cross_validate, fit_head

# The head


def clips_in_space(seed, count, emotions=3):
    """Return embeddings of overlapping emotions and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % emotions
    centers = np.random.default_rng(9).normal(size=(emotions, 5))
    return centers[labels] + 1.5 * generator.normal(size=(count, 5)), labels


def test_a_head_from_nothing_is_the_logistic_regression_of_scikit_learn():
    embeddings, labels = clips_in_space(0, 60)
    kernel, bias = fit_head(embeddings, labels, np.zeros((5, 3)), np.zeros(3), prior_weight=2.0)
    expected = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(embeddings, labels)
    np.testing.assert_allclose(kernel.T, expected.coef_, atol=1e-3)
    np.testing.assert_allclose(bias - bias.mean(), expected.intercept_ - expected.intercept_.mean(), atol=1e-3)


def test_a_head_stays_near_to_what_it_was():
    embeddings, labels = clips_in_space(0, 60)
    before = np.random.default_rng(1).normal(size=(5, 3))
    near, _ = fit_head(embeddings, labels, before, np.zeros(3), prior_weight=1e6)
    np.testing.assert_allclose(near, before, atol=1e-3)
    moved = [
        np.abs(fit_head(embeddings, labels, before, np.zeros(3), weight)[0] - before).max() for weight in (100, 10, 1)
    ]
    assert moved == sorted(moved)


def test_clips_are_no_evidence_against_emotions_that_they_do_not_have():
    embeddings, labels = clips_in_space(0, 60)
    before, bias = np.random.default_rng(1).normal(size=(5, 4)), np.arange(4.0)
    kernel, fitted = fit_head(embeddings, labels + 1, before, bias)
    np.testing.assert_array_equal(kernel[:, 0], before[:, 0])
    assert fitted[0] == bias[0]
    assert np.abs(kernel[:, 1:] - before[:, 1:]).min() > 0


# A model with a speech encoder


@pytest.fixture(scope="module")
def speech_run(tmp_path_factory, demo_folder, whisper_model):
    """Return the folder of a run of speech-tcn with a tiny Whisper."""
    folder = tmp_path_factory.mktemp("speech") / "run"
    arguments = ["speech-tcn", "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments("speech-tcn")]
    arguments += ["--set", f"model.pretrained={whisper_model}", "--set", "augment.num_variants=0"]
    assert train.main([*arguments, "--epochs", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(speech_run, tmp_path_factory):
    target = tmp_path_factory.mktemp("saved") / "speech"
    assert export.main([str(speech_run), str(target)]) == 0
    return target


@pytest.fixture
def without_whisper(monkeypatch):
    """The speech encoder is in the export: its folder is needed no more."""

    def missing(config):
        raise AssertionError("an export needs no other file")

    monkeypatch.setattr(recognizers, "load_speech_encoder", missing)


def loud_and_dull(corpus) -> list[np.ndarray]:
    """Return recordings over another channel."""
    kernel = np.array([0.25, 0.5, 0.25], np.float32)
    return [np.convolve(waveform, kernel) for waveform in load_waveforms(corpus.clips[:6], 16000)]


@pytest.mark.usefixtures("without_whisper")
def test_the_networks_of_an_export_give_its_answers(exported, demo_corpus):
    recordings = loud_and_dull(demo_corpus)
    expected = load_recognizer(exported).predict(recordings)
    np.testing.assert_allclose(load_networks(exported).predict(recordings), expected, atol=1e-5)


def test_the_normalization_is_moved_to_the_recordings_the_more_of_them_there_are(speech_run):
    network = load_networks(speech_run).members[0].network
    trained = network.get_layer("speech_normalization")
    units = trained.adapt_mean.shape[0]
    frames = np.random.default_rng(0).normal(3.0, 2.0, size=(250, units)).astype(np.float16)
    assert 250 * SpeechConfig.hop_seconds == without_labels.PRIOR_SECONDS
    adapted = without_labels.with_statistics(network, frame_statistics([frames])).get_layer("speech_normalization")
    expected = (trained.adapt_mean.numpy() + frames.astype(np.float64).mean(axis=0)) / 2
    np.testing.assert_allclose(adapted.adapt_mean, expected, rtol=1e-3)
    longer = without_labels.with_statistics(network, frame_statistics([frames] * 1000))
    longer = longer.get_layer("speech_normalization")
    np.testing.assert_allclose(np.mean(longer(frames[np.newaxis]), axis=(0, 1)), 0.0, atol=0.01)
    np.testing.assert_allclose(np.std(longer(frames[np.newaxis]), axis=(0, 1)), 1.0, atol=0.01)


def test_the_other_branches_of_a_network_keep_their_normalization():
    """With the statistics that it has already, a network gives what it gave."""
    values = {"model.pretrained": "DIR", "speech.layers": [-1], "speech.units": 12}
    config = configure(tiny(RECIPES["mel-cnn3"].config), values | {"encoders.speech.filters": 4})
    network = build_model(with_experiment(config, emotions=("happy", "sad")))
    generator = np.random.default_rng(0)
    inputs = {
        tensor.name: generator.normal(50.0, 20.0, (2, *tensor.shape[1:])).astype(np.float32)
        for tensor in network.inputs
    }
    for name in ("spectrogram", "speech"):
        inputs[f"{name}_mask"] = np.ones_like(inputs[f"{name}_mask"])
        network.get_layer(f"{name}_normalization").adapt(inputs[name])
    layer = network.get_layer("speech_normalization")
    same = FrameStatistics(1000, layer.adapt_mean.numpy(), layer.adapt_variance.numpy())
    adapted = without_labels.with_statistics(network, same)
    np.testing.assert_allclose(adapted(inputs)["emotion"], network(inputs)["emotion"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("without_whisper")
def test_recordings_are_adapted_to_by_folder_and_without_labels(exported, demo_corpus, tmp_path, capsys):
    """Each folder has the answers that it has alone, in the order that was given."""
    import soundfile

    for number, waveform in enumerate(loud_and_dull(demo_corpus)):
        folder = tmp_path / f"speaker{number % 2}" / f"session{number}"
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{number}.wav", waveform, 16000)
    soundfile.write(tmp_path / "speaker1" / "silence.wav", np.zeros(16000), 16000)
    folders = [tmp_path / "speaker0", tmp_path / "speaker1"]
    plain, _ = predict.predict(folders, exported)
    together, problems = predict.predict(folders, exported, adapt=True)
    assert not problems
    assert [row["file"] for row in together] == [row["file"] for row in plain]
    for folder in folders:
        alone, _ = predict.predict([folder], exported, adapt=True)
        assert alone == [row for row in together if str(folder) in row["file"]]
    pairs = list(zip(plain, together, strict=True))
    silent = [two for _, two in pairs if "silence" in two["file"]]
    assert [row["emotion"] for row in silent] == [None]
    assert all(one["probabilities"] != two["probabilities"] for one, two in pairs if "silence" not in two["file"])


@pytest.fixture(scope="module")
def mine(tmp_path_factory, demo_corpus):
    """Return a corpus of folders: speakers with two emotions, one of which the model does not have."""
    import soundfile

    root = tmp_path_factory.mktemp("mine") / "mine"
    waveforms = load_waveforms(demo_corpus.clips, 16000)
    names = {"angry": "angry", "fearful": "angry", "sad": "boredom", "calm": "boredom"}
    for number, (clip, waveform) in enumerate(zip(demo_corpus.clips, waveforms, strict=True)):
        if clip.emotion in names:
            folder = root / clip.speaker / names[clip.emotion]
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"{number}.wav", 0.5 * waveform, 16000)
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("without_whisper")
def test_an_export_is_adapted_to_labelled_clips_and_exported(exported, mine, tmp_path, capsys):
    target = tmp_path / "adapted"
    assert adapt.main([str(exported), "--target", str(target), "--corpus", str(mine)]) == 0
    lines = capsys.readouterr().out
    assert "by cross-validation over speakers" in lines
    recognizer = load_recognizer(target)
    assert recognizer.emotions == (*load_recognizer(exported).emotions, "boredom")
    corpus = load_corpus(mine, 16000)
    bored = recognizer.predict(load_waveforms(corpus.clips, 16000))[:, -1]
    of_bored = np.array([clip.emotion == "boredom" for clip in corpus.clips])
    assert bored[of_bored].mean() > bored[~of_bored].mean()

    # Whom it was trained on is known: its own clips are no test, and neither are those of the model before.
    assert {clip.content for clip in corpus.clips} <= {row["content"] for row in recognizer.clips_used}
    assert {row["content"] for row in load_recognizer(exported).clips_used} <= {
        row["content"] for row in recognizer.clips_used
    }
    assert evaluate.main([str(target), "--corpus", str(mine)]) == 1
    assert "train" in capsys.readouterr().err

    # It can be adapted again, and does not grow. Its own clips are no test of that either.
    assert adapt.main([str(target), "--target", str(tmp_path / "again"), "--corpus", str(mine)]) == 0
    lines = capsys.readouterr().out
    assert f"{len(corpus.clips)} of the clips were used to make the model" in lines
    assert "UA" not in lines
    sizes = [(folder / "1" / "saved_model.pb").stat().st_size for folder in (exported, target, tmp_path / "again")]
    assert max(sizes) < 1.1 * min(sizes)


def test_the_clips_that_are_adapted_to_are_not_tested(speech_run, mine):
    """Each answer of the cross-validation is that of a network that was adapted to the clips of other speakers."""
    recognizer = load_networks(speech_run)
    corpus = load_corpus(mine, 16000)
    clips = clips_of(recognizer, corpus)
    _, after, unit = cross_validate(recognizer, clips)
    assert unit == "speakers"
    speakers = np.array([clip.speaker for clip in clips.clips])
    assert len(set(speakers)) <= 5  # so that each fold is one speaker
    out = speakers == speakers[0]
    others = adapt_recognizer(recognizer, clips.take(np.flatnonzero(~out)))
    expected = others.predict([load_waveforms(corpus.clips, 16000)[number] for number in np.flatnonzero(out)])
    np.testing.assert_allclose(after[out], expected, atol=1e-3)


# Without a speech encoder


@pytest.mark.slow
def test_a_network_on_mel_bands_is_adapted_to_labelled_clips(trained_run, mine, tmp_path, capsys):
    assert adapt.main([str(trained_run), "--target", str(tmp_path / "adapted"), "--corpus", str(mine)]) == 0
    assert "boredom" in load_recognizer(tmp_path / "adapted").emotions
    extra = tmp_path / "adapted" / "1" / "assets.extra"
    adapted, before = (
        keras.saving.load_model(folder / "model.keras", compile=False) for folder in (extra, trained_run)
    )
    for own, other in zip(adapted.layers, before.layers, strict=True):
        if own.name != "emotion":
            for weight, earlier in zip(own.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(weight, earlier)


# Refusals


def refusal(capsys, command, *arguments) -> str:
    assert command.main([str(argument) for argument in arguments]) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    return line


def test_what_cannot_be_adapted_is_refused_in_one_line(trained_run, text_run, mine, tmp_path, recordings, capsys):
    line = refusal(capsys, predict, recordings[0], "--model", trained_run, "--adapt")
    assert "only a model with a speech encoder adapts without labels" in line
    assert "takes transcripts" in refusal(capsys, adapt, text_run, "--target", tmp_path / "one", "--corpus", mine)
    one_emotion = tmp_path / "mine"
    shutil.copytree(next(Path(mine).glob("*/angry")).parent / "angry", one_emotion / "01" / "angry")
    line = refusal(capsys, adapt, trained_run, "--target", tmp_path / "one", "--corpus", one_emotion)
    assert "two emotions at least" in line
    assert not (tmp_path / "one").exists()
    (tmp_path / "empty").mkdir()
    assert "without an audio file" in refusal(capsys, predict, tmp_path / "empty", "--model", trained_run)


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_an_ensemble_is_refused(trained_run, mfcc_run, mine, tmp_path, capsys):
    from emokeras import ensemble

    together = tmp_path / "together"
    assert ensemble.main([str(trained_run), str(mfcc_run), "--run-dir", str(together)]) == 0
    assert "an ensemble cannot be adapted" in refusal(
        capsys, adapt, together, "--target", tmp_path / "out", "--corpus", mine
    )
    assert export.main([str(together), str(tmp_path / "exported")]) == 0
    line = refusal(capsys, adapt, tmp_path / "exported", "--target", tmp_path / "out", "--corpus", mine)
    assert "give an export of one network, or a run" in line


@pytest.mark.slow
def test_a_corpus_of_one_speaker_is_cross_validated_over_clips(trained_run, mine, tmp_path, capsys):
    one = tmp_path / "one"
    shutil.copytree(next(Path(mine).iterdir()), one)
    assert adapt.main([str(trained_run), "--target", str(tmp_path / "adapted"), "--corpus", str(one)]) == 0
    lines = capsys.readouterr().out
    assert "by cross-validation over clips" in lines
    assert "give each speaker a folder" in lines
    assert runs.read_split(tmp_path / "adapted" / "1" / "assets.extra")


def test_an_emotion_that_one_speaker_has_is_never_the_answer_of_networks_without_it(trained_run, mine, tmp_path):
    """Folds are of speakers: the network that answers for the one with boredom has no clip of it."""
    some = tmp_path / "some"
    for number, speaker in enumerate(sorted(Path(mine).iterdir())[:3]):
        shutil.copytree(speaker / "angry", some / speaker.name / "angry")
        shutil.copytree(speaker / "boredom", some / speaker.name / ("boredom" if number == 0 else "contempt"))
    recognizer = load_networks(trained_run)
    clips = clips_of(recognizer, load_corpus(some, 16000))
    _, after, _ = cross_validate(recognizer, clips)
    emotions = recognizer.emotions
    assert after.shape[1] == len(emotions) + 2
    first = np.array([clip.speaker == clips.clips[0].speaker for clip in clips.clips])
    assert after[first, len(emotions)].max() == 0
    np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-5)
