"""Whole networks: features in, logits out; padding is not heard, all can be saved, and they learn."""

from dataclasses import replace

import keras
import librosa
import numpy as np
import pytest

from emokeras.config import AugmentConfig, CnnConfig, Config, ExperimentConfig, ModelConfig, override
from emokeras.errors import UsageError
from emokeras.models.build import build_model
from emokeras.recipes import RECIPES

EMOTIONS = ("neutral", "calm", "angry")
FRAMES, BANDS = 32, 16
SMALL = {
    "audio.window_seconds": 0.32,
    "spectrogram.hop_seconds": 0.01,
    "spectrogram.num_bands": BANDS,
    "mfcc.hop_seconds": 0.01,
    "mfcc.num_bands": BANDS,
    "mfcc.num_coefficients": BANDS,
}
SMALL_BODIES = {
    "cnn": {"filters": [4, 6, 8]},
    "crnn": {"filters": [4, 6], "recurrent_units": [5]},
    "resnet": {"filters": [4, 6, 6, 8]},
    "tcn": {"filters": 8, "dilations": [1, 2, 4]},
    "transformer": {"patch_frames": 4, "patch_bands": 8, "units": 8, "num_heads": 2, "num_blocks": 2},
    "recurrent": {"units": [6]},
    "bert": {"vocabulary_size": 30, "units": 8, "num_heads": 2, "num_blocks": 2, "hidden_units": 16},
}
# One recipe for each body and input that is made of frames; `test_pretrained` and `test_text_networks` have the others.
HEARING = ("mel-cnn3", "mfcc-cnn2", "mel-resnet", "mel-crnn-attention", "mel-ast", "mfcc-tcn")


def small(recipe: str = "mel-cnn3", **values) -> Config:
    config = replace(RECIPES[recipe].config, experiment=ExperimentConfig(emotions=EMOTIONS))
    (encoder,) = config.encoders.values()
    config = override(config, {f"encoder.{key}": value for key, value in SMALL_BODIES[encoder.kind].items()})
    return override(config, SMALL | {path.replace("__", "."): value for path, value in values.items()})


def network(config: Config) -> keras.Model:
    """Return the network with statistics and weights away from where they start."""
    keras.utils.set_random_seed(0)
    model = build_model(config)
    heard = np.random.default_rng(1).normal(-40, 15, (1, 500, BANDS))
    model.get_layer(f"{input_of(model)}_normalization").adapt(heard)
    random = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 2, size=layer.moving_variance.shape))
            layer.beta.assign(random.normal(size=layer.beta.shape))
    return model


def input_of(model: keras.Model) -> str:
    """Return the name of the features that a network takes beside their mask."""
    return next(name for name in model.input if not name.endswith("_mask"))


def named(model: keras.Model, inputs: dict) -> dict:
    """Return inputs of `batch` under the names that a network of another input has for them."""
    return {name.replace("spectrogram", input_of(model)): value for name, value in inputs.items()}


def batch(lengths=(32, 20, 9, 1), seed: int = 0) -> dict[str, np.ndarray]:
    """Return clips of these many valid frames, 0 after them, as the pipeline gives them."""
    mask = (np.arange(FRAMES) < np.array(lengths)[:, np.newaxis]).astype(np.float32)
    values = np.random.default_rng(seed).normal(-40, 15, (len(lengths), FRAMES, BANDS)).astype(np.float32)
    return {"spectrogram": values * mask[..., np.newaxis], "spectrogram_mask": mask}


def logits(model: keras.Model, inputs: dict) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(named(model, inputs))["emotion"])


# What goes in and what comes out


NETWORKS = {name: recipe.config for name, recipe in RECIPES.items() if isinstance(recipe.config, Config)}


@pytest.mark.parametrize("recipe", NETWORKS)
def test_every_recipe_builds_as_it_stands(recipe):
    config = replace(NETWORKS[recipe], experiment=ExperimentConfig(emotions=EMOTIONS))
    if recipe == "text-bert":  # BERT base takes half a gigabyte.
        config = override(config, {f"encoder.{key}": value for key, value in SMALL_BODIES["bert"].items()})
    model = build_model(config)
    expected = {"tokens": (None, config.tokens.max_words)} if config.takes_transcripts else {}
    for name in config.encoders.keys() - {"tokens"}:
        settings = getattr(config, name)
        frames = round(config.seconds_of(name) / settings.hop_seconds)
        expected |= {name: (None, frames, settings.num_features), f"{name}_mask": (None, frames)}
    assert {tensor.name: tuple(tensor.shape) for tensor in model.inputs} == expected
    assert model.output["emotion"].shape == (None, 3)
    assert model.name == recipe.replace("-", "_")


@pytest.mark.parametrize("recipe", HEARING)
def test_logits_come_out_finite_and_in_float32(recipe):
    values = logits(network(small(recipe)), batch())
    assert values.shape == (4, 3)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


@pytest.mark.parametrize("recipe", HEARING)
def test_logits_are_no_probabilities(recipe):
    """Softmax is applied once, at the edge; a loss that wants logits would flatten it a second time."""
    model = network(small(recipe))
    last = model.get_layer("emotion")
    assert last.activation is keras.activations.linear
    last.set_weights([np.zeros(last.kernel.shape), np.array([3.0, -3.0, 0.5])])
    np.testing.assert_array_equal(logits(model, batch()), [[3.0, -3.0, 0.5]] * 4)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean-max", "attention", "attentive-statistics", "flatten"])
def test_every_pooling_gives_its_embedding(pooling):
    model = network(small(model__pooling=pooling, model__hidden_units=[]))
    channels = BANDS // 8 * 8  # three halvings, the last of 8 filters
    width = channels * {"mean-max": 2, "attentive-statistics": 2, "flatten": FRAMES // 8}.get(pooling, 1)
    assert model.get_layer("emotion").kernel.shape == (width, 3)
    assert np.isfinite(logits(model, batch())).all()


def test_hidden_layers_are_the_configurations():
    model = network(small(model__hidden_units=[7, 5], model__dropout=0.4))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [7, 5, 3]
    rates = [layer.rate for layer in model.layers if type(layer) is keras.layers.Dropout]
    assert rates == [0.4, 0.4, 0.4]


# What is heard


@pytest.mark.parametrize("recipe", HEARING)
def test_the_content_of_padded_frames_changes_no_logit(recipe):
    model = network(small(recipe))
    inputs = batch()
    padding = 1 - inputs["spectrogram_mask"][..., np.newaxis]
    changed = inputs | {"spectrogram": inputs["spectrogram"] + 200 * padding * batch(seed=9)["spectrogram"][:1]}
    assert not np.array_equal(changed["spectrogram"], inputs["spectrogram"])
    np.testing.assert_allclose(logits(model, changed), logits(model, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recipe", HEARING)
def test_the_content_of_valid_frames_changes_the_logits(recipe):
    model = network(small(recipe))
    assert (np.abs(logits(model, batch()) - logits(model, batch(seed=3))).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("recipe", HEARING)
def test_a_clip_gives_the_same_logits_alone_and_in_a_batch(recipe):
    model = network(small(recipe))
    together = logits(model, batch())
    for number in range(4):
        alone = logits(model, {name: value[number : number + 1] for name, value in batch().items()})
        np.testing.assert_allclose(alone[0], together[number], rtol=1e-4, atol=1e-5)


def test_normalisation_is_that_of_the_valid_frames_and_padding_is_zero_after_it():
    model = network(small())
    normalisation = model.get_layer("spectrogram_normalization")
    assert normalisation.axis == (-1,) or normalisation.axis == (2,)
    heard = np.random.default_rng(1).normal(-40, 15, (1, 500, BANDS))
    front = keras.Model(model.inputs, model.get_layer("spectrogram_spec_augment").output)
    inputs = batch()
    expected = (inputs["spectrogram"] - heard.mean(axis=(0, 1))) / heard.std(axis=(0, 1))
    expected *= inputs["spectrogram_mask"][..., np.newaxis]
    np.testing.assert_allclose(front(inputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("centered", [True, False])
def test_what_is_centered_is_heard_less_its_mean(centered):
    """What is added to all of a clip's frames, another in each band, changes nothing then."""
    model = network(small("mel-cnn3", encoder__centered=centered))
    inputs = batch()
    offset = np.random.default_rng(5).normal(size=(1, 1, BANDS)) * inputs["spectrogram_mask"][..., np.newaxis]
    other = inputs | {"spectrogram": (inputs["spectrogram"] + 10 * offset).astype(np.float32)}
    difference = np.abs(logits(model, inputs) - logits(model, other)).max()
    assert difference < 1e-3 if centered else difference > 0.1


def test_slopes_are_those_of_librosa():
    model = network(small("mel-cnn3", encoder__deltas=2))
    inputs = batch()
    inputs["spectrogram_mask"][:] = 1
    frames, once, twice = np.split(
        keras.Model(model.inputs, model.get_layer("spectrogram_spec_augment").output)(inputs).numpy(), 3, axis=-1
    )
    plain = keras.Model(model.inputs, model.get_layer("spectrogram_normalization").output)(inputs).numpy()
    np.testing.assert_array_equal(frames, plain)
    slope = librosa.feature.delta(plain, axis=1)
    np.testing.assert_allclose(once[:, 4:-4], slope[:, 4:-4], atol=1e-5)
    np.testing.assert_allclose(twice[:, 8:-8], librosa.feature.delta(slope, axis=1)[:, 8:-8], atol=1e-5)


@pytest.mark.parametrize("leveled", [True, False])
def test_what_is_leveled_is_heard_however_loud_it_is(leveled):
    """Another level is the same change of all features; another in each band is heard."""
    model = network(small("mel-cnn3", encoder__leveled=leveled))
    inputs = batch()
    valid = inputs["spectrogram_mask"][..., np.newaxis]
    bands = np.random.default_rng(5).normal(size=(1, 1, BANDS))
    statistics = model.get_layer("spectrogram_normalization")
    louder, tinny = (
        np.abs(logits(model, inputs) - logits(model, inputs | {"spectrogram": changed.astype(np.float32)})).max()
        for changed in (
            inputs["spectrogram"] + np.sqrt(np.array(statistics.variance)) * valid,
            inputs["spectrogram"] + 10 * bands * valid,
        )
    )
    assert louder < 1e-3 if leveled else louder > 0.05
    assert tinny > 0.1


@pytest.mark.parametrize(("name", "features"), [("mfcc", "MfccConfig"), ("prosody", "ProsodyConfig")])
def test_the_loud_features_are_those_that_change_when_a_waveform_is_louder(name, features):
    from emokeras import config as configs
    from emokeras.data.features import mfcc
    from emokeras.data.prosody import prosody

    settings = getattr(configs, features)()
    waveform = np.random.default_rng(0).normal(0, 0.05, (1, 16000)).astype(np.float32)
    heard = {"mfcc": mfcc, "prosody": prosody}[name]
    softer, louder = (np.array(heard(scale * waveform, settings, 16000))[0, 5:-5] for scale in (1, 4))
    changed = np.abs(louder - softer).max(axis=0) > 0.01
    assert list(np.flatnonzero(changed)) == list(settings.level_features)


def test_masks_of_spec_augment_are_the_configurations_and_come_in_training_alone():
    config = small(augment__num_time_masks=3, augment__time_mask_frames=5, augment__num_band_masks=1)
    model = network(override(config, {"augment.band_mask_bands": 4, "experiment.seed": 6}))
    layer = model.get_layer("spectrogram_spec_augment")
    assert (layer.num_time_masks, layer.time_mask_frames, layer.num_band_masks, layer.band_mask_bands) == (3, 5, 1, 4)
    assert layer.seed == 6
    front = keras.Model(model.inputs, layer.output)
    plain, again = np.array(front(batch((32, 32)))), np.array(front(batch((32, 32))))
    np.testing.assert_array_equal(plain, again)
    masked = np.array(front(batch((32, 32)), training=True))
    assert ((masked == plain) | (masked == 0)).all()
    assert (masked != plain).any()


def test_styles_are_mixed_in_training_alone_and_where_the_configuration_says():
    model = network(small(augment__style_mixing_probability=0.9, augment__style_mixing_alpha=4.0))
    layer = model.get_layer("spectrogram_style_mixing")
    assert (layer.probability, layer.alpha, layer.seed) == (0.9, 4.0, 0)
    front, plain = (
        keras.Model(one.inputs, one.get_layer(f"spectrogram_{name}").output)
        for one, name in ((model, "style_mixing"), (network(small()), "spec_augment"))
    )
    clips = batch((32, 30, 28, 25, 20, 16, 9, 1))
    np.testing.assert_array_equal(front(clips), plain(clips))
    assert np.abs(np.array(front(clips, training=True)) - np.array(plain(clips))).max() > 0.1
    assert not any(own.name.endswith("style_mixing") for own in network(small()).layers)


# Precision, seeds, saving


@pytest.mark.parametrize("recipe", HEARING)
def test_normalisation_and_logits_stay_float32_under_mixed_precision(recipe):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network(small(recipe))
    finally:
        keras.config.set_dtype_policy(before)
    for name in (f"{input_of(model)}_normalization", f"{input_of(model)}_spec_augment", "emotion"):
        assert model.get_layer(name).compute_dtype == "float32", name
    front = keras.Model(model.inputs, model.get_layer(f"{input_of(model)}_spec_augment").output)
    assert keras.backend.standardize_dtype(front.output.dtype) == "float32"
    bodies = [layer for layer in model.layers if isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D))]
    assert {layer.compute_dtype for layer in bodies} == {"float16"}
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    values = logits(model, batch())
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, logits(network(small(recipe)), batch()), atol=0.1)


def test_one_seed_draws_one_network():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build_model(small()).get_weights()

    assert all(np.array_equal(*pair) for pair in zip(weights(1), weights(1), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(weights(1), weights(2), strict=True))


@pytest.mark.parametrize("recipe", HEARING)
def test_a_saved_network_gives_the_same_logits(recipe, tmp_path):
    model = network(small(recipe))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded, batch()), logits(model, batch()))


# Learning


def task() -> tuple[dict, dict]:
    """Return twelve clips of three emotions, each louder in its own third of the bands."""
    inputs = batch((32, 24, 16) * 4)
    emotions = np.repeat(np.arange(3), 4)
    for clip, emotion in enumerate(emotions):
        inputs["spectrogram"][clip, :, 5 * emotion : 5 * emotion + 5] += 30.0
    inputs["spectrogram"] *= inputs["spectrogram_mask"][..., np.newaxis]
    return inputs, {"emotion": np.eye(3, dtype=np.float32)[emotions]}


@pytest.mark.parametrize("recipe", HEARING)
def test_a_network_learns_a_small_task_by_heart(recipe):
    config = replace(small(recipe, model__dropout=0.0, encoder__dropout=0.0), augment=AugmentConfig())
    model = network(config)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss={"emotion": loss}, jit_compile=False)
    before = [np.array(weight) for weight in model.trainable_weights]
    inputs, labels = task()
    inputs = named(model, inputs)
    first = float(model.train_on_batch(inputs, labels))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.isfinite(np.array(weight)).all(), weight.path
        # What follows a batch normalisation with a shift of its own may stand still; kernels never do.
        assert not weight.path.endswith("kernel") or not np.array_equal(weight, old), weight.path
    for _ in range(30):
        last = float(model.train_on_batch(inputs, labels))
    assert np.isfinite([first, last]).all()
    assert last < 0.2 * first


# What cannot be built


def refusal(config: Config) -> str:
    with pytest.raises(UsageError) as caught:
        build_model(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_body_is_refused_by_name():
    with pytest.raises(UsageError) as caught:
        override(small(), {"encoder.kind": "rnn"})
    message = str(caught.value)
    assert "'rnn'" in message
    assert "cnn" in message
    assert "resnet" in message


@pytest.mark.parametrize(("kind", "filters"), [("cnn", [4] * 6), ("resnet", [4]), ("resnet", [])])
def test_filters_that_make_no_network_are_refused_in_one_line(kind, filters):
    """Six halvings of 16 bands leave nothing; a residual network needs a stem and a block."""
    assert "filters" in refusal(override(small(), {"encoder.kind": kind, "encoder.filters": filters}))


def test_the_smallest_configuration_is_a_network():
    config = Config(
        "tiny",
        {"spectrogram": CnnConfig(filters=(2,), batch_normalization=False)},
        ExperimentConfig(emotions=EMOTIONS),
        model=ModelConfig(pooling="mean", hidden_units=()),
    )
    model = build_model(override(config, SMALL))
    # One kernel of 3 × 3 for two filters and their biases; 8 bands × 2 filters to three logits and their biases.
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 3 * 3 * 2 + 2 + 8 * 2 * 3 + 3
