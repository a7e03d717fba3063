"""Fine-tuning: a network starts with the weights of a trained one, on clips that do not leak from its training."""

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from broken import broken_after
from conftest import TINY

from emokeras import evaluate, export, runs, train
from emokeras.config import TcnConfig, override, read_config, with_experiment
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import load_corpus
from emokeras.data.demo import make_demo_corpus
from emokeras.data.splits import UNUSED, draw_split
from emokeras.errors import RunError
from emokeras.models import encoders
from emokeras.models.build import build_model
from emokeras.recipes import RECIPES
from emokeras.recognizer import load_recognizer
from emokeras.training import run
from emokeras.training.resolve import start_folder, with_start
from emokeras.training.warm_start import check_start, load_start, started_layers


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """Return a corpus of other speakers and sentences."""
    folder = tmp_path_factory.mktemp("other") / "demo"
    make_demo_corpus(folder, num_speakers=5, takes=1, seed=7)
    return folder


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    return export.export(trained_run, tmp_path_factory.mktemp("exports") / "mel-cnn3", say=lambda line: None).parent


def starting(model, **settings):
    """Return the configuration of mel-cnn2 that starts from a model."""
    return override(RECIPES["mel-cnn2"].config, {"model.start_from": str(model)} | settings)


@pytest.mark.parametrize("source", ["trained_run", "exported"])
def test_the_network_starts_with_the_weights_of_the_trained_one(source, request, demo_corpus):
    config = with_experiment(with_start(starting(request.getfixturevalue(source))), emotions=demo_corpus.emotions)
    trained = request.getfixturevalue("trained_run")
    network, other = (
        run.make_network(config, is_new=True),
        keras.saving.load_model(trained / "model.keras", compile=False),
    )
    assert len(network.weights) == len(other.weights)
    for weight, expected in zip(network.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    clip = {name: np.ones((1, *value.shape[1:]), np.float32) for name, value in network.input.items()}
    np.testing.assert_allclose(network(clip)["emotion"], other(clip)["emotion"], atol=1e-6)


def test_with_other_emotions_the_logits_start_from_random_weights(trained_run, demo_corpus):
    emotions = tuple(reversed(demo_corpus.emotions))
    config = with_experiment(with_start(starting(trained_run)), emotions=emotions)
    network, other = (
        run.make_network(config, is_new=True),
        keras.saving.load_model(trained_run / "model.keras", compile=False),
    )
    *encoder, kernel, bias = zip(network.weights, other.weights, strict=True)
    assert all(np.array_equal(weight, expected) for weight, expected in encoder)
    assert not np.array_equal(*kernel)
    assert not np.any(bias[0])
    frozen = started_layers(network, config)
    assert {layer.name for layer in network.layers} - {layer.name for layer in frozen} == {"emotion"}


def test_a_test_clip_that_the_trained_network_was_made_with_is_refused(trained_run, demo_corpus, other_folder):
    config = starting(trained_run)
    check_start(config, demo_corpus, draw_split(demo_corpus, read_config(trained_run / "config.json").experiment))
    random = with_experiment(config, protocol="random")
    with pytest.raises(RunError, match=r"was made with \d+ of the clips that this run would be"):
        check_start(random, demo_corpus, draw_split(demo_corpus, random.experiment))
    other = load_corpus(other_folder)
    check_start(random, other, draw_split(other, random.experiment))
    # Clips that a run leaves unused may have made it.
    own = draw_split(demo_corpus, random.experiment)
    check_start(config, demo_corpus, replace(own, subsets=np.full(len(own.subsets), UNUSED)))


def test_an_export_is_fine_tuned_on_another_corpus(exported, demo_folder, other_folder, tmp_path, capsys):
    """With its encoder frozen for all epochs, so that its weights can be compared."""
    arguments = ["--corpus", str(other_folder), "--run-dir", str(tmp_path / "run"), "--epochs", "1"]
    settings = [f"model.start_from={exported}", "training.frozen_epochs=1", "training.batch_size=8"]
    assert train.main([*arguments, *(part for one in settings for part in ("--set", one))]) == 0
    assert runs.read_metrics(tmp_path / "run")["num_train"] == 24
    config = read_config(tmp_path / "run" / "config.json")
    assert config.spectrogram.num_bands == TINY["spectrogram.num_bands"]
    first = keras.saving.load_model(start_folder(Path(config.model.start_from)) / "model.keras", compile=False)
    after = keras.saving.load_model(tmp_path / "run" / "model.keras", compile=False)
    kernels = [[layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")] for model in (first, after)]
    *encoder, logits = zip(*kernels, strict=True)
    assert all(np.array_equal(*pair) for pair in encoder)
    assert not np.array_equal(*logits)

    # Its predictions for the test clips are those that it gives when served, ...
    names, _, _, _, expected = runs.read_predictions(tmp_path / "run" / "predictions.csv")
    clips = {clip.name: clip for clip in load_corpus(other_folder).clips}
    waveforms = load_waveforms([clips[name] for name in names], 16000)
    np.testing.assert_allclose(load_recognizer(tmp_path / "run").predict(waveforms), expected, atol=1e-5)
    # ... and the test clips of the model that it started from can test it too.
    exported_again = export.export(tmp_path / "run", tmp_path / "again", say=lambda line: None)
    subsets = [row["subset"] for row in runs.clips_used(start_folder(Path(config.model.start_from)))]
    for model in (tmp_path / "run", exported_again):
        assert evaluate.main([str(model), "--corpus", str(demo_folder), "--subset", "test"]) == 0
        others = len(subsets) - subsets.count("test")
        assert f"{subsets.count('test')} clips of demo; the other {others} are not scored" in capsys.readouterr().out


def test_a_branch_keeps_its_earlier_clips_and_its_normalization(trained_run, demo_corpus, tmp_path, monkeypatch):
    branch = tmp_path / "branch"
    shutil.copytree(trained_run, branch)
    earlier = [{"clip": "other", "content": "1", "speaker": "7", "emotion": "sad", "subset": "train"}]
    runs.write_earlier_splits(branch, earlier)
    config = read_config(branch / "config.json")
    both = replace(config, encoders=config.encoders | {"mfcc": TcnConfig(filters=8)})
    both = override(both, {"model.branches": [str(branch)]})
    network = keras.saving.load_model(branch / "model.keras", compile=False)
    normalization = network.get_layer("spectrogram_normalization")
    normalization.set_weights([weight + 1 for weight in normalization.get_weights()])
    network.save(branch / "model.keras")
    monkeypatch.setattr(run, "fit", lambda *arguments: None)
    begun = run.train_unscored(both, demo_corpus, tmp_path / "run", stop_epoch=1)
    assert runs.read_earlier_splits([tmp_path / "run"]) == earlier
    # The statistics of a trained branch may be of another corpus; those of a new one are of the training clips.
    own = begun.model.get_layer("spectrogram_normalization")
    np.testing.assert_array_equal(own.mean, np.reshape(normalization.get_weights()[0], own.mean.shape))
    assert np.ptp(begun.model.get_layer("mfcc_normalization").mean) > 1


@pytest.mark.slow
def test_an_interrupted_fine_tuning_continues_to_the_same_history(exported, other_folder, tmp_path, monkeypatch):
    arguments = ["mel-cnn3", "--corpus", str(other_folder), "--epochs", "2", "--set", "training.batch_size=8"]
    arguments += ["--set", f"model.start_from={exported}"]
    assert train.main([*arguments, "--run-dir", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        broken_after(1, patch, KeyboardInterrupt)
        assert train.main([*arguments, "--run-dir", str(tmp_path / "interrupted")]) == 130
    assert train.main(["--resume", str(tmp_path / "interrupted")]) == 0
    whole, found = (runs.read_history(tmp_path / name / "history.csv") for name in ("whole", "interrupted"))
    for name in ("loss", "val_loss"):
        assert [row[name] for row in found] == [row[name] for row in whole]


def test_a_network_of_older_layers_can_be_started_from(trained_run, tmp_path, monkeypatch):
    """A convolution and its normalization are one layer now; they were two."""

    def two_layers(filters, kernel_size, strides, momentum, kernel_regularizer):
        convolution = keras.layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False)
        normalization = keras.layers.BatchNormalization(momentum=momentum)
        return lambda frames: normalization(convolution(frames))

    older = tmp_path / "older"
    shutil.copytree(trained_run, older)
    config = read_config(older / "config.json")
    with monkeypatch.context() as patch:
        patch.setattr(encoders, "NormalizedConvolution", two_layers)
        network = build_model(config)
    trained = keras.saving.load_model(older / "model.keras", compile=False)
    for weight, other in zip(network.weights, trained.weights, strict=True):
        weight.assign(other)
    network.save(older / "model.keras")

    config = with_start(override(config, {"model.start_from": str(older)}))
    model = build_model(config)
    load_start(model, config)
    shape = 2, config.num_frames("spectrogram"), config.spectrogram.num_bands
    noise = np.random.default_rng(0).normal(-40, 20, shape).astype(np.float32)
    inputs = {"spectrogram": noise, "spectrogram_mask": np.ones(shape[:2], np.float32)}
    np.testing.assert_allclose(model(inputs)["emotion"], trained(inputs)["emotion"], atol=1e-4)
