"""Every recipe, shrunken, is built and saved; every combination of encoders and fusion is also trained and exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny, tiny_arguments

from emokeras import export, runs, train
from emokeras.config import EnsembleConfig, override, read_config, to_json, with_experiment
from emokeras.data.corpora import load_corpus
from emokeras.models.build import build_model
from emokeras.recipes import RECIPES, Recipe, configure
from emokeras.recognizer import load_recognizer

# No other test trains attention fusion or a BERT in a graph.
TRACED = {"attention-mel-text", "text-bert"}


def combinations_of(config) -> set:
    """Return what a recipe combines: of each network inputs, encoders and fusion; of an ensemble also the method."""
    combinations = {config.method} if isinstance(config, EnsembleConfig) else set()
    for network in config.networks.values():
        kinds = frozenset((name, encoder.kind) for name, encoder in network.encoders.items())
        combinations.add((kinds, network.model.fusion if len(kinds) > 1 else ""))
    return combinations


def recipes_to_train(recipes) -> list[str]:
    """Return recipes that have all combinations between them; ensembles come first, their members count."""
    chosen, covered = [], set()
    for name in sorted(recipes, key=lambda name: -len(recipes[name].config.networks)):
        if combinations_of(recipes[name].config) - covered:
            chosen.append(name)
            covered |= combinations_of(recipes[name].config)
    return chosen


TRAINED = recipes_to_train(RECIPES)


def test_a_recipe_with_a_new_combination_is_trained():
    new = override(RECIPES["mfcc-cnn2"].config, {"encoder.kind": "crnn"})
    assert recipes_to_train(RECIPES | {"again": RECIPES["mfcc-cnn2"], "new": Recipe("", new)}) == [*TRAINED, "new"]


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in TRAINED])
def test_a_recipe_is_built_and_its_saved_network_has_the_same_logits(recipe, tmp_path):
    config = with_experiment(tiny(RECIPES[recipe].config), emotions=("calm", "happy", "sad"))
    for network in config.networks.values():
        keras.utils.set_random_seed(0)
        model, generator = build_model(network), np.random.default_rng(0)
        inputs = {}
        for name, tensor in model.input.items():
            shape = (2, *tensor.shape[1:])
            inputs[name] = generator.normal(size=shape).astype(np.float32)
            if name == "tokens":
                inputs[name] = generator.integers(0, 20, shape, np.int32)
            if name.endswith("_mask"):
                inputs[name] = np.arange(shape[1]) < np.array([[shape[1]], [shape[1] // 2]]).astype(np.float32)
        logits = model(inputs, training=False)["emotion"].numpy()
        assert logits.shape == (2, 3)
        assert np.isfinite(logits).all()
        assert np.abs(logits[0] - logits[1]).max() > 1e-4
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")(inputs, training=False)["emotion"]
        np.testing.assert_array_equal(again, logits)


def small_resnet(include_top, weights, input_shape, name="small_resnet"):
    """Return what stands for ResNet50, which takes two minutes: it halves frames and bands five times too.

    The real one, and a file of its weights, are tested in test_pretrained.
    """
    image = maps = keras.Input(input_shape)
    for filters in (4, 4, 8, 8, 8):
        maps = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(maps)
        maps = keras.layers.BatchNormalization()(maps)
    return keras.Model(image, maps, name=name)


@pytest.fixture
def pretrained_weights(request, tmp_path, monkeypatch):
    """Return a function from a recipe to the settings of its pretrained encoder, whose files hold random weights."""

    def of(recipe: str) -> dict[str, str]:
        if recipe == "mel-resnet-imagenet":
            monkeypatch.setattr(keras.applications, "ResNet50", small_resnet)
            small_resnet(False, None, (64, 32, 3)).save_weights(tmp_path / "small.weights.h5")
            return {"model.weights": tmp_path / "small.weights.h5", "training.frozen_epochs": 1}
        if recipe == "text-bert":
            make_bert(tmp_path / "bert")
            return {"model.weights": tmp_path / "bert", "training.frozen_epochs": 1}
        if recipe in ("speech-tcn", "speech-linear", "flagship-speech"):
            return {"model.pretrained": request.getfixturevalue("whisper_model")}
        return {}

    return of


def make_bert(folder) -> None:
    """Write a tiny BERT and its tokenizer."""
    torch = pytest.importorskip("torch", reason="this BERT is made with torch, of the extra asr")
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    trainer = BertWordPieceTokenizer()
    trainer.train_from_iterator(["kids are talking by the door", "the table stands"], vocab_size=60)
    tokenizer = BertTokenizerFast(tokenizer_object=trainer._tokenizer)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)


def assert_served_as_trained(folder, exported, corpus):
    """The saved networks, and the export, give the probabilities that the training gave its test clips. Of the frames
    of a speech encoder it had those rounded to float16."""
    tolerance = 1e-3 if read_config(folder / "config.json").has_speech_encoder else 1e-5
    clips, _, _, _, expected = runs.read_predictions(folder / "predictions.csv")
    loaded = load_corpus(corpus)
    of_name = {clip.name: clip for clip in loaded.clips}
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
    assert export.main([str(folder), str(exported)]) == 0
    for model in (folder, exported):
        found = load_recognizer(model).predict_clips([of_name[name] for name in clips], loaded)
        np.testing.assert_allclose(found, expected, atol=tolerance, err_msg=str(model))


def inputs_of(exported) -> set[str]:
    signature = tf.saved_model.load(str(exported / "1")).signatures["serving_default"]
    return set(signature.structured_input_signature[1])


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("recipe", TRAINED)
def test_a_trained_recipe_is_served_and_exported_as_it_was_tested(
    recipe, small_folder, pretrained_weights, tmp_path, request
):
    if recipe not in TRACED:
        request.getfixturevalue("without_graphs")
    folder, settings = tmp_path / "run", pretrained_weights(recipe)
    for network in RECIPES[recipe].config.networks.values():
        settings["training.batch_size"] = 8 // network.training.accumulated_batches  # One update an epoch.
    epochs = 2 if "training.frozen_epochs" in settings else 1  # One frozen, one in which everything is trained.
    arguments = [recipe, "--corpus", str(small_folder), "--run-dir", str(folder), *tiny_arguments(recipe)]
    arguments += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    # The members of an ensemble train one after another, in this process.
    assert train.main([*arguments, "--epochs", str(epochs), "--members-at-once", "1"]) == 0

    metrics, config = runs.read_metrics(folder), read_config(folder / "config.json")
    assert (metrics["recipe"], metrics["num_test"]) == (recipe, 8)
    networks = [folder / "members" / name for name in config.members] if hasattr(config, "members") else [folder]
    assert metrics["epochs_run"] == epochs * len(networks)
    for network in networks:
        history = runs.read_history(network / "history.csv")
        assert all(np.isfinite(row["loss"]) and np.isfinite(row["val_loss"]) for row in history)
    if epochs == 2:
        assert history[0]["learning_rate"] > history[1]["learning_rate"]

    assert_served_as_trained(folder, tmp_path / "exported", small_folder)
    expected = {"waveform"} if config.takes_audio else set()
    if config.takes_transcripts:
        expected.add("tokens" if recipe == "text-bert" else "transcript")
    assert inputs_of(tmp_path / "exported") == expected


def test_a_speech_encoder_can_be_added_to_any_recipe_once():
    """To a network, to one that starts from trained branches, to an ensemble."""
    values = {"model.pretrained": "DIR", "training.epochs": 3}
    network = configure(RECIPES["mel-resnet"].config, values)
    assert list(network.encoders) == ["spectrogram", "speech"]
    assert (network.model.pretrained, network.training.epochs) == ("DIR", 3)
    joined = configure(RECIPES["early-mel-mfcc"].config, values)
    assert joined.model.branches == ("mel-resnet", "mfcc-tcn", "speech-tcn")
    ensemble = configure(RECIPES["flagship"].config, values)
    members = {name: (member.model.pretrained, member.training.epochs) for name, member in ensemble.members.items()}
    assert members == dict.fromkeys(RECIPES["flagship"].config.members, ("", 3)) | {"speech-tcn": ("DIR", 3)}
    alone = configure(RECIPES["speech-tcn"].config, values)
    assert alone == override(RECIPES["speech-tcn"].config, values)


@pytest.mark.slow
@pytest.mark.usefixtures("without_graphs", "without_pictures")
@pytest.mark.parametrize(
    ("model", "expected"),
    [("whisper_model", {"waveform"}), ("speech_model", {"waveform", "speech", "speech_mask"})],
    ids=["whisper", "hubert"],
)
def test_a_network_with_an_added_speech_encoder_is_served_and_exported_as_it_was_tested(
    model, expected, small_folder, tmp_path, request
):
    """A HuBERT does not run in graph: callers of the export give its frames."""
    (tmp_path / "mel.json").write_text(to_json(tiny(RECIPES["mel-cnn3"].config)))
    arguments = ["--config", str(tmp_path / "mel.json"), "--corpus", str(small_folder), "--epochs", "1"]
    settings = [f"model.pretrained={request.getfixturevalue(model)}", "speech.layers=-1"]
    for setting in (*settings, "encoders.speech.filters=8", "encoders.speech.dilations=1,4"):
        arguments += ["--set", setting]
    assert train.main([*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    config = read_config(tmp_path / "run" / "config.json")
    assert (list(config.encoders), config.speech.units) == (["spectrogram", "speech"], 12)
    assert_served_as_trained(tmp_path / "run", tmp_path / "exported", small_folder)
    assert inputs_of(tmp_path / "exported") == expected
