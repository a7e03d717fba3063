"""Epochs lose no clip and repeat none, a run that goes on sees what an unbroken one sees, evaluation is in order."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from emokeras.config import AugmentConfig, CnnConfig, Config, RecurrentConfig, override
from emokeras.data import augment, features, pipeline

RATE = 8000
PLAIN = override(
    Config("tiny", {"spectrogram": CnnConfig()}, augment=AugmentConfig()),
    {
        "audio.sample_rate_hz": RATE,
        "audio.window_seconds": 0.24,
        "audio.num_windows": 2,
        "spectrogram.high_hz": 4000,
        "spectrogram.fft_size": 256,
        "spectrogram.hop_seconds": 0.02,
        "spectrogram.num_bands": 8,
        "training.batch_size": 4,
        "training.epochs": 3,
    },
)
EVERYTHING = replace(
    PLAIN,
    augment=AugmentConfig(
        speed_change=0.1,
        shift_seconds=0.02,
        gain_decibels=6.0,
        noise_probability=0.5,
        mixup_alpha=0.4,
        mixup_probability=0.7,
        band_shift_bands=2,
        vocal_tract_change=0.1,
        equalization_decibels=6.0,
        reverberation_probability=0.3,
        num_time_masks=1,
        crop_share=0.3,
    ),
)
WINDOW = (12, 8)  # frames, bands


def clips(count: int) -> list[np.ndarray]:
    """Return bursts of noise of many lengths, from shorter than a window to longer, some with silence around."""
    random = np.random.default_rng(count)
    waveforms = []
    for number in range(count):
        sound = random.normal(scale=0.05 * (1 + number % 3), size=800 + 331 * (number % 9))
        waveforms.append(np.pad(sound, (0, 0) if number % 2 else (400, 700)).astype(np.float32))
    return waveforms


def train(waveforms, config, labels=None, weights=None, first_epoch=0):
    """Return all batches as NumPy; by default each clip is its own class, so that a label tells which clip it is."""
    labels = np.arange(len(waveforms)) if labels is None else labels
    weights = np.ones(labels.max() + 1) if weights is None else weights
    return list(training_dataset(waveforms, labels, config, weights, first_epoch).as_numpy_iterator())


def training_dataset(waveforms, labels, config, weights, *others, **more):
    """Call the pipeline with one-hot labels."""
    one_hot = {"emotion": np.eye(len(weights))[labels]}
    return pipeline.training_dataset(waveforms, one_hot, config, weights, *others, **more)


def epochs_of_clips(batches, steps: int) -> list[list[int]]:
    numbers = [batch[1]["emotion"].argmax(axis=1).tolist() for batch in batches]
    starts = range(0, len(numbers), steps)
    return [list(itertools.chain(*numbers[start : start + steps])) for start in starts]


def assert_equal_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        tf.nest.assert_same_structure(batch, other)
        for value, expected in zip(tf.nest.flatten(batch), tf.nest.flatten(other), strict=True):
            np.testing.assert_array_equal(value, expected)


# Training: which clips, in which order


def test_an_epoch_holds_every_clip_once_where_batches_divide_them():
    epochs = epochs_of_clips(train(clips(12), PLAIN), steps=3)
    assert len(epochs) == 3
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))


def test_an_epoch_holds_no_clip_twice_and_leaves_out_others_each_time():
    waveforms = clips(11)
    config = override(PLAIN, {"training.epochs": 8})
    assert pipeline.steps_per_epoch(11, config) == 2
    epochs = epochs_of_clips(train(waveforms, config), steps=2)
    assert len(epochs) == 8
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 8
    assert set(itertools.chain(*epochs)) == set(range(11))


def test_every_epoch_has_another_order():
    epochs = epochs_of_clips(train(clips(12), PLAIN), steps=3)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(range(12)) not in epochs


def test_the_order_is_the_one_epoch_order_tells():
    epochs = epochs_of_clips(train(clips(11), PLAIN), steps=2)
    assert epochs == [pipeline.epoch_order(11, epoch, PLAIN).numpy().tolist() for epoch in range(3)]


@pytest.mark.parametrize("count", [1, 3])
def test_a_corpus_smaller_than_a_batch_is_one_batch(count):
    batches = train(clips(count), EVERYTHING)
    assert len(batches) == 3
    assert pipeline.steps_per_epoch(count, EVERYTHING) == 1
    for inputs, labels, weights in batches:
        assert inputs["spectrogram"].shape == (count, *WINDOW)
        assert labels["emotion"].shape == (count, count)
        assert weights["emotion"].shape == (count,)
    plain = epochs_of_clips(train(clips(count), PLAIN), steps=1)
    assert all(sorted(epoch) == list(range(count)) for epoch in plain)


# Training: what a clip becomes


def test_a_training_window_is_what_extract_gives_at_the_position_drawn():
    waveforms = clips(8)
    for (inputs, labels, _), epoch in zip(train(waveforms, PLAIN), (0, 0, 1, 1, 2, 2), strict=True):
        for row, clip in enumerate(labels["emotion"].argmax(axis=1)):
            drawn, _ = augment.draw(PLAIN.experiment.seed, tf.constant(epoch, tf.int64), tf.constant(clip, tf.int64))
            position = tf.reshape(drawn["crop"], [1, 1])
            alone = features.extract(waveforms[clip][np.newaxis], PLAIN, position)
            for name in alone:
                np.testing.assert_allclose(inputs[name][row], alone[name][0, 0], atol=1e-4)


def test_batches_have_the_shapes_a_network_takes():
    inputs, labels, weights = train(clips(8), EVERYTHING)[0]
    assert {name: (value.shape, value.dtype) for name, value in inputs.items()} == {
        "spectrogram": ((4, *WINDOW), np.float32),
        "spectrogram_mask": ((4, WINDOW[0]), np.float32),
    }
    assert labels["emotion"].shape == (4, 8)
    assert weights["emotion"].shape == (4,)


def test_padding_stays_zero_under_augmentation():
    for inputs, _, _ in train(clips(12), EVERYTHING):
        mask = inputs["spectrogram_mask"]
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert (inputs["spectrogram"][mask == 0] == 0).all()
        assert (inputs["spectrogram"][mask == 1] != 0).all()
        assert (mask.sum(axis=1) > 0).all()


def test_augmentation_changes_the_features_anew_each_epoch():
    waveforms = clips(4)
    gain = replace(PLAIN, augment=AugmentConfig(gain_decibels=6.0), audio=replace(PLAIN.audio, window_seconds=0.6))
    plain = train(waveforms, replace(gain, augment=AugmentConfig()))
    differences = []
    for (inputs, labels, _), (before, same_labels, _) in zip(train(waveforms, gain), plain, strict=True):
        np.testing.assert_array_equal(labels["emotion"], same_labels["emotion"])
        for row in range(4):
            heard = inputs["spectrogram_mask"][row] == 1
            difference = (inputs["spectrogram"][row] - before["spectrogram"][row])[heard]
            assert difference.max() - difference.min() < 1e-2  # A gain moves all decibels alike ...
            differences.append(difference.mean())
    assert len(np.unique(np.round(differences, 3))) == 12  # ... and is drawn for each clip and epoch.
    assert max(np.abs(differences)) <= 6.001


def test_noise_does_not_move_where_a_clip_is_active():
    waveforms = clips(8)
    loud = AugmentConfig(noise_probability=1.0, noise_snr_decibels=(0.0, 0.0))
    noisy, plain = train(waveforms, replace(PLAIN, augment=loud)), train(waveforms, PLAIN)
    for (inputs, _, _), (before, _, _) in zip(noisy, plain, strict=True):
        np.testing.assert_array_equal(inputs["spectrogram_mask"], before["spectrogram_mask"])
        assert np.abs(inputs["spectrogram"] - before["spectrogram"]).max() > 0.1


def test_a_noisy_variant_is_active_where_the_clip_is():
    own = clips(8)
    random = np.random.default_rng(0)
    noisy = [[waveform + random.normal(scale=0.05, size=len(waveform)).astype(np.float32)] for waveform in own]
    config = replace(PLAIN, augment=AugmentConfig(variants=("noise",)))
    heard = list(training_dataset(own, np.arange(8), config, np.ones(8), variants=noisy).as_numpy_iterator())
    different = 0
    for (inputs, _, _), (plain, _, _) in zip(heard, train(own, PLAIN), strict=True):
        np.testing.assert_array_equal(inputs["spectrogram_mask"], plain["spectrogram_mask"])
        different += (np.abs(inputs["spectrogram"] - plain["spectrogram"]).max(axis=(1, 2)) > 0.1).sum()
    assert 8 <= different <= 16  # of 24, three epochs of eight clips


# Training: labels and weights


def test_labels_are_one_hot_and_weights_those_of_their_emotions():
    labels = np.array([0, 1, 2, 0, 1, 0, 0, 2])
    weights = np.array([0.5, 1.5, 3.0])
    for _, target, weight in train(clips(8), PLAIN, labels, weights):
        assert sorted(np.unique(target["emotion"])) == [0, 1]
        np.testing.assert_array_equal(target["emotion"].sum(axis=1), 1)
        np.testing.assert_allclose(weight["emotion"], weights[target["emotion"].argmax(axis=1)])


def test_after_mixup_labels_sum_to_one_and_weights_are_mixed_alike():
    labels = np.array([0, 1, 2, 0, 1, 0, 0, 2])
    weights = np.array([0.5, 1.5, 3.0])
    mixed = 0
    for _, target, weight in train(clips(8), EVERYTHING, labels, weights):
        np.testing.assert_allclose(target["emotion"].sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(weight["emotion"], target["emotion"] @ weights, rtol=1e-5)
        mixed += (target["emotion"].max(axis=1) < 0.999).sum()
    assert 1 <= mixed < 24


def test_a_mixed_batch_is_the_mix_of_the_plain_one():
    waveforms = clips(8)
    mixup = replace(PLAIN, augment=AugmentConfig(mixup_alpha=0.4, mixup_probability=1.0))
    for (inputs, labels, _), (before, one_hot, _) in zip(train(waveforms, mixup), train(waveforms, PLAIN), strict=True):
        share = (labels["emotion"] * one_hot["emotion"]).sum(axis=1)[:, np.newaxis, np.newaxis]
        neighbour = np.roll(before["spectrogram"], 1, axis=0)
        both = (before["spectrogram_mask"] * np.roll(before["spectrogram_mask"], 1, axis=0)) == 1
        expected = share * before["spectrogram"] + (1 - share) * neighbour
        np.testing.assert_allclose(inputs["spectrogram"][both], expected[both], atol=1e-3)
        np.testing.assert_allclose(
            labels["emotion"],
            share[:, 0] * one_hot["emotion"] + (1 - share[:, 0]) * np.roll(one_hot["emotion"], 1, axis=0),
            atol=1e-6,
        )


# Training: the same again


def test_one_seed_gives_one_sequence_of_batches():
    waveforms = clips(11)
    assert_equal_batches(train(waveforms, EVERYTHING), train(waveforms, EVERYTHING))


def test_another_seed_gives_another_order_and_other_draws():
    waveforms = clips(12)
    other = override(EVERYTHING, {"experiment.seed": 1})
    assert (
        pipeline.epoch_order(12, 0, other).numpy().tolist() != pipeline.epoch_order(12, 0, EVERYTHING).numpy().tolist()
    )
    for (inputs, _, _), (others, _, _) in zip(train(waveforms, EVERYTHING), train(waveforms, other), strict=True):
        assert not np.array_equal(inputs["spectrogram"], others["spectrogram"])


def test_the_split_seed_draws_nothing_here():
    waveforms = clips(8)
    assert_equal_batches(
        train(waveforms, EVERYTHING), train(waveforms, override(EVERYTHING, {"experiment.split_seed": 5}))
    )


@pytest.mark.parametrize("first_epoch", [1, 2])
def test_starting_at_a_later_epoch_is_going_on_with_an_unbroken_run(first_epoch):
    waveforms = clips(11)
    whole = train(waveforms, EVERYTHING)
    assert_equal_batches(train(waveforms, EVERYTHING, first_epoch=first_epoch), whole[2 * first_epoch :])


def test_nothing_is_left_after_the_last_epoch():
    assert train(clips(8), PLAIN, first_epoch=3) == []


# Evaluation


@pytest.mark.parametrize("count", [1, 4, 10])
def test_evaluation_loses_no_clip_and_keeps_their_order(count, monkeypatch):
    monkeypatch.setattr(pipeline, "EVALUATION_BATCH", 4)
    waveforms = clips(count)
    dataset = pipeline.evaluation_dataset(waveforms, PLAIN)
    assert sum(len(batch["spectrogram"]) for batch in dataset) == count
    inputs = pipeline.stack(dataset)
    assert inputs["spectrogram"].shape == (count, 2, *WINDOW)
    for number, waveform in enumerate(waveforms):
        alone = features.extract(waveform[np.newaxis], PLAIN)
        np.testing.assert_array_equal(inputs["spectrogram_mask"][number], alone["spectrogram_mask"][0])
        np.testing.assert_allclose(inputs["spectrogram"][number], alone["spectrogram"][0], atol=1e-4)


def test_more_clips_than_a_batch_are_all_evaluated():
    count = 2 * pipeline.EVALUATION_BATCH + 3
    levels = np.linspace(0.1, 0.9, count)
    inputs = pipeline.stack(pipeline.evaluation_dataset([np.full(900, level, np.float32) for level in levels], PLAIN))
    assert len(inputs["spectrogram"]) == count
    loudest = inputs["spectrogram"].max(axis=(1, 2, 3), initial=-200, where=inputs["spectrogram_mask"][..., None] == 1)
    assert (np.diff(loudest) > 0).all()


def test_augmentation_never_touches_evaluation():
    waveforms = clips(5)
    plain = pipeline.stack(pipeline.evaluation_dataset(waveforms, PLAIN))
    for name, value in pipeline.stack(pipeline.evaluation_dataset(waveforms, EVERYTHING)).items():
        np.testing.assert_array_equal(value, plain[name])


def test_waveforms_of_many_lengths_are_kept_apart():
    waveforms = [np.arange(3, dtype=np.float32), np.array([7], np.float32), np.arange(5, dtype=np.float32)]
    store = pipeline.Waveforms(waveforms)
    assert len(store) == 3
    for number, waveform in enumerate(waveforms):
        np.testing.assert_array_equal(store[tf.constant(number, tf.int64)], waveform)


# Variants and words


def test_a_clip_sounds_as_itself_or_as_one_of_its_variants_in_training():
    """Tones of one level each: what a batch holds tells which waveform it was made of."""
    config = override(PLAIN, {"training.epochs": 40})
    moments = np.arange(4000) / RATE
    own = [np.sin(2 * np.pi * 500 * moments).astype(np.float32) * level for level in (0.5, 0.25, 0.125, 0.0625)]
    variants = [[waveform / 1000, waveform / 2000] for waveform in own]  # 60 and 66 dB less
    one_hot = np.arange(4)
    batches = training_dataset(own, one_hot, config, np.ones(4), variants=variants).as_numpy_iterator()
    plain = pipeline.stack(pipeline.evaluation_dataset(own, config))["spectrogram"].max(axis=(1, 2, 3))
    heard = {clip: [] for clip in range(4)}
    for inputs, labels, _ in batches:
        for spectrogram, label in zip(inputs["spectrogram"], labels["emotion"], strict=True):
            heard[int(label.argmax())].append(plain[label.argmax()] - spectrogram.max())
    for clip, losses in heard.items():
        counts = [sum(abs(loss - expected) < 1.5 for loss in losses) for expected in (0, 60, 66)]
        assert sum(counts) == len(losses) == 40, (clip, losses)
        assert min(counts) >= 5  # Each is drawn one time in three.


def test_tokens_stand_beside_their_clip():
    both = override(
        Config(
            "both", PLAIN.encoders | {"tokens": RecurrentConfig()}, audio=PLAIN.audio, spectrogram=PLAIN.spectrogram
        ),
        {"training.batch_size": 4, "training.epochs": 2, "tokens.max_words": 3},
    )
    waveforms, tokens = clips(8), np.arange(24).reshape(8, 3)
    dataset = training_dataset(waveforms, np.arange(8), both, np.ones(8), ready={"tokens": tokens})
    for inputs, labels, _ in dataset.as_numpy_iterator():
        assert set(inputs) == {"spectrogram", "spectrogram_mask", "tokens"}
        np.testing.assert_array_equal(inputs["tokens"], tokens[labels["emotion"].argmax(axis=1)])
    served = pipeline.stack(pipeline.evaluation_dataset(waveforms, both, {"tokens": tokens}))
    assert served["tokens"].shape == (8, both.num_windows, 3)
    np.testing.assert_array_equal(served["tokens"], np.repeat(tokens[:, np.newaxis], both.num_windows, axis=1))


def test_a_network_that_only_reads_needs_no_sound():
    reading = override(Config("text", {"tokens": RecurrentConfig()}), {"training.batch_size": 4, "training.epochs": 1})
    tokens = np.arange(48).reshape(8, 6)
    (first, second) = training_dataset([], np.arange(8), reading, np.ones(8), ready={"tokens": tokens})
    assert set(first[0]) == {"tokens"}
    seen = np.concatenate([first[0]["tokens"], second[0]["tokens"]])
    np.testing.assert_array_equal(np.sort(seen, axis=0), tokens)
    np.testing.assert_array_equal(
        pipeline.stack(pipeline.evaluation_dataset([], reading, {"tokens": tokens}))["tokens"][:, 0], tokens
    )
