"""A network that starts from another begins as that one ends, on a corpus of which that one has heard no test clip."""

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY

from emokeras import evaluate, export, runs, train
from emokeras.config import ExperimentConfig, TcnConfig, override, read_config, with_experiment
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import load_corpus
from emokeras.data.demo import make_demo_corpus
from emokeras.errors import RunError, UsageError
from emokeras.models import encoders
from emokeras.models.build import build_model
from emokeras.recipes import RECIPES
from emokeras.recognizer import load_recognizer
from emokeras.training import callbacks, fit, start
from emokeras.training.subsets import split_corpus


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
    return override(RECIPES["mel-cnn2"].config, {"model.start_from": str(model)} | settings)


@pytest.mark.parametrize("source", ["trained_run", "exported"])
def test_it_begins_as_the_other_ends(source, request, demo_corpus):
    """The recipe's own body gives way to the other's, and its way of training stays."""
    config = with_experiment(start.with_start(starting(request.getfixturevalue(source))), emotions=demo_corpus.emotions)
    trained = request.getfixturevalue("trained_run")
    body = read_config(trained / "config.json").encoders["spectrogram"]
    assert config.encoders == {"spectrogram": replace(body, l2=0.0)}  # L2 and dropout are of training.
    assert config.training == RECIPES["mel-cnn2"].config.training
    network, other = fit.make_network(config, pretrained=True), keras.saving.load_model(trained / "model.keras")
    assert len(network.weights) == len(other.weights)
    for weight, expected in zip(network.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    clip = {name: np.ones((1, *value.shape[1:]), np.float32) for name, value in network.input.items()}
    np.testing.assert_allclose(network(clip)["emotion"], other(clip)["emotion"], atol=1e-6)


def test_other_emotions_are_learned_anew(trained_run, demo_corpus):
    emotions = tuple(reversed(demo_corpus.emotions))
    config = with_experiment(start.with_start(starting(trained_run)), emotions=emotions)
    network, other = fit.make_network(config, pretrained=True), keras.saving.load_model(trained_run / "model.keras")
    *body, kernel, bias = zip(network.weights, other.weights, strict=True)
    assert all(np.array_equal(weight, expected) for weight, expected in body)
    assert not np.array_equal(*kernel)
    assert not np.any(bias[0])
    frozen = start.started_layers(network, config)
    assert {layer.name for layer in network.layers} - {layer.name for layer in frozen} == {"emotion"}


def test_a_test_clip_that_it_has_heard_is_refused(trained_run, demo_corpus, other_folder):
    """Under its own split none is; under another some are; of another corpus it knows nothing."""
    config = starting(trained_run)
    own = split_corpus(demo_corpus, read_config(trained_run / "config.json").experiment)
    start.check_unheard(config, demo_corpus, own)
    random = with_experiment(config, protocol="random")
    with pytest.raises(RunError, match=r"was made with \d+ of the clips that this run would be"):
        start.check_unheard(random, demo_corpus, split_corpus(demo_corpus, random.experiment))
    other = load_corpus(other_folder)
    start.check_unheard(random, other, split_corpus(other, random.experiment))


def test_where_no_recipe_is_named_it_is_trained_as_its_start_was(exported, trained_run):
    own = read_config(trained_run / "config.json")
    found = start.config_of_start(exported)
    assert (found.recipe, found.encoders, found.training) == (own.recipe, own.encoders, own.training)
    assert found.experiment == ExperimentConfig()


def test_two_members_cannot_start_from_one_model():
    with pytest.raises(UsageError, match="two start from one model"):
        override(RECIPES["flagship"].config, {"model.start_from": "somewhere"})


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no run of one network that has ended"):
        start.with_start(starting(tmp_path))


def test_a_shipped_model_goes_on_on_another_corpus(exported, demo_folder, other_folder, tmp_path, capsys):
    """With its body frozen for all epochs, so that what it has learned is still there."""
    arguments = ["--corpus", str(other_folder), "--run-dir", str(tmp_path / "run"), "--epochs", "1"]
    settings = [f"model.start_from={exported}", "training.frozen_epochs=1", "training.batch_size=8"]
    assert train.main([*arguments, *(part for one in settings for part in ("--set", one))]) == 0
    assert runs.read_metrics(tmp_path / "run")["num_train"] == 24
    config = read_config(tmp_path / "run" / "config.json")
    assert config.spectrogram.num_bands == TINY["spectrogram.num_bands"]
    first = keras.saving.load_model(start.start_folder(Path(config.model.start_from)) / "model.keras")
    after = keras.saving.load_model(tmp_path / "run" / "model.keras")
    kernels = [[layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")] for model in (first, after)]
    *body, logits = zip(*kernels, strict=True)
    assert all(np.array_equal(*pair) for pair in body)
    assert not np.array_equal(*logits)

    # What it said of its test clips is what it says when it is served, ...
    names, _, _, _, said = runs.read_predictions(tmp_path / "run" / "predictions.csv")
    clips = {clip.name: clip for clip in load_corpus(other_folder).clips}
    waveforms = load_waveforms([clips[name] for name in names], 16000)
    np.testing.assert_allclose(load_recognizer(tmp_path / "run").predict(waveforms), said, atol=1e-5)
    # ... and of the clips that its start was made with, those that tested it are a test for this one too.
    exported_again = export.export(tmp_path / "run", tmp_path / "again", say=lambda line: None)
    subsets = [row["subset"] for row in runs.clips_used(start.start_folder(Path(config.model.start_from)))]
    for model in (tmp_path / "run", exported_again):
        assert evaluate.main([str(model), "--corpus", str(demo_folder), "--subset", "test"]) == 0
        others = len(subsets) - subsets.count("test")
        assert f"{subsets.count('test')} clips of demo; the other {others} are not scored" in capsys.readouterr().out


def test_what_a_branch_had_heard_and_how_is_not_forgotten(trained_run, demo_corpus, tmp_path):
    branch = tmp_path / "branch"
    shutil.copytree(trained_run, branch)
    heard = [{"clip": "other", "content": "1", "speaker": "7", "emotion": "sad", "subset": "train"}]
    runs.write_earlier_splits(branch, heard)
    config = read_config(branch / "config.json")
    both = override(replace(config, encoders=config.encoders | {"mfcc": TcnConfig(filters=8)}), {"training.epochs": 1})
    network = keras.saving.load_model(branch / "model.keras")
    normalization = network.get_layer("spectrogram_normalization")
    normalization.set_weights([weight + 1 for weight in normalization.get_weights()])
    network.save(branch / "model.keras")
    begun = fit.prepare(both, demo_corpus, tmp_path / "run", False, lambda line: None, [branch])
    assert runs.read_earlier_splits([tmp_path / "run"]) == heard
    # Nor by what it normalises, which may be of another corpus; the other branch does as the training clips are.
    own = begun.model.get_layer("spectrogram_normalization")
    np.testing.assert_array_equal(own.mean, np.reshape(normalization.get_weights()[0], own.mean.shape))
    assert np.ptp(begun.model.get_layer("mfcc_normalization").mean) > 1


@pytest.mark.slow
def test_a_run_that_was_broken_goes_on(exported, demo_folder, other_folder, tmp_path, monkeypatch):
    """After its first epoch: to the same history as an unbroken one, normalising as its start does."""
    arguments = ["mel-cnn3", "--corpus", str(other_folder), "--epochs", "2", "--set", "training.batch_size=8"]
    arguments += ["--set", f"model.start_from={exported}"]
    assert train.main([*arguments, "--run-dir", str(tmp_path / "whole")]) == 0
    on_epoch_end = callbacks.Validation.on_epoch_end

    def broken(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Validation, "on_epoch_end", broken)
        assert train.main([*arguments, "--run-dir", str(tmp_path / "broken")]) == 130
    assert train.main(["--resume", str(tmp_path / "broken")]) == 0
    whole, found = (runs.read_history(tmp_path / name / "history.csv") for name in ("whole", "broken"))
    for name in ("loss", "val_loss"):
        assert [row[name] for row in found] == [row[name] for row in whole]


def test_a_network_of_older_layers_can_be_started_from(trained_run, tmp_path, monkeypatch):
    """What is one layer now, a convolution and its normalisation, were two."""

    def apart(filters, kernel_size, strides, momentum, kernel_regularizer):
        convolution = keras.layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False)
        normalization = keras.layers.BatchNormalization(momentum=momentum)
        return lambda frames: normalization(convolution(frames))

    older = tmp_path / "older"
    shutil.copytree(trained_run, older)
    config = read_config(older / "config.json")
    with monkeypatch.context() as patch:
        patch.setattr(encoders, "NormalizedConvolution", apart)
        network = build_model(config)
    trained = keras.saving.load_model(older / "model.keras")
    for weight, other in zip(network.weights, trained.weights, strict=True):
        weight.assign(other)
    network.save(older / "model.keras")

    config = start.with_start(override(config, {"model.start_from": str(older)}))
    model = build_model(config)
    start.load_start(model, config)
    shape = 2, config.num_frames("spectrogram"), config.spectrogram.num_bands
    noise = np.random.default_rng(0).normal(-40, 20, shape).astype(np.float32)
    inputs = {"spectrogram": noise, "spectrogram_mask": np.ones(shape[:2], np.float32)}
    np.testing.assert_allclose(model(inputs)["emotion"], trained(inputs)["emotion"], atol=1e-4)
