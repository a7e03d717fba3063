"""Every recipe, shrunken, on a handful of demo clips: trained for one epoch, saved, loaded, exported, compared."""

import contextlib

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from conftest import tiny, tiny_arguments

from emokeras import export, runs, train
from emokeras.config import override, read_config, to_json
from emokeras.data.audio import load_waveforms
from emokeras.data.corpora import load_corpus
from emokeras.recipes import RECIPES, configure
from emokeras.recognizer import load_recognizer

# What tf.data does stays a graph, and TensorFlow says so each time.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
# Of these, no other test trains what is their own in a graph: a conformer, Muon, attention fusion, a BERT.
TRACED = {"mel-conformer", "mfcc-resnet-muon", "attention-mel-mfcc", "text-bert"}
TRANSCRIPTS = ["the table is by the door", "", "Someone! Stop?"]


@pytest.fixture(scope="session")
def pretrained_weights(tmp_path_factory, speech_model):
    """Return, by recipe, the settings that give weights of chance in the files that each pretrained body reads."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("weights")
    network = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 32, 3))
    network.save_weights(folder / "resnet50.weights.h5")

    torch = pytest.importorskip("torch", reason="the extra asr brings torch, with which this BERT is made")
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    trainer = BertWordPieceTokenizer()
    trainer.train_from_iterator(["kids are talking by the door", "the table stands"], vocab_size=60)
    tokenizer = BertTokenizerFast(tokenizer_object=trainer._tokenizer)
    tokenizer.save_pretrained(folder / "bert")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "bert")
    return {
        "mel-resnet-imagenet": [f"model.weights={folder / 'resnet50.weights.h5'}", "training.frozen_epochs=1"],
        "text-bert": [f"model.weights={folder / 'bert'}", "training.frozen_epochs=1"],
        "speech-tcn": [f"model.pretrained={speech_model}"],
    }


@contextlib.contextmanager
def eagerly():
    """Train step by step: a graph of a step takes longer to trace than the few steps here."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_saves_loads_and_exports(recipe, demo_folder, pretrained_weights, tmp_path, recordings):
    folder, target = tmp_path / "run", tmp_path / "exported"
    arguments = [recipe, "--corpus", str(demo_folder), "--run-dir", str(folder), *tiny_arguments(recipe)]
    given = pretrained_weights.get(recipe, [])
    arguments += [part for setting in given for part in ("--set", setting)]
    epochs = 2 if "training.frozen_epochs=1" in given else 1  # One frozen, one in which all learns.
    # Of an ensemble one member after another, in this process.
    with contextlib.nullcontext() if recipe in TRACED else eagerly():
        assert train.main([*arguments, "--epochs", str(epochs), "--members-at-once", "1"]) == 0

    metrics, config = runs.read_metrics(folder), read_config(folder / "config.json")
    assert metrics["recipe"] == recipe
    assert metrics["num_test"] == 8
    networks = [folder / "members" / name for name in config.members] if hasattr(config, "members") else [folder]
    assert metrics["epochs_run"] == epochs * len(networks)
    for network in networks:
        history = runs.read_history(network / "history.csv")
        assert all(np.isfinite(row["loss"]) and np.isfinite(row["val_loss"]) for row in history)
    if epochs == 2:
        assert history[0]["learning_rate"] > history[1]["learning_rate"]

    # The saved model speaks, ...
    sounds = [soundfile.read(path, dtype="float32")[0][::3] for path in recordings]  # 48 to 16 kHz; aliases are fine.
    living = load_recognizer(folder)
    probabilities = living.predict(sounds, TRANSCRIPTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    # ... the export says the same, ...
    assert export.main([str(folder), str(target)]) == 0
    np.testing.assert_allclose(load_recognizer(target).predict(sounds, TRANSCRIPTS), probabilities, atol=1e-5)
    # ... and takes what the recipe hears and reads.
    signature = tf.saved_model.load(str(target / "1")).signatures["serving_default"].structured_input_signature[1]
    takes = {"waveform"} if config.audio_inputs else set()
    if config.has_speech_encoder:
        takes |= {"speech", "speech_mask"}
    if config.takes_transcripts:
        takes.add("tokens" if recipe == "text-bert" else "transcript")
    assert set(signature) == takes


def test_a_speech_model_is_a_branch_of_any_recipe():
    """Of a network, of one that starts from trained branches, of an ensemble; but once."""
    named = {"model.pretrained": "DIR", "training.epochs": 3}
    network = configure(RECIPES["mel-resnet"].config, named)
    assert list(network.encoders) == ["spectrogram", "speech"]
    assert (network.model.pretrained, network.training.epochs) == ("DIR", 3)
    joined = configure(RECIPES["early-mel-mfcc"].config, named)
    assert joined.model.branches == ("mel-resnet", "mfcc-tcn", "speech-tcn")
    ensemble = configure(RECIPES["flagship"].config, named)
    members = {name: (member.model.pretrained, member.training.epochs) for name, member in ensemble.members.items()}
    assert members == dict.fromkeys(RECIPES["flagship"].config.members, ("", 3)) | {"speech-tcn": ("DIR", 3)}
    alone = configure(RECIPES["speech-tcn"].config, named)
    assert alone == override(RECIPES["speech-tcn"].config, named)


@pytest.mark.slow
def test_a_speech_model_is_one_more_branch(demo_folder, speech_model, tmp_path):
    """Beside a spectrogram, in one network: what it said of its test clips is what it says when it is served."""
    (tmp_path / "mel.json").write_text(to_json(tiny(RECIPES["mel-cnn3"].config)))
    arguments = ["--config", str(tmp_path / "mel.json"), "--corpus", str(demo_folder), "--epochs", "1"]
    for setting in (f"model.pretrained={speech_model}", "encoders.speech.filters=8", "encoders.speech.dilations=1,4"):
        arguments += ["--set", setting]
    with eagerly():
        assert train.main([*arguments, "--run-dir", str(tmp_path / "run")]) == 0
    config = read_config(tmp_path / "run" / "config.json")
    assert (list(config.encoders), config.speech.units) == (["spectrogram", "speech"], 12)
    names, _, _, _, said = runs.read_predictions(tmp_path / "run" / "predictions.csv")
    clips = {clip.name: clip for clip in load_corpus(demo_folder).clips}
    waveforms = load_waveforms([clips[name] for name in names], 16000)
    np.testing.assert_allclose(load_recognizer(tmp_path / "run").predict(waveforms), said, atol=1e-5)
    assert export.main([str(tmp_path / "run"), str(tmp_path / "exported")]) == 0
