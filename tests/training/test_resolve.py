"""A configuration, as asked for, becomes the whole configuration that is trained; nothing is written or trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from emokeras import hub, runs
from emokeras.config import (
    EnsembleConfig,
    ExperimentConfig,
    SpeechConfig,
    ensemble_of,
    override,
    to_json,
    with_experiment,
)
from emokeras.errors import UsageError
from emokeras.files import write_text
from emokeras.recipes import RECIPES
from emokeras.training.resolve import config_of_start, read_resolved, resolve

CNN = RECIPES["mel-cnn3"].config
TCN = RECIPES["mfcc-tcn"].config
EARLY = RECIPES["early-mel-mfcc"].config


def run_of(folder: Path, config, **metrics) -> Path:
    """Leave what `resolve` reads of a run that has ended."""
    folder.mkdir(parents=True)
    write_text(folder / "config.json", to_json(config))
    runs.write_json(folder / "metrics.json", {"recipe": config.recipe, "corpus": "demo"} | metrics)
    for name in ("predictions.csv", "validation_predictions.csv", "model.keras"):
        (folder / name).touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def refusal(config, corpus, folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(config, corpus, folder)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of a run that is not there yet; check that nothing has been written around it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "runs" / "mine"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["mel-cnn3", "text-bigru", "flagship", "early-mel-mfcc", "hybrid-mel-mfcc-text", "weighted-mel-mfcc"]
)
def test_resolving_writes_nothing_and_is_done_once(name, demo_corpus, tmp_path, home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path), contents(home)
    resolved = resolve(RECIPES[name].config, demo_corpus, tmp_path / "run")
    assert (contents(tmp_path), contents(home)) == before
    assert resolve(resolved.config, demo_corpus, tmp_path / "run").config == resolved.config
    networks = [*resolved.config.networks.values(), *resolved.members.values()]
    assert all(network.experiment.emotions == demo_corpus.emotions for network in networks)
    if isinstance(resolved.config, EnsembleConfig):
        assert resolved.members == resolved.config.members
    else:
        assert set(resolved.members) == set(resolved.config.model.branches)
    assert not resolved.notes


def test_what_is_not_taken_from_elsewhere_stays_as_asked_for(demo_corpus, folder):
    asked = override(CNN, {"training.epochs": 7, "encoder.l2": 0.5, "experiment.seed": 3})
    assert resolve(asked, demo_corpus, folder).config == with_experiment(asked, emotions=demo_corpus.emotions)


def test_paths_become_absolute_and_names_stay(demo_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.h5").touch()
    run_of(tmp_path / "branch", override(TCN, {"experiment.protocol": "random"}))
    config = override(EARLY, {"model.branches": ["branch", "mel-resnet"], "model.weights": "weights.h5"})
    model = resolve(config, demo_corpus, tmp_path / "run").config.model
    assert model.weights == str(tmp_path / "weights.h5")
    assert model.branches == (str(tmp_path / "branch"), "mel-resnet")
    config = override(CNN, {"model.weights": "imagenet"})
    assert resolve(config, demo_corpus, tmp_path / "run").config.model.weights == "imagenet"


# Pretrained weights


def test_the_sizes_of_a_bert_are_those_of_its_weights(demo_corpus, tmp_path, monkeypatch):
    (tmp_path / "bert").mkdir()
    sizes = {"vocabulary_size": 50, "num_positions": 24, "units": 8, "num_heads": 2, "num_blocks": 1}
    monkeypatch.setattr(hub, "bert_sizes", {str(tmp_path / "bert"): sizes}.get)
    config = override(RECIPES["text-bert"].config, {"model.weights": str(tmp_path / "bert")})
    encoder = resolve(config, demo_corpus, tmp_path / "run").config.encoders["tokens"]
    assert encoder == replace(config.encoders["tokens"], **sizes)


def test_a_speech_branch_has_what_is_read_from_its_encoder(demo_corpus, tmp_path, monkeypatch):
    found = {"family": "wav2vec2", "units": 12, "sha256": "12ab"}
    monkeypatch.setattr(hub, "speech_settings", {"some/encoder": found}.get)
    values = {"model.pretrained": "some/encoder", "speech.layers": [1, 2], "speech.sha256": "of another"}
    config = override(RECIPES["speech-tcn"].config, values)
    resolved = resolve(config, demo_corpus, tmp_path / "run").config
    assert resolved.speech == SpeechConfig(layers=(1, 2), **found)
    assert not resolved.takes_waveform
    # A network without the branch does not need the encoder.
    config = override(CNN, {"model.pretrained": "none/such"})
    assert resolve(config, demo_corpus, tmp_path / "run").config.speech == SpeechConfig()


# A model to start from


def test_the_network_is_that_of_the_model_to_start_from_and_the_training_its_own(demo_corpus, tmp_path):
    trained = override(
        CNN, {"spectrogram.num_bands": 20, "encoder.filters": [4], "model.hidden_units": 8, "training.epochs": 3}
    )
    start = run_of(tmp_path / "start", with_experiment(trained, protocol="luna", seed=5))
    asked = override(RECIPES["mfcc-cnn2"].config, {"model.start_from": str(start), "model.dropout": 0.45})
    config = resolve(asked, demo_corpus, tmp_path / "run").config
    assert (config.encoders, config.spectrogram, config.audio) == (trained.encoders, trained.spectrogram, trained.audio)
    assert (config.model.hidden_units, config.model.dropout, config.model.start_from) == ((8,), 0.45, str(start))
    assert (config.training, config.augment, config.recipe) == (asked.training, asked.augment, "mfcc-cnn2")
    assert config.experiment == replace(asked.experiment, emotions=demo_corpus.emotions)
    # Dropout and L2 of an encoder concern training.
    asked = override(CNN, {"model.start_from": str(start), "encoder.dropout": 0.35, "encoder.l2": 0.25})
    encoder = resolve(asked, demo_corpus, tmp_path / "run").config.encoders["spectrogram"]
    assert (encoder.filters, encoder.dropout, encoder.l2) == ((4,), 0.35, 0.25)


def test_an_export_can_be_started_from(demo_corpus, tmp_path):
    run_of(tmp_path / "export" / "12" / "assets.extra", override(CNN, {"encoder.filters": [4]}))
    run_of(tmp_path / "export" / "9" / "assets.extra", CNN)
    for version in ("12", "9"):
        (tmp_path / "export" / version / "saved_model.pb").touch()
    asked = override(CNN, {"model.start_from": str(tmp_path / "export")})
    assert resolve(asked, demo_corpus, tmp_path / "run").config.encoders["spectrogram"].filters == (4,)


def test_without_a_recipe_the_training_is_that_of_the_model_to_start_from(tmp_path):
    trained = override(CNN, {"training.epochs": 3, "experiment.seed": 5, "model.weights": "imagenet"})
    config = config_of_start(run_of(tmp_path / "start", trained))
    assert config == replace(override(trained, {"model.weights": ""}), experiment=ExperimentConfig())


def test_a_folder_without_one_network_cannot_be_started_from(demo_corpus, folder):
    asked = override(CNN, {"model.start_from": str(folder.parent)})
    assert "is no run of one network that has ended, and no export of one" in refusal(asked, demo_corpus, folder)


# Branches to start from


@pytest.fixture
def branch_run(tmp_path):
    """Return a run of mfcc-tcn with other features, another encoder and another pooling than early-mel-mfcc has."""
    values = {"mfcc.num_coefficients": 13, "encoder.filters": 16, "model.pooling": "max", "training.epochs": 3}
    return run_of(tmp_path / "branch", override(TCN, values))


def test_a_branch_is_that_of_its_run(branch_run, demo_corpus, tmp_path):
    asked = override(EARLY, {"model.branches": [str(branch_run), "mel-resnet"], "encoders.mfcc.embedding_units": 5})
    resolved = resolve(asked, demo_corpus, tmp_path / "run")
    encoder = resolved.config.encoders["mfcc"]
    assert (encoder.filters, encoder.pooling, encoder.embedding_units) == (16, "max", 5)
    assert resolved.config.mfcc.num_coefficients == 13
    assert (resolved.config.training, resolved.config.encoders["spectrogram"]) == (
        asked.training,
        asked.encoders["spectrogram"],
    )
    paths = "encoders.mfcc.filters, encoders.mfcc.pooling, mfcc.num_coefficients"
    (note,) = resolved.notes
    assert note.startswith("settings taken from the trained branches instead of those given: ")
    assert sorted(note.split(": ")[1].split(", ")) == paths.split(", ")
    # What is trained first is the recipe, on the same split.
    (member,) = resolved.members.values()
    assert member == with_experiment(
        replace(RECIPES["mel-resnet"].config, experiment=asked.experiment), emotions=demo_corpus.emotions
    )


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        (["nowhere"], "nowhere is no run that has ended, and no recipe"),
        (["flagship"], "flagship is an ensemble: give runs of single networks"),
        (["mfcc-tcn", "mfcc-delta-tcn"], "mfcc-delta-tcn has a mfcc branch, mfcc-tcn has one too"),
        (["prosody-tcn"], "prosody-tcn has a prosody branch, this network has none"),
        (["mel-resnet", "WINDOW"], "and mel-resnet have other audio settings: one network takes one window"),
        (["ENSEMBLE"], "is an ensemble: give runs of single networks"),
        (["mel-resnet-muon"], "mel-resnet-muon is refitted on the validation clips"),
    ],
)
def test_branches_that_do_not_fit_are_refused(branches, message, demo_corpus, tmp_path):
    run_of(tmp_path / "WINDOW", override(TCN, {"audio.window_seconds": 1.28}))
    run_of(tmp_path / "ENSEMBLE", EnsembleConfig("e", {"a": CNN}))
    branches = [str(tmp_path / name) if name.isupper() else name for name in branches]
    found = refusal(override(EARLY, {"model.branches": branches}), demo_corpus, tmp_path / "run")
    assert found.startswith("model.branches: ")
    assert message in found


def test_members_may_have_branches_of_their_own(branch_run, demo_corpus, tmp_path):
    early = override(EARLY, {"model.branches": [str(branch_run), "mel-resnet"]})
    ensemble = ensemble_of("nested", {"early": early, "cnn": CNN}, "vote")
    resolved = resolve(ensemble, demo_corpus, tmp_path / "run")
    assert resolved.config.members["early"] == resolve(early, demo_corpus, tmp_path / "run").config
    assert resolved.config.members["early"].mfcc.num_coefficients == 13
    (note,) = resolved.notes
    assert note.startswith("early: settings taken from the trained branches")


# Training on all clips


def test_the_epochs_on_all_clips_are_the_median_best_epoch_of_the_runs_beside(demo_corpus, tmp_path):
    """Only of runs with the same recipe, corpus and settings that have ended."""
    for seed, (best_epoch, change, corpus) in enumerate(
        [
            (5, {}, "demo"),
            (9, {"experiment.protocol": "luna"}, "demo"),
            (6, {"experiment.seed": 1}, "demo"),
            (1, {"encoder.l2": 0.1}, "demo"),
            (1, {}, "other"),
        ]
    ):
        run_of(tmp_path / str(seed), override(CNN, change), best_epoch=best_epoch, corpus=corpus)
    run_of(tmp_path / "unfinished", CNN, best_epoch=1).joinpath("validation_predictions.csv").unlink()
    (tmp_path / "notes").mkdir()
    everything = with_experiment(CNN, protocol="all")
    resolved = resolve(everything, demo_corpus, tmp_path / "mine")
    assert (resolved.config.training.epochs, resolved.config.training.select_by) == (6, "last")
    assert resolved.notes == ("epochs: 6, the median best epoch of 3 runs beside it",)
    alone = resolve(everything, demo_corpus, tmp_path / "elsewhere" / "mine")
    assert (alone.config.training.epochs, alone.config.training.select_by) == (CNN.training.epochs, "last")
    assert "warning: all 40 epochs: no measured run of these settings is beside it" in alone.notes[0]


def test_an_ensemble_cannot_be_trained_on_all_clips(demo_corpus, folder):
    everything = with_experiment(RECIPES["weighted-mel-mfcc"].config, protocol="all")
    assert "protocol all leaves no validation clips" in refusal(everything, demo_corpus, folder)


# A run to continue


def test_a_run_that_continues_keeps_what_was_resolved(branch_run, demo_corpus, tmp_path):
    config = override(EARLY, {"model.branches": [str(branch_run), "mel-resnet"]})
    begun = resolve(config, demo_corpus, tmp_path / "run")
    run_of(tmp_path / "run", begun.config)
    # What was beside it when it began may have changed since.
    write_text(branch_run / "config.json", to_json(override(TCN, {"mfcc.num_coefficients": 20})))
    again = read_resolved(tmp_path / "run", demo_corpus, "/moved/corpus")
    assert again.config == with_experiment(begun.config, corpora=("/moved/corpus",))
    assert again.members == {"mel-resnet": with_experiment(begun.members["mel-resnet"], corpora=("/moved/corpus",))}
    # A member that was begun continues with the settings that it was begun with.
    member = override(begun.members["mel-resnet"], {"training.epochs": 2})
    run_of(tmp_path / "run" / "members" / "mel-resnet", member)
    again = read_resolved(tmp_path / "run", demo_corpus, "/moved/corpus")
    assert again.members == {"mel-resnet": with_experiment(member, corpora=("/moved/corpus",))}


@pytest.mark.parametrize("place", ["", "members/mel-resnet"])
def test_a_run_with_a_removed_setting_is_not_continued(place, demo_corpus, tmp_path):
    begun = resolve(EARLY, demo_corpus, tmp_path / "run")
    run_of(tmp_path / "run", begun.config)
    run_of(tmp_path / "run" / "members" / "mel-resnet", begun.members["mel-resnet"])
    path = tmp_path / "run" / place / "config.json"
    tree = json.loads(path.read_text())
    tree["training"]["teacher"] = "flagship"
    path.write_text(json.dumps(tree))
    with pytest.raises(UsageError, match=r"training\.teacher='flagship' is a setting of an earlier version"):
        read_resolved(tmp_path / "run", demo_corpus, "demo")
