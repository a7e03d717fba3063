"""Whole networks of frames: shapes, padding, normalization, augmentation, precision, saving, learning, refusals."""

from dataclasses import replace

import keras
import librosa
import numpy as np
import pytest

from emokeras.config import (
    AugmentConfig,
    CnnConfig,
    Config,
    ExperimentConfig,
    ModelConfig,
    override,
)
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
SMALL_ENCODERS = {
    "identity": {},
    "cnn": {"filters": [4, 6, 8]},
    "crnn": {"filters": [4, 6], "recurrent_units": [5]},
    "resnet": {"filters": [4, 6, 6, 8]},
    "tcn": {"filters": 8, "dilations": [1, 2, 4]},
    "transformer": {"patch_frames": 4, "patch_bands": 8, "units": 8, "num_heads": 2, "num_blocks": 2},
    "recurrent": {"units": [6]},
    "bert": {"vocabulary_size": 30, "units": 8, "num_heads": 2, "num_blocks": 2, "hidden_units": 16},
}
# One recipe for each encoder and input of frames; `test_pretrained` and `test_text_networks` have the others.
FRAME_RECIPES = ("mel-cnn3", "mel-resnet", "mel-crnn-attention", "mel-ast", "mfcc-tcn")


def small(recipe: str = "mel-cnn3", **values) -> Config:
    config = replace(RECIPES[recipe].config, experiment=ExperimentConfig(emotions=EMOTIONS))
    (encoder,) = config.encoders.values()
    config = override(config, {f"encoder.{key}": value for key, value in SMALL_ENCODERS[encoder.kind].items()})
    return override(config, SMALL | {path.replace("__", "."): value for path, value in values.items()})


def network(config: Config) -> keras.Model:
    """Return a network whose normalization statistics and offsets are not the initial ones."""
    keras.utils.set_random_seed(0)
    model = build_model(config)
    model.get_layer(f"{input_of(model)}_normalization").adapt(training_frames())
    random = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 2, size=layer.moving_variance.shape))
            layer.beta.assign(random.normal(size=layer.beta.shape))
    return model


@pytest.fixture(scope="module", params=FRAME_RECIPES)
def model(request) -> keras.Model:
    """Return the network of each recipe, for tests that do not change it."""
    return network(small(request.param))


def training_frames() -> np.ndarray:
    return np.random.default_rng(1).normal(-40, 15, (1, 500, BANDS))


def input_of(model: keras.Model) -> str:
    """Return the name of the features that a network takes with their mask."""
    return next(name for name in model.input if not name.endswith("_mask"))


def named(model: keras.Model, inputs: dict) -> dict:
    """Return inputs of `batch` by the names that a network has for them."""
    return {name.replace("spectrogram", input_of(model)): value for name, value in inputs.items()}


def batch(lengths=(32, 20, 9, 1), seed: int = 0) -> dict[str, np.ndarray]:
    """Return clips with these numbers of valid frames, padded with 0, as the pipeline does."""
    mask = (np.arange(FRAMES) < np.array(lengths)[:, np.newaxis]).astype(np.float32)
    values = np.random.default_rng(seed).normal(-40, 15, (len(lengths), FRAMES, BANDS)).astype(np.float32)
    return {"spectrogram": values * mask[..., np.newaxis], "spectrogram_mask": mask}


def logits(model: keras.Model, inputs: dict) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(named(model, inputs))["emotion"])


def part(model: keras.Model, end: str) -> keras.Model:
    """Return a network up to its layer spectrogram_`end`."""
    return keras.Model(model.inputs, model.get_layer(f"spectrogram_{end}").output)


# Inputs and outputs


NETWORKS = {name: recipe.config for name, recipe in RECIPES.items() if isinstance(recipe.config, Config)}


@pytest.mark.parametrize("recipe", NETWORKS)
def test_every_recipe_builds_with_its_own_settings(recipe):
    config = replace(NETWORKS[recipe], experiment=ExperimentConfig(emotions=EMOTIONS))
    if recipe == "text-bert":  # BERT base takes half a gigabyte.
        config = override(config, {f"encoder.{key}": value for key, value in SMALL_ENCODERS["bert"].items()})
    model = build_model(config)
    expected = {"tokens": (None, config.tokens.max_words)} if config.takes_transcripts else {}
    for name in config.encoders.keys() - {"tokens"}:
        settings = getattr(config, name)
        frames = round(config.audio.window_seconds / settings.hop_seconds)
        expected |= {name: (None, frames, settings.num_features), f"{name}_mask": (None, frames)}
    assert {tensor.name: tuple(tensor.shape) for tensor in model.inputs} == expected
    assert model.output["emotion"].shape == (None, 3)
    assert model.name == recipe.replace("-", "_")


def test_logits_are_finite_float32(model):
    values = logits(model, batch())
    assert values.shape == (4, 3)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_the_last_layer_has_no_softmax(model):
    """The loss takes logits; softmax is applied once, after the network."""
    last = model.get_layer("emotion")
    assert last.activation is keras.activations.linear
    weights = last.get_weights()
    last.set_weights([np.zeros(last.kernel.shape), np.array([3.0, -3.0, 0.5])])
    np.testing.assert_array_equal(logits(model, batch()), [[3.0, -3.0, 0.5]] * 4)
    last.set_weights(weights)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean-max", "attention", "attentive-statistics", "flatten"])
def test_the_pooling_sets_the_size_of_the_embedding(pooling):
    model = network(small(model__pooling=pooling, model__hidden_units=[]))
    channels = BANDS // 8 * 8  # three halvings, the last with 8 filters
    width = channels * {"mean-max": 2, "attentive-statistics": 2, "flatten": FRAMES // 8}.get(pooling, 1)
    assert model.get_layer("emotion").kernel.shape == (width, 3)
    assert np.isfinite(logits(model, batch())).all()


def test_hidden_layers_and_dropout_are_those_of_the_configuration():
    model = network(small(model__hidden_units=[7, 5], model__dropout=0.4))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [7, 5, 3]
    rates = [layer.rate for layer in model.layers if type(layer) is keras.layers.Dropout]
    assert rates == [0.4, 0.4, 0.4]


# Batch normalization


def num_normalized(config: Config) -> dict[str, int]:
    """Return how many batch normalizations the encoder and the head have."""
    model = build_model(config)
    pooled = [layer.name for layer in model.layers].index(f"{input_of(model)}_pooled")
    names = ("BatchNormalization", "NormalizedConvolution")
    counts = [
        sum(type(layer).__name__ in names for layer in part) for part in (model.layers[:pooled], model.layers[pooled:])
    ]
    return dict(zip(("encoder", "head"), counts, strict=True))


@pytest.mark.parametrize(("recipe", "convolutions"), [("mel-cnn3", 3), ("mel-resnet", 10), ("mfcc-tcn", 13)])
def test_batch_normalization_of_the_encoder_and_of_the_embedding_are_set_apart(recipe, convolutions):
    assert num_normalized(small(recipe)) == {"encoder": convolutions, "head": 1}
    without = small(recipe, encoder__batch_normalization=False)
    assert num_normalized(without) == {"encoder": 0, "head": 1}
    assert num_normalized(small(recipe, model__normalize_embedding=False)) == {"encoder": convolutions, "head": 0}
    hidden = small(recipe, model__batch_normalization=True, model__hidden_units=[7, 5])
    assert num_normalized(hidden) == {"encoder": convolutions, "head": 3}


@pytest.mark.parametrize("recipe", ["mel-ast", "mel-resnet-imagenet", "text-gru", "text-bert"])
def test_encoders_without_batch_normalization_refuse_the_setting(recipe):
    with pytest.raises(UsageError, match=r"there is no setting 'encoder\.batch_normalization'"):
        override(RECIPES[recipe].config, {"encoder.batch_normalization": False})


# Padding and content


def test_the_content_of_padded_frames_changes_no_logit(model):
    inputs = batch()
    padding = 1 - inputs["spectrogram_mask"][..., np.newaxis]
    changed = inputs | {"spectrogram": inputs["spectrogram"] + 200 * padding * batch(seed=9)["spectrogram"][:1]}
    assert not np.array_equal(changed["spectrogram"], inputs["spectrogram"])
    np.testing.assert_allclose(logits(model, changed), logits(model, inputs), rtol=1e-5, atol=1e-6)


def test_the_content_of_valid_frames_changes_the_logits(model):
    assert (np.abs(logits(model, batch()) - logits(model, batch(seed=3))).max(axis=1) > 1e-3).all()


def test_a_clip_has_the_same_logits_alone_and_in_a_batch(model):
    together = logits(model, batch())
    for number in range(4):
        alone = logits(model, {name: value[number : number + 1] for name, value in batch().items()})
        np.testing.assert_allclose(alone[0], together[number], rtol=1e-4, atol=1e-5)


# Normalization of the input, and delta features


def test_features_are_normalized_by_training_statistics_and_padding_is_zero_after_it():
    model = network(small())
    frames = training_frames()
    inputs = batch()
    expected = (inputs["spectrogram"] - frames.mean(axis=(0, 1))) / frames.std(axis=(0, 1))
    expected *= inputs["spectrogram_mask"][..., np.newaxis]
    np.testing.assert_allclose(part(model, "spec_augment")(inputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("centered", [True, False])
def test_centered_removes_the_mean_of_each_feature_over_a_clip(centered):
    """A constant added to all frames, different in each band, changes nothing then."""
    model = network(small(encoder__centered=centered))
    inputs = batch()
    offset = np.random.default_rng(5).normal(size=(1, 1, BANDS)) * inputs["spectrogram_mask"][..., np.newaxis]
    other = inputs | {"spectrogram": (inputs["spectrogram"] + 10 * offset).astype(np.float32)}
    difference = np.abs(logits(model, inputs) - logits(model, other)).max()
    assert difference < 1e-3 if centered else difference > 0.1


def test_delta_features_are_those_of_librosa():
    model = network(small(encoder__deltas=2))
    inputs = batch()
    inputs["spectrogram_mask"][:] = 1
    frames, deltas, delta_deltas = np.split(part(model, "spec_augment")(inputs).numpy(), 3, axis=-1)
    plain = part(model, "normalization")(inputs).numpy()
    np.testing.assert_array_equal(frames, plain)
    expected = librosa.feature.delta(plain, axis=1)
    np.testing.assert_allclose(deltas[:, 4:-4], expected[:, 4:-4], atol=1e-5)
    np.testing.assert_allclose(delta_deltas[:, 8:-8], librosa.feature.delta(expected, axis=1)[:, 8:-8], atol=1e-5)


# Augmentation


def test_spec_augment_has_the_settings_of_the_configuration_and_works_in_training_only():
    config = small(augment__num_time_masks=3, augment__time_mask_frames=5, augment__num_band_masks=1)
    model = network(override(config, {"augment.band_mask_bands": 4, "experiment.seed": 6}))
    layer = model.get_layer("spectrogram_spec_augment")
    assert (layer.num_time_masks, layer.time_mask_frames, layer.num_band_masks, layer.band_mask_bands) == (3, 5, 1, 4)
    assert layer.seed == 6
    front = part(model, "spec_augment")
    plain, again = np.array(front(batch((32, 32)))), np.array(front(batch((32, 32))))
    np.testing.assert_array_equal(plain, again)
    masked = np.array(front(batch((32, 32)), training=True))
    assert ((masked == plain) | (masked == 0)).all()
    assert (masked != plain).any()


# Precision, seeds, saving


def test_normalization_and_logits_stay_float32_with_mixed_precision(model):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = network(small(model.name.replace("_", "-")))
    finally:
        keras.config.set_dtype_policy(before)
    for name in (f"{input_of(mixed)}_normalization", f"{input_of(mixed)}_spec_augment", "emotion"):
        assert mixed.get_layer(name).compute_dtype == "float32", name
    front = mixed.get_layer(f"{input_of(mixed)}_spec_augment").output
    assert keras.backend.standardize_dtype(front.dtype) == "float32"
    convolutions = [layer for layer in mixed.layers if isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D))]
    assert {layer.compute_dtype for layer in convolutions} == {"float16"}
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    values = logits(mixed, batch())
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, logits(model, batch()), atol=0.1)


def test_the_seed_determines_the_weights():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return build_model(small()).get_weights()

    assert all(np.array_equal(*pair) for pair in zip(weights(1), weights(1), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(weights(1), weights(2), strict=True))


def test_a_saved_network_computes_the_same_logits(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded, batch()), logits(model, batch()))


# Learning


def separable_clips() -> tuple[dict, dict]:
    """Return twelve clips of three emotions; each emotion is louder in its own third of the bands."""
    inputs = batch((32, 24, 16) * 4)
    emotions = np.repeat(np.arange(3), 4)
    for clip, emotion in enumerate(emotions):
        inputs["spectrogram"][clip, :, 5 * emotion : 5 * emotion + 5] += 30.0
    inputs["spectrogram"] *= inputs["spectrogram_mask"][..., np.newaxis]
    return inputs, {"emotion": np.eye(3, dtype=np.float32)[emotions]}


@pytest.mark.parametrize("recipe", FRAME_RECIPES)
def test_a_network_overfits_a_few_separable_clips(recipe):
    config = replace(small(recipe, model__dropout=0.0, encoder__dropout=0.0), augment=AugmentConfig())
    model = network(config)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss={"emotion": loss}, run_eagerly=True)  # A graph takes longer here.
    before = [np.array(weight) for weight in model.trainable_weights]
    inputs, labels = separable_clips()
    inputs = named(model, inputs)
    first = float(model.train_on_batch(inputs, labels))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.isfinite(np.array(weight)).all(), weight.path
        # A bias before a batch normalization gets no gradient; kernels always do.
        assert not weight.path.endswith("kernel") or not np.array_equal(weight, old), weight.path
    losses = (float(model.train_on_batch(inputs, labels)) for _ in range(30))
    assert any(loss < 0.2 * first for loss in losses)


# Refusals


def refusal(config: Config) -> str:
    with pytest.raises(UsageError) as caught:
        build_model(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_encoder_is_refused_with_the_known_ones():
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


def test_the_smallest_configuration_has_the_expected_weights():
    config = Config(
        "tiny",
        {"spectrogram": CnnConfig(filters=(2,), batch_normalization=False)},
        ExperimentConfig(emotions=EMOTIONS),
        model=ModelConfig(pooling="mean", hidden_units=(), normalize_embedding=False),
    )
    model = build_model(override(config, SMALL))
    # A kernel of 3 × 3 for two filters with biases; 8 bands × 2 filters to three logits with biases.
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 3 * 3 * 2 + 2 + 8 * 2 * 3 + 3
