"""A pretrained body stands still at first, then learns; validation clips may train in the end; a run broken at any
point of that goes on as if whole."""

import keras
import numpy as np
import pytest
from conftest import tiny

from emokeras import evaluate, runs
from emokeras.config import CnnConfig, Config, TrainingConfig, override, read_config
from emokeras.errors import CorpusError, RunError
from emokeras.models import pretrained
from emokeras.training import callbacks, fit
from emokeras.training.branches import check_splits
from emokeras.training.subsets import take_subsets, with_validation


def test_a_training_without_frozen_epochs_is_one_stage():
    config = TrainingConfig(epochs=7, learning_rate=0.5)
    assert fit.stages(config, True) == [fit.Stage(0, 7, False, config)]
    # Nor is there anything to freeze where nothing is pretrained.
    frozen = override(Config("mel-cnn3", {"spectrogram": CnnConfig()}), {"training.frozen_epochs": 3}).training
    assert [stage.frozen for stage in fit.stages(frozen, False)] == [False]


def test_frozen_epochs_come_first_and_each_stage_has_its_own_schedule():
    config = TrainingConfig(epochs=7, frozen_epochs=3, learning_rate=0.5, unfrozen_learning_rate=0.01)
    first, second = fit.stages(config, True)
    assert (first.first_epoch, first.stop_epoch, first.frozen) == (0, 3, True)
    assert (first.training.epochs, first.training.learning_rate) == (3, 0.5)
    assert (second.first_epoch, second.stop_epoch, second.frozen) == (3, 7, False)
    assert (second.training.epochs, second.training.learning_rate) == (4, 0.01)


def test_a_training_may_end_frozen():
    (only,) = fit.stages(TrainingConfig(epochs=2, frozen_epochs=5), True)
    assert (only.first_epoch, only.stop_epoch, only.frozen) == (0, 2, True)


@pytest.fixture(scope="module")
def staged() -> Config:
    """Return a small network of four epochs, whose convolutions are frozen for the first two."""
    config = tiny(Config("mel-cnn3", {"spectrogram": CnnConfig()}))
    return override(config, {"training.epochs": 4, "training.frozen_epochs": 2, "training.ema_momentum": 0.9})


@pytest.fixture
def backbone(monkeypatch):
    """Let the convolutions count as the pretrained body."""
    monkeypatch.setattr(pretrained, "BACKBONE", ("conv2d", "normalized_convolution"))  # as str.startswith takes them


class Broken(Exception):
    """What stands for a kill."""


def broken_after(epoch: int, monkeypatch) -> None:
    whole = callbacks.Validation.on_epoch_end

    def on_epoch_end(self, number, logs=None):
        whole(self, number, logs)
        if number + 1 == epoch:
            raise Broken

    monkeypatch.setattr(callbacks.Validation, "on_epoch_end", on_epoch_end)


def convolutions(model) -> list[np.ndarray]:
    """Return all kernels of two dimensions; that of the first is within a layer which normalises."""
    layers = [getattr(layer, "convolution", layer) for layer in model.layers]
    return [layer.kernel.numpy() for layer in layers if isinstance(layer, keras.layers.Conv2D)]


def kept_convolutions(folder) -> list[np.ndarray]:
    return convolutions(keras.saving.load_model(folder / "model.keras"))


def test_frozen_layers_stay_as_they_began(staged, backbone, demo_corpus, tmp_path):
    config = override(staged, {"training.epochs": 2})
    fit.train_run(config, demo_corpus, tmp_path / "run", say=lambda line: None)
    beginning = fit.make_network(read_config(tmp_path / "run" / "config.json"), pretrained=False)
    kernels = convolutions(beginning)
    assert len(kernels) == 3
    for frozen, first in zip(kept_convolutions(tmp_path / "run"), kernels, strict=True):
        np.testing.assert_array_equal(frozen, first)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2, 3], ids=["frozen", "between", "learning"])
def test_a_run_broken_in_any_stage_goes_on(staged, backbone, demo_corpus, tmp_path, monkeypatch, epoch):
    assert len(goes_on_as_if_whole(staged, demo_corpus, tmp_path, monkeypatch, epoch)) == 4


@pytest.mark.slow
def test_a_run_broken_where_patience_ended_a_stage_goes_on(staged, backbone, demo_corpus, tmp_path, monkeypatch):
    """The next stage begins with the moving average, which differs from the weights."""
    little = {"training.learning_rate": 1e-5, "training.unfrozen_learning_rate": 1e-5}  # Accuracy stays as it is.
    patient = {"training.frozen_epochs": 3, "training.patience_epochs": 1, "training.select_by": "val_accuracy"}
    config = override(staged, little | patient)
    epochs = goes_on_as_if_whole(config, demo_corpus, tmp_path, monkeypatch, 2)
    assert epochs == [1, 2, 4]


def goes_on_as_if_whole(staged, demo_corpus, tmp_path, monkeypatch, epoch) -> list[int]:
    """Break a run after an epoch and let it go on; compare it with an unbroken one, and return the epochs of both."""
    fit.train_run(staged, demo_corpus, tmp_path / "unbroken", say=lambda line: None)
    with monkeypatch.context() as patch:
        broken_after(epoch, patch)
        with pytest.raises(Broken):
            fit.train_run(staged, demo_corpus, tmp_path / "broken", say=lambda line: None)
    fit.train_run(staged, demo_corpus, tmp_path / "broken", resume=True, say=lambda line: None)
    expected = runs.read_history(tmp_path / "unbroken" / "history.csv")
    found = runs.read_history(tmp_path / "broken" / "history.csv")
    for name in ("epoch", "loss", "val_loss", "learning_rate"):
        assert [row[name] for row in found] == [row[name] for row in expected], name
    for kernel, other in zip(
        kept_convolutions(tmp_path / "broken"), kept_convolutions(tmp_path / "unbroken"), strict=True
    ):
        np.testing.assert_array_equal(kernel, other)
    return [row["epoch"] for row in found]


@pytest.fixture(scope="module")
def refitting() -> Config:
    """Return a small network of two epochs, and four more with the validation clips."""
    config = tiny(Config("mel-cnn3", {"spectrogram": CnnConfig()}))
    return override(config, {"training.epochs": 2, "training.refit_epochs": 4, "training.ema_momentum": 0.9})


@pytest.fixture(scope="module")
def refit_run(refitting, demo_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refit") / "run"
    fit.train_run(refitting, demo_corpus, folder, say=lambda line: None)
    return folder


def test_validation_clips_train_behind_the_others(refitting, demo_corpus, tmp_path):
    config = override(refitting, {"augment.variants": ["noise"]})
    config = fit.with_experiment(config, emotions=demo_corpus.emotions)
    before = take_subsets(config, demo_corpus, tmp_path, lambda line: None)
    after = with_validation(before, config)
    assert after["train"].clips == before["train"].clips + before["validation"].clips
    assert [len(after[name].clips) for name in ("train", "validation", "test")] == [32, 0, 8]
    np.testing.assert_array_equal(
        after["train"].labels, [demo_corpus.emotions.index(clip.emotion) for clip in after["train"].clips]
    )
    for waveform, own in zip(after["train"].waveforms[24:], before["validation"].waveforms, strict=True):
        np.testing.assert_array_equal(waveform, own)
    assert [len(versions) for versions in after["train"].variants] == [1] * 32


def test_a_network_goes_on_with_its_validation_clips_after_they_have_judged_it(
    refitting, refit_run, demo_corpus, tmp_path
):
    without = override(refitting, {"training.refit_epochs": 0})
    metrics = fit.train_run(without, demo_corpus, tmp_path / "run", say=lambda line: None)
    own = runs.read_metrics(refit_run)
    assert own["validation"] == metrics["validation"]
    assert (own["best_epoch"], own["epochs_run"], own["refit_epochs"]) == (metrics["best_epoch"], 2, 4)
    said, said_before = ((folder / "predictions.csv").read_text() for folder in (refit_run, tmp_path / "run"))
    assert said != said_before
    histories = [runs.read_history(refit_run / part / "history.csv") for part in ("", "refit")]
    assert own["train_seconds"] == pytest.approx(sum(row["seconds"] for rows in histories for row in rows), abs=0.06)
    assert [set(histories[0][0]) - set(histories[1][0])] == [{"val_loss", "val_accuracy", "val_balanced_accuracy"}]

    assert histories[1][0]["learning_rate"] > 100 * histories[1][-1]["learning_rate"]
    assert histories[1][-1]["learning_rate"] == pytest.approx(0.0, abs=1e-9)


def test_a_refit_begins_at_the_rate_of_the_last_stage_and_has_a_seed_of_its_own(refitting, tmp_path, monkeypatch):
    """And it learns the emotion alone: what else is known may not be known of the validation clips."""
    begun = []
    monkeypatch.setattr(fit, "fit", lambda run, say: begun.append(run))
    monkeypatch.setattr(fit, "with_validation", lambda subsets, config: subsets)
    changes = {"frozen_epochs": 1, "unfrozen_learning_rate": 3e-5, "patience_epochs": 3, "auxiliaries": {"sex": 0.2}}
    config = override(refitting, {f"training.{name}": value for name, value in changes.items()})
    for pretrained_layers, rate in (((keras.layers.Dense(1),), 3e-5), ((), config.training.learning_rate)):
        nobody = fit.Subset([], np.array([], int), [])
        subsets = {"train": nobody, "validation": nobody}
        targets = {"emotion": np.zeros([0, 0]), "sex": np.zeros([0, 2])}
        run = fit.Prepared(config, None, pretrained_layers, subsets, targets, tmp_path, None)
        fit.refit(run, None, None, lambda line: None)
        training = begun[-1].config.training
        assert (training.learning_rate, training.epochs, training.patience_epochs) == (rate, 4, 0)
        assert training.warmup_epochs == pytest.approx(0.4)
        assert (training.select_by, set(begun[-1].targets), begun[-1].pretrained) == ("last", {"emotion"}, ())
        assert begun[-1].config.experiment.seed != config.experiment.seed


def test_what_was_heard_in_the_end_is_no_validation_any_more(refit_run, demo_folder, demo_corpus):
    assert {row["subset"] for row in runs.clips_used(refit_run)} == {"train", "test"}
    assert {row["subset"] for row in runs.read_split(refit_run)} == {"train", "validation", "test"}
    with pytest.raises(CorpusError, match=r"none is of its validation subset: .* another --subset: test, train$"):
        evaluate.evaluate(refit_run, corpus=str(demo_folder), subset="validation", say=lambda line: None)
    scores = evaluate.evaluate(refit_run, corpus=str(demo_folder), say=lambda line: None)
    assert scores["accuracy"] == runs.read_metrics(refit_run)["test"]["accuracy"]
    with pytest.raises(RunError, match=r"training\.teacher: .* has trained on the validation clips too"):
        check_splits([refit_run], runs.read_metrics(refit_run)["split_sha256"], "training.teacher")


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [2, 3, 4], ids=["before", "within", "after"])
def test_a_run_broken_about_its_refit_goes_on(refitting, refit_run, demo_corpus, tmp_path, monkeypatch, epoch):
    with monkeypatch.context() as patch:
        broken_after(epoch, patch)
        with pytest.raises(Broken):
            fit.train_run(refitting, demo_corpus, tmp_path / "broken", say=lambda line: None)
    fit.train_run(refitting, demo_corpus, tmp_path / "broken", resume=True, say=lambda line: None)
    for file in ("predictions.csv", "validation_predictions.csv"):
        assert (tmp_path / "broken" / file).read_text() == (refit_run / file).read_text()
