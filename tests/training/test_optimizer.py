"""The optimizer, its schedule and weight decay, the loss, and the weights of the emotions in it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from emokeras.config import TrainingConfig
from emokeras.data.augment_features import mix_values, mixed_targets
from emokeras.training.optimizer import (
    MaskedCrossEntropy,
    clip_weights,
    compile_model,
    masked_accuracy,
    set_precision,
)


def compiled(config, steps_per_epoch=10, is_masked=False):
    inputs = keras.Input((4,))
    frames = keras.layers.BatchNormalization()(keras.layers.Dense(5)(inputs))
    model = keras.Model(inputs, {"emotion": keras.layers.Dense(3, name="emotion")(frames)})
    compile_model(model, config, steps_per_epoch, is_masked)
    return model


def test_cosine_schedule_rises_over_the_warm_up_and_ends_at_zero():
    config = TrainingConfig(epochs=20, learning_rate=0.01, warmup_epochs=2, schedule="cosine")
    model = compiled(config)
    rates = []
    for step in range(201):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    assert rates[0] == pytest.approx(1e-4)
    assert rates[20] == pytest.approx(0.01) == max(rates)
    assert rates[110] == pytest.approx(0.005, rel=1e-3)  # half-way down, between step 20 and 200
    assert rates[200] == pytest.approx(0, abs=1e-6)


def test_constant_schedule_is_constant():
    model = compiled(TrainingConfig(learning_rate=0.02, schedule="constant", optimizer="sgd"))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weight_decay_is_of_kernels_only(optimizer):
    config = TrainingConfig(optimizer=optimizer, schedule="constant", learning_rate=0.1, weight_decay=0.5)
    model = compiled(config)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    model.optimizer.apply([np.zeros(variable.shape, np.float32) for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        expected = 0.95 if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)


def test_muon_orthogonalizes_the_step_of_a_convolution_and_updates_the_rest_like_adamw():
    inputs = keras.Input((9, 4))
    frames = keras.layers.Conv1D(6, 3, padding="same")(inputs)
    model = keras.Model(inputs, {"emotion": keras.layers.Dense(3, name="emotion")(frames[:, 0])})
    before = [variable.numpy() for variable in model.trainable_variables]
    random = np.random.default_rng(0)
    gradients = [random.normal(size=value.shape).astype(np.float32) for value in before]

    def steps_of(optimizer: str, traced: bool = False) -> list[np.ndarray]:
        for variable, value in zip(model.trainable_variables, before, strict=True):
            variable.assign(value)
        config = TrainingConfig(optimizer=optimizer, schedule="constant", learning_rate=0.01, weight_decay=0)
        compile_model(model, config, 10)
        (tf.function(model.optimizer.apply) if traced else model.optimizer.apply)(gradients)
        return [variable.numpy() - value for variable, value in zip(model.trainable_variables, before, strict=True)]

    muon = steps_of("muon")

    step, gradient = muon[0].reshape(12, 6), gradients[0].reshape(12, 6)
    sizes = np.linalg.svd(step, compute_uv=False) / (0.01 * 0.2 * 12**0.5)  # Liu et al.'s factor is 0.2 √12 here.
    assert np.ptp(np.linalg.svd(gradient, compute_uv=False)) > 2
    assert sizes.min() > 0.68  # Five Newton-Schulz iterations bring singular values to 0.7 to 1.2.
    assert sizes.max() < 1.21
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    assert np.vdot(step, -left @ right) / np.linalg.norm(step) / 6**0.5 > 0.98  # the gradient's polar factor, downhill
    for own, adamw in zip(muon[1:], steps_of("adamw")[1:], strict=True):
        np.testing.assert_allclose(own, adamw, rtol=1e-4, atol=1e-7)
    for own, in_graph in zip(muon, steps_of("muon", traced=True), strict=True):
        np.testing.assert_allclose(own, in_graph, rtol=1e-3, atol=1e-6)


def test_accumulated_batches_make_one_update_of_their_mean_gradient():
    config = TrainingConfig(optimizer="sgd", schedule="constant", learning_rate=0.1, clip_norm=0.0)
    model = compiled(replace(config, accumulated_batches=2))
    before = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.apply([np.full(variable.shape, 1.0, np.float32) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    model.optimizer.apply([np.full(variable.shape, 3.0, np.float32) for variable in model.trainable_variables])
    # Nesterov's first step is 1 + momentum times the rate; the mean gradient is 2.
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable, value - 0.1 * 1.9 * 2.0, rtol=1e-5, atol=1e-6)


def test_schedules_count_batches_whether_gradients_are_accumulated_or_not():
    config = TrainingConfig(optimizer="adam", epochs=1, learning_rate=0.1, warmup_epochs=0, accumulated_batches=2)
    model = compiled(config, steps_per_epoch=4)
    for _ in range(2):
        model.optimizer.apply([np.zeros(variable.shape, np.float32) for variable in model.trainable_variables])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)  # half-way through four batches


def test_loss_takes_logits_and_smooths_labels():
    model = compiled(TrainingConfig(label_smoothing=0.1))
    logits, labels = np.array([[2.0, -1.0, 0.5]]), np.array([[1.0, 0.0, 0.0]])
    smooth = labels * 0.9 + 0.1 / 3
    expected = -(smooth * (logits - np.log(np.exp(logits).sum()))).sum()
    loss = model.loss["emotion"](labels, logits)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


# The loss of corpora that differ in emotions

# Of five emotions, a corpus has the first three, another the last four, and a third one all.
MASKS = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], np.float32)


@pytest.fixture
def batch():
    """Return labels, masks, shares and logits of six clips of the three corpora in turn; four are mixed with the clip
    before, of another corpus."""
    random = np.random.default_rng(0)
    masks = MASKS[np.arange(6) % 3]
    labels = np.eye(5, dtype=np.float32)[[0, 4, 3, 2, 1, 0]]
    shares = np.array([0.3, 1.0, 0.8, 0.5, 1.0, 0.01], np.float32)
    return labels, masks, shares, random.normal(scale=3, size=(6, 5)).astype(np.float32)


def masked_targets(labels, masks, shares) -> np.ndarray:
    return mixed_targets(*map(tf.constant, (labels, masks, shares))).numpy()


def masked_cross_entropy(labels, masks, shares, logits, smoothing) -> np.ndarray:
    """Return the loss of each clip, float64 [clips], computed clip by clip over the emotions of its corpus."""
    losses = []
    for number, share in enumerate(np.float64(shares)):
        loss = 0.0
        for part, clip in ((share, number), (1 - share, number - 1)):
            has = masks[clip] > 0
            own = np.float64(logits[number][has])  # Of the mixture, among the emotions of this clip's corpus.
            target = (1 - smoothing) * labels[clip][has] + smoothing / has.sum()
            loss -= part * target @ (own - np.log(np.exp(own).sum()))
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_masked_loss_is_over_the_emotions_of_each_clip_s_corpus(batch, smoothing):
    *clips, logits = batch
    loss = MaskedCrossEntropy(smoothing, reduction="none")(masked_targets(*clips), logits)
    np.testing.assert_allclose(loss, masked_cross_entropy(*clips, logits, smoothing), rtol=1e-5)
    mean = MaskedCrossEntropy(smoothing)(masked_targets(*clips), logits)
    assert float(mean) == pytest.approx(masked_cross_entropy(*clips, logits, smoothing).mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_emotion_that_a_corpus_lacks_gets_no_gradient_from_its_clips(batch, smoothing):
    labels, masks, shares, logits = batch
    logits[0, 3] = 50.0  # However probable it is.

    def gradient_of(shares):
        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            loss = MaskedCrossEntropy(smoothing)(masked_targets(labels, masks, shares), variable)
        return tape.gradient(loss, variable).numpy()

    alone = gradient_of(np.ones(6, np.float32))
    np.testing.assert_array_equal(alone == 0, masks == 0)
    mixed = gradient_of(shares)
    is_known = (masks > 0) | ((shares < 1)[:, np.newaxis] & (np.roll(masks, 1, axis=0) > 0))
    np.testing.assert_array_equal(mixed == 0, ~is_known)
    assert not is_known.all()
    np.testing.assert_allclose(mixed.sum(axis=1), 0, atol=1e-6)  # What the known ones lose, others of them gain.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_where_all_corpora_have_all_emotions_it_is_the_plain_loss(batch, smoothing):
    labels, _, shares, logits = batch
    targets = masked_targets(labels, np.ones_like(labels), shares)
    masked = MaskedCrossEntropy(smoothing, reduction="none")(targets, logits)
    plain = keras.losses.CategoricalCrossentropy(True, smoothing, reduction="none")
    mixed = mix_values(tf.constant(labels), tf.constant(shares))
    np.testing.assert_allclose(masked, plain(mixed, logits), atol=1e-6)
    weights = np.arange(1, 7, dtype=np.float32)
    with_weights = keras.losses.CategoricalCrossentropy(True, smoothing)(mixed, logits, weights)
    assert float(MaskedCrossEntropy(smoothing)(targets, logits, weights)) == pytest.approx(
        float(with_weights), rel=1e-6
    )


def test_masked_accuracy_is_of_the_emotion_with_the_larger_share_among_all(batch):
    labels, masks, *_ = batch
    shares = np.array([0.4, 1.0, 0.6, 0.9, 1.0, 0.2], np.float32)
    larger = np.where((shares > 0.5)[:, np.newaxis], labels, np.roll(labels, 1, axis=0)).argmax(axis=1)
    predicted = larger.copy()
    predicted[[1, 3]] = 0, 4  # The corpora of these clips do not have these emotions.
    logits = np.eye(5, dtype=np.float32)[predicted]
    found = masked_accuracy(masked_targets(labels, masks, shares), logits)
    np.testing.assert_array_equal(found, [1, 0, 1, 0, 1, 1])


def test_a_model_is_compiled_with_the_masked_loss_and_its_accuracy_and_saved_with_them(batch, tmp_path):
    labels, masks = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], np.float32([[1, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]])
    targets = masked_targets(labels, masks, np.float32([0.7, 1.0, 0.2, 0.9]))
    model = compiled(TrainingConfig(label_smoothing=0.2, optimizer="sgd"), is_masked=True)
    inputs = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    expected = model.evaluate(inputs, {"emotion": targets}, return_dict=True, verbose=0)
    logits = model.predict(inputs, verbose=0)["emotion"]
    losses = masked_cross_entropy(labels, masks, [0.7, 1.0, 0.2, 0.9], logits, 0.2)
    assert expected["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert expected["accuracy"] == np.mean(masked_accuracy(targets, logits))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss["emotion"].label_smoothing == 0.2
    assert again.evaluate(inputs, {"emotion": targets}, return_dict=True, verbose=0) == pytest.approx(expected)


# The weight of each clip


def test_clip_weights_of_one_corpus_are_scikit_learn_s_balanced_ones():
    labels = np.array([0] * 10 + [1] * 30 + [2] * 5)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = clip_weights(labels, [""] * 45, TrainingConfig())
    np.testing.assert_allclose(weights, expected[labels])
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_array_equal(clip_weights(labels, [""] * 45, TrainingConfig(class_weights=False)), 1)


def test_an_emotion_without_training_clips_does_not_shift_the_others():
    labels = np.array([0] * 4 + [2] * 4)
    np.testing.assert_allclose(clip_weights(labels, ["own"] * 8, TrainingConfig()), 1)


@pytest.mark.parametrize("balanced", [True, False])
def test_corpora_have_the_same_total_weight_and_so_have_the_emotions_of_each(balanced):
    """The clips of two corpora in random order: 100 and 20, of three emotions and of two."""
    random = np.random.default_rng(0)
    pairs = [("large", 0)] * 70 + [("large", 1)] * 20 + [("large", 3)] * 10 + [("small", 1)] * 4 + [("small", 2)] * 16
    corpora, labels = zip(*(pairs[number] for number in random.permutation(120)), strict=True)
    corpora, labels = np.array(corpora), np.array(labels)
    weights = clip_weights(labels, list(corpora), TrainingConfig(class_weights=balanced))
    assert weights.mean() == pytest.approx(1)
    for corpus, own_emotions in (("large", (0, 1, 3)), ("small", (1, 2))):
        own = corpora == corpus
        assert weights[own].sum() == pytest.approx(60)
        if not balanced:
            assert np.ptp(weights[own]) == 0
            continue
        for emotion in own_emotions:
            assert weights[own & (labels == emotion)].sum() == pytest.approx(60 / len(own_emotions))
            assert np.ptp(weights[own & (labels == emotion)]) == 0


def test_mixed_precision_on_a_cpu_stays_float32_and_is_reported():
    lines = []
    set_precision(TrainingConfig(mixed_precision=True), lines.append)
    assert keras.config.dtype_policy().name == "float32"
    assert len(lines) == 1
    assert "float32" in lines[0]
