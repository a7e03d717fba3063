"""Band shift and mixup of features have the stated effect, in numbers."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from emokeras.config import AugmentConfig
from emokeras.data import augment_features

# Bands


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, [0, 0, 0, 1, 2, 3]),
        (0.2, [0, 0, 1, 2, 3, 4]),
        (0.5, [0, 1, 2, 3, 4, 5]),
        (0.6, [1, 2, 3, 4, 5, 5]),
        (0.99999994, [2, 3, 4, 5, 5, 5]),
    ],
)
def test_bands_move_and_the_edge_band_is_repeated(number, expected):
    features = np.random.default_rng(0).normal(size=(2, 1, 4, 6)).astype(np.float32)
    shifted = augment_features.shift_bands(tf.constant(features), tf.constant([0.5, number]), 2).numpy()
    np.testing.assert_array_equal(shifted[0], features[0])  # each clip by its own random number
    np.testing.assert_array_equal(shifted[1], features[1][..., expected])


def test_all_band_shifts_are_equally_likely():
    ramp = tf.tile(tf.range(20.0)[tf.newaxis, tf.newaxis, tf.newaxis], [700, 1, 1, 1])
    numbers = tf.constant((np.arange(700) + 0.5) / 700, tf.float32)
    by = augment_features.shift_bands(ramp, numbers, 3).numpy()[:, 0, 0, 10] - 10
    assert dict(zip(*np.unique(by, return_counts=True), strict=True)) == dict.fromkeys(range(-3, 4), 100)


# Mixup


def shares(config: AugmentConfig, count: int, mixup: float) -> np.ndarray:
    keys = tf.stack([tf.range(count), tf.range(count) * 7 + 1], 1)
    draws = {"mixup": tf.constant(mixup)}
    each = tf.function(
        lambda: tf.map_fn(
            lambda key: augment_features.mixup_share(draws, key, config), keys, fn_output_signature=tf.float32
        )
    )
    return each().numpy()


def test_mixup_shares_have_the_beta_distribution():
    sample = shares(AugmentConfig(mixup_alpha=0.4, mixup_probability=0.5), 2000, mixup=0.49)
    assert scipy.stats.kstest(sample, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
    assert sample.mean() == pytest.approx(0.5, abs=0.04)
    assert sample.std() == pytest.approx(scipy.stats.beta(0.4, 0.4).std(), abs=0.02)


def test_mixup_has_its_probability():
    np.testing.assert_array_equal(shares(AugmentConfig(mixup_alpha=0.4, mixup_probability=0.5), 5, mixup=0.5), 1.0)
    np.testing.assert_array_equal(shares(AugmentConfig(), 5, mixup=0.0), 1.0)


def test_mixup_shares_of_a_small_alpha_are_finite():
    sample = shares(AugmentConfig(mixup_alpha=0.01, mixup_probability=1.0), 500, mixup=0.0)
    assert ((sample >= 0) & (sample <= 1)).all()


def batch(masks: list[list[int]]) -> dict[str, np.ndarray]:
    mask = np.array(masks, np.float32)[:, np.newaxis]
    values = np.random.default_rng(0).normal(size=(*mask.shape, 3)).astype(np.float32)
    return {"spectrogram": values * mask[..., np.newaxis], "spectrogram_mask": mask}


def mix(inputs, shares) -> dict[str, np.ndarray]:
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    mixed = augment_features.mix(inputs, tf.constant(shares, tf.float32))
    return {name: value.numpy() for name, value in mixed.items()}


def mix_values(values, shares) -> np.ndarray:
    return augment_features.mix_values(tf.constant(values, tf.float32), tf.constant(shares, tf.float32)).numpy()


def test_mix_is_the_weighted_mean_where_both_have_frames():
    inputs = batch([[1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    share = np.array([0.25, 1.0, 0.6], np.float32)
    result = mix(inputs, share)
    values, mask = inputs["spectrogram"], inputs["spectrogram_mask"]
    for clip in range(3):
        for frame in range(4):
            own, other = values[clip, 0, frame], values[clip - 1, 0, frame]
            has_own, has_other = mask[clip, 0, frame], mask[clip - 1, 0, frame] * (share[clip] < 1)
            if has_own and has_other:
                expected = share[clip] * own + (1 - share[clip]) * other
            else:  # One of them, not mixed, or none.
                expected = has_own * own + has_other * other
            np.testing.assert_allclose(result["spectrogram"][clip, 0, frame], expected, atol=1e-6)
            assert result["spectrogram_mask"][clip, 0, frame] == max(has_own, has_other)


def test_mixed_labels_and_weights_have_the_shares():
    labels = mix_values(np.eye(3), [0.25, 1.0, 0.6])
    np.testing.assert_allclose(labels, [[0.25, 0, 0.75], [0, 1, 0], [0, 0.4, 0.6]], atol=1e-6)
    weights = mix_values([[4.0], [1.0], [2.0]], [0.25, 1.0, 0.6])
    np.testing.assert_allclose(weights, [[0.25 * 4 + 0.75 * 2], [1], [0.6 * 2 + 0.4 * 1]], atol=1e-6)


def test_targets_of_a_masked_loss_keep_the_two_clips_apart():
    """Their corpora may have other emotions; the first clip of the batch is mixed with the last."""
    labels = np.eye(3, dtype=np.float32)
    masks = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], np.float32)
    shares = [0.25, 1.0, 0.6]
    targets = augment_features.mixed_targets(*map(tf.constant, (labels, masks, np.float32(shares)))).numpy()
    own, own_mask, other, other_mask = np.split(targets, 4, axis=1)
    np.testing.assert_allclose(own, [[0.25, 0, 0], [0, 1, 0], [0, 0, 0.6]], atol=1e-6)
    np.testing.assert_allclose(other, [[0, 0, 0.75], [0, 0, 0], [0, 0.4, 0]], atol=1e-6)
    np.testing.assert_array_equal(own_mask, masks)
    np.testing.assert_array_equal(other_mask, masks[[2, 0, 1]])
    np.testing.assert_allclose(own + other, mix_values(labels, shares), atol=1e-6)


def test_shares_of_1_and_0_give_one_clip_or_the_other():
    inputs = batch([[1, 0, 1], [0, 1, 1]])
    labels = np.eye(2, dtype=np.float32)
    same, same_labels = mix(inputs, [1.0, 1.0]), mix_values(labels, [1.0, 1.0])
    other, other_labels = mix(inputs, [0.0, 0.0]), mix_values(labels, [0.0, 0.0])
    for name, value in inputs.items():
        np.testing.assert_array_equal(same[name], value)
        np.testing.assert_array_equal(other[name], value[::-1])
    np.testing.assert_array_equal(same_labels, labels)
    np.testing.assert_array_equal(other_labels, labels[::-1])


def test_a_clip_alone_in_its_batch_is_mixed_with_itself():
    inputs = batch([[1, 1, 0]])
    np.testing.assert_allclose(mix(inputs, [0.3])["spectrogram"], inputs["spectrogram"], atol=1e-6)
    np.testing.assert_allclose(mix_values(np.eye(1), [0.3]), [[1.0]])
