"""The stages of a training and the refit; a run that was broken in any of them continues as an unbroken one."""

import keras
import numpy as np
import pytest
from broken import Broken, broken_after
from conftest import tiny

from emokeras import evaluate, runs
from emokeras.config import CnnConfig, Config, TrainingConfig, override, read_config, with_experiment
from emokeras.data import pipeline
from emokeras.data.audio import load_waveforms
from emokeras.data.splits import draw_split
from emokeras.errors import CorpusError, RunError
from emokeras.models import pretrained
from emokeras.recipes import RECIPES
from emokeras.training import fit
from emokeras.training.run import continue_run, make_network, train
from emokeras.training.subsets import Subset, load_subsets, with_validation
from emokeras.training.warm_start import check_branches

pytestmark = pytest.mark.usefixtures("without_graphs", "without_pictures")


# Two steps an epoch.
SMALL = {"training.batch_size": 4, "training.ema_momentum": 0.9}


def silent(line: str) -> None:
    pass


def test_a_training_without_frozen_epochs_is_one_stage():
    config = TrainingConfig(epochs=7, learning_rate=0.5)
    assert fit.stages(config, True) == [fit.Stage(0, 7, False, config)]
    # Nor is there anything to freeze where nothing is pretrained.
    frozen = TrainingConfig(epochs=7, frozen_epochs=3)
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
    return override(config, SMALL | {"training.epochs": 4, "training.frozen_epochs": 2})


@pytest.fixture
def backbone(monkeypatch):
    """Let the convolutions be the pretrained layers."""
    monkeypatch.setattr(pretrained, "BACKBONE", ("conv2d", "normalized_convolution"))  # for str.startswith


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """Return a folder for the runs that several tests use."""
    return tmp_path_factory.mktemp("shared")


def trained_once(config, corpus, folder):
    """Train in a folder unless another test has; return it. (A fixture of the module would not be patched.)"""
    if not folder.exists():
        train(config, corpus, folder, silent)
    return folder


def train_broken(config, corpus, folder, monkeypatch, epoch: int) -> None:
    """Train until a run is broken after an epoch, then continue it."""
    with monkeypatch.context() as patch:
        broken_after(epoch, patch)
        with pytest.raises(Broken):
            train(config, corpus, folder, silent)
    continue_run(folder, corpus, "", silent)


def convolutions(model) -> list[np.ndarray]:
    """Return all kernels of two dimensions; that of the first is within a layer which normalizes."""
    layers = [getattr(layer, "convolution", layer) for layer in model.layers]
    return [layer.kernel.numpy() for layer in layers if isinstance(layer, keras.layers.Conv2D)]


def kept_convolutions(folder) -> list[np.ndarray]:
    return convolutions(keras.saving.load_model(folder / "model.keras", compile=False))


def test_frozen_layers_keep_their_weights(staged, backbone, small_corpus, tmp_path):
    config = override(staged, {"training.epochs": 2})
    train(config, small_corpus, tmp_path / "run", silent)
    kernels = convolutions(make_network(read_config(tmp_path / "run" / "config.json"), is_new=False))
    assert len(kernels) == 3
    for frozen, first in zip(kept_convolutions(tmp_path / "run"), kernels, strict=True):
        np.testing.assert_array_equal(frozen, first)


@pytest.fixture
def unbroken(staged, backbone, small_corpus, shared_folder):
    """Return the folder of an unbroken run of `staged`."""
    return trained_once(staged, small_corpus, shared_folder / "unbroken")


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2, 3], ids=["frozen", "between", "unfrozen"])
def test_a_run_broken_in_any_stage_continues_as_unbroken(
    staged, backbone, unbroken, small_corpus, tmp_path, monkeypatch, epoch
):
    train_broken(staged, small_corpus, tmp_path / "broken", monkeypatch, epoch)
    assert epochs_of_same_runs(tmp_path / "broken", unbroken) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_broken_where_patience_ended_a_stage_continues_as_unbroken(
    staged, backbone, small_corpus, tmp_path, monkeypatch
):
    """The next stage begins with the moving average, which differs from the weights."""
    little = {"training.learning_rate": 1e-5, "training.unfrozen_learning_rate": 1e-5}  # Accuracy stays as it is.
    patient = {"training.frozen_epochs": 3, "training.patience_epochs": 1, "training.select_by": "val_accuracy"}
    config = override(staged, little | patient)
    train(config, small_corpus, tmp_path / "unbroken", silent)
    train_broken(config, small_corpus, tmp_path / "broken", monkeypatch, 2)
    assert epochs_of_same_runs(tmp_path / "broken", tmp_path / "unbroken") == [1, 2, 4]


@pytest.mark.slow
def test_a_broken_run_on_a_speech_encoder_continues_as_unbroken(small_corpus, whisper_model, tmp_path, monkeypatch):
    values = {"model.pretrained": str(whisper_model), "augment.num_variants": 1, "training.select_by": "last"}
    config = override(tiny(RECIPES["speech-tcn"].config), SMALL | values)
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    train(config, small_corpus, unbroken, silent)
    train_broken(config, small_corpus, broken, monkeypatch, 1)
    assert epochs_of_same_runs(broken, unbroken) == [1, 2, 3]
    for name in ("predictions.csv", "validation_predictions.csv"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes()
    weights = [keras.saving.load_model(run / "model.keras").get_weights() for run in (broken, unbroken)]
    for own, others in zip(*weights, strict=True):
        np.testing.assert_array_equal(own, others)


def epochs_of_same_runs(broken, unbroken) -> list[int]:
    """Compare the histories and weights of two runs; return their epochs."""
    found, expected = (runs.read_history(folder / "history.csv") for folder in (broken, unbroken))
    for name in ("epoch", "loss", "val_loss", "learning_rate"):
        assert [row[name] for row in found] == [row[name] for row in expected], name
    for kernel, other in zip(kept_convolutions(broken), kept_convolutions(unbroken), strict=True):
        np.testing.assert_array_equal(kernel, other)
    return [row["epoch"] for row in found]


# The refit


@pytest.fixture(scope="module")
def refitting() -> Config:
    """Return a small network of two epochs with Muon, and four more on the training and validation clips."""
    config = tiny(Config("mel-cnn3", {"spectrogram": CnnConfig()}))
    return override(config, SMALL | {"training.epochs": 2, "training.refit_epochs": 4, "training.optimizer": "muon"})


@pytest.fixture
def refit_run(refitting, small_corpus, shared_folder):
    """Return the folder of an unbroken run of `refitting`."""
    return trained_once(refitting, small_corpus, shared_folder / "refit")


def test_validation_clips_are_appended_to_the_training_clips(refitting, small_corpus, tmp_path):
    config = with_experiment(override(refitting, {"augment.num_variants": 1}), emotions=small_corpus.emotions)
    before = load_subsets(config, small_corpus, draw_split(small_corpus, config.experiment), tmp_path, silent)
    after = with_validation(before)
    assert after["train"].clips == before["train"].clips + before["validation"].clips
    assert [len(after[name].clips) for name in ("train", "validation", "test")] == [16, 0, 8]
    np.testing.assert_array_equal(
        after["train"].labels, [small_corpus.emotions.index(clip.emotion) for clip in after["train"].clips]
    )
    for waveform, own in zip(after["train"].waveforms[8:], before["validation"].waveforms, strict=True):
        np.testing.assert_array_equal(waveform, own)
    assert [len(versions) for versions in after["train"].variants] == [1] * 16


def test_a_refit_comes_after_selection_and_changes_what_is_tested_only(refitting, refit_run, small_corpus, tmp_path):
    without = override(refitting, {"training.refit_epochs": 0})
    metrics = train(without, small_corpus, tmp_path / "run", silent)
    own = runs.read_metrics(refit_run)
    assert own["validation"] == metrics["validation"]
    assert (own["best_epoch"], own["epochs_run"], own["refit_epochs"]) == (metrics["best_epoch"], 2, 4)
    refitted, selected = ((folder / "predictions.csv").read_text() for folder in (refit_run, tmp_path / "run"))
    assert refitted != selected
    histories = [runs.read_history(refit_run / part / "history.csv") for part in ("", "refit")]
    assert own["train_seconds"] == pytest.approx(sum(row["seconds"] for rows in histories for row in rows), abs=0.06)
    assert set(histories[0][0]) - set(histories[1][0]) == {"val_loss", "val_accuracy", "val_balanced_accuracy"}
    assert histories[1][0]["learning_rate"] > 100 * histories[1][-1]["learning_rate"]
    assert histories[1][-1]["learning_rate"] == pytest.approx(0.0, abs=1e-9)


def test_a_refit_begins_at_the_learning_rate_of_the_last_stage_and_has_another_seed(refitting, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(fit, "fit", lambda setup, say: begun.append(setup))
    monkeypatch.setattr(fit, "with_validation", lambda subsets: subsets)
    changes = {"frozen_epochs": 1, "unfrozen_learning_rate": 3e-5, "patience_epochs": 3}
    config = override(refitting, {f"training.{name}": value for name, value in changes.items()})
    empty = Subset([], np.array([], int), [])
    for layers, rate in (((keras.layers.Dense(1),), 3e-5), ((), config.training.learning_rate)):
        setup = fit.Setup(config, None, layers, {"train": empty, "validation": empty}, {}, tmp_path, None)
        fit.refit(setup, silent)
        training = begun[-1].config.training
        assert (training.learning_rate, training.epochs, training.patience_epochs) == (rate, 4, 0)
        assert training.warmup_epochs == pytest.approx(0.4)
        assert (training.select_by, begun[-1].pretrained, begun[-1].validation_inputs) == ("last", (), {})
        assert begun[-1].config.experiment.seed != config.experiment.seed


def test_clips_that_a_network_was_refitted_on_validate_nothing_anymore(refit_run, small_folder):
    assert {row["subset"] for row in runs.clips_used(refit_run)} == {"train", "test"}
    assert {row["subset"] for row in runs.read_split(refit_run)} == {"train", "validation", "test"}
    with pytest.raises(CorpusError, match=r"none is of its validation subset: .* another --subset: test, train$"):
        evaluate.evaluate(refit_run, corpus=str(small_folder), subset="validation", say=silent)
    scores = evaluate.evaluate(refit_run, corpus=str(small_folder), say=silent)
    assert scores["accuracy"] == runs.read_metrics(refit_run)["test"]["accuracy"]
    with pytest.raises(RunError, match=r"model\.branches: .* was refitted on the validation clips"):
        check_branches([refit_run], runs.read_metrics(refit_run)["split_sha256"])


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [2, 3, 4], ids=["before", "within", "after"])
def test_a_run_broken_around_its_refit_continues_as_unbroken(
    refitting, refit_run, small_corpus, tmp_path, monkeypatch, epoch
):
    train_broken(refitting, small_corpus, tmp_path / "broken", monkeypatch, epoch)
    for file in ("predictions.csv", "validation_predictions.csv"):
        assert (tmp_path / "broken" / file).read_text() == (refit_run / file).read_text()


# What is computed once


def test_the_features_of_each_subset_are_computed_once(refitting, small_corpus, tmp_path, monkeypatch):
    """For the statistics of the normalization, to validate, to test; and of four clips for the picture of examples."""
    computed = []
    whole = pipeline.evaluation_dataset

    def evaluation_dataset(waveforms, config, *others):
        computed.append(sorted(map(len, waveforms)))
        return whole(waveforms, config, *others)

    monkeypatch.setattr(pipeline, "evaluation_dataset", evaluation_dataset)
    config = override(refitting, {"training.epochs": 1, "training.refit_epochs": 1})
    train(config, small_corpus, tmp_path / "run", silent)
    split = draw_split(small_corpus, refitting.experiment)
    lengths = np.array([len(waveform) for waveform in load_waveforms(small_corpus.clips, 16000)])
    of_subset = {name: sorted(lengths[split.indices(name)]) for name in ("train", "validation", "test")}
    assert [samples for samples in computed if len(samples) > 4] == list(of_subset.values())
    assert [len(samples) for samples in computed if len(samples) <= 4] == [4]
