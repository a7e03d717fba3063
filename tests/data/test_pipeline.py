"""An epoch has no clip twice, a resumed run continues with the same batches, evaluation has every clip in order."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from emokeras.config import AugmentConfig, CnnConfig, Config, RecurrentConfig, override
from emokeras.data import augment, features, pipeline
from emokeras.data.activity import without_offset
from emokeras.data.frames import speech_samples, window_start

RATE = 8000
PLAIN = override(
    Config("tiny", {"spectrogram": CnnConfig()}, augment=AugmentConfig()),
    {
        "audio.sample_rate_hz": RATE,
        "audio.window_seconds": 0.24,
        "audio.window_step_seconds": 0.12,
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
        band_limit_probability=0.5,
        noise_slope_decibels=(-6.0, 0.0),
    ),
)
WINDOW = (12, 8)  # frames, bands
NUM_CLIPS = 11  # two batches of 4 in an epoch; 3 clips are left out


def clips(count: int) -> list[np.ndarray]:
    """Return bursts of noise, some shorter than a window and some longer, some with silence around."""
    random = np.random.default_rng(count)
    waveforms = []
    for number in range(count):
        samples = 800 + 331 * (number % 9)
        sound = random.normal(scale=0.05 * (1 + number % 3), size=samples) * np.sin(np.linspace(0.1, 3.0, samples))
        waveforms.append(np.pad(sound, (0, 0) if number % 2 else (400, 700)).astype(np.float32))
    return waveforms


def window_of(waveform: np.ndarray, position: tf.Tensor) -> dict[str, np.ndarray]:
    """Return the inputs of one window of PLAIN, with what the pipeline cuts and joins done at once."""
    waveform = without_offset(waveform[np.newaxis])
    speech = features.taken_speech(waveform, PLAIN)
    start = window_start(speech_samples(speech, PLAIN.audio), position, PLAIN.audio)
    inputs = features.extract(waveform, PLAIN, speech, start[:, tf.newaxis])
    return {name: value[0, 0].numpy() for name, value in inputs.items()}


def evaluated(waveforms, config, **more) -> dict[str, np.ndarray]:
    """Return the inputs of all windows of clips, of which each has one."""
    inputs, clips = pipeline.stack(pipeline.evaluation_dataset(waveforms, config, **more))
    assert clips.tolist() == list(range(len(clips)))
    return inputs


def train(waveforms, config, weights=None, **more):
    """Return all training batches as NumPy. Each clip is an emotion of its own, so that the label is its index."""
    count = max(len(given) for given in (waveforms, more.get("tokens", ()), more.get("speech", ())))
    weights = np.ones(count) if weights is None else weights
    return list(pipeline.training_dataset(waveforms, np.eye(count), config, weights, **more).as_numpy_iterator())


WEIGHTS = np.linspace(0.5, 3.0, NUM_CLIPS)


@pytest.fixture(scope="module")
def plain():
    """The batches of 3 epochs without augmentation: inputs, labels, weights."""
    return train(clips(NUM_CLIPS), PLAIN, WEIGHTS)


@pytest.fixture(scope="module")
def augmented():
    """The same with every kind of augmentation."""
    return train(clips(NUM_CLIPS), EVERYTHING, WEIGHTS)


def assert_equal_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        tf.nest.assert_same_structure(batch, other)
        for value, expected in zip(tf.nest.flatten(batch), tf.nest.flatten(other), strict=True):
            np.testing.assert_array_equal(value, expected)


# Training: the clips and their order


def order(count: int, epoch: int, config: Config = PLAIN) -> list[int]:
    return pipeline.epoch_order(count, epoch, config).numpy().tolist()


def test_an_epoch_has_every_clip_once_in_another_order():
    epochs = [order(12, epoch) for epoch in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3
    assert len({tuple(epoch) for epoch in [*epochs, range(12)]}) == 4


def test_clips_without_a_full_batch_differ_between_epochs():
    epochs = [order(NUM_CLIPS, epoch) for epoch in range(8)]
    assert pipeline.steps_per_epoch(NUM_CLIPS, PLAIN) == 2
    assert all(len(epoch) == len(set(epoch)) == 8 for epoch in epochs)
    assert set(itertools.chain(*epochs)) == set(range(NUM_CLIPS))


def test_the_batches_are_in_the_order_of_the_epochs(plain):
    found = np.concatenate([labels["emotion"].argmax(axis=1) for _, labels, _ in plain])
    assert found.tolist() == [clip for epoch in range(3) for clip in order(NUM_CLIPS, epoch)]


@pytest.mark.parametrize(("count", "config"), [(1, EVERYTHING), (3, PLAIN)], ids=["1", "3"])
def test_a_corpus_smaller_than_a_batch_is_one_batch(count, config):
    assert pipeline.steps_per_epoch(count, config) == 1
    batches = train(clips(count), config)
    assert len(batches) == 3
    for inputs, labels, weights in batches:
        assert inputs["spectrogram"].shape == (count, *WINDOW)
        np.testing.assert_allclose(labels["emotion"].sum(axis=0), 1.0)
        np.testing.assert_allclose(weights["emotion"], 1.0)


# Training: inputs


def test_a_training_window_is_the_one_at_its_random_position(plain):
    waveforms = clips(NUM_CLIPS)
    for (inputs, labels, _), epoch in zip(plain, (0, 0, 1, 1, 2, 2), strict=True):
        for row, clip in enumerate(labels["emotion"].argmax(axis=1)):
            draws, _ = augment.draw(PLAIN.experiment.seed, tf.constant(epoch, tf.int64), tf.constant(clip, tf.int64))
            for name, expected in window_of(waveforms[clip], draws["window"]).items():
                np.testing.assert_allclose(inputs[name][row], expected, atol=1e-4)


def test_batches_have_the_shapes_of_the_networks_input(augmented):
    inputs, labels, weights = augmented[0]
    assert {name: (value.shape, value.dtype) for name, value in inputs.items()} == {
        "spectrogram": ((4, *WINDOW), np.float32),
        "spectrogram_mask": ((4, WINDOW[0]), np.float32),
    }
    assert labels["emotion"].shape == (4, NUM_CLIPS)
    assert weights["emotion"].shape == (4,)


def test_padding_is_0_after_augmentation(augmented):
    for inputs, _, _ in augmented:
        mask = inputs["spectrogram_mask"]
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert (inputs["spectrogram"][mask == 0] == 0).all()
        assert (inputs["spectrogram"][mask == 1] != 0).all()
        assert (mask.sum(axis=1) > 0).all()


def test_each_clip_and_epoch_has_its_own_gain(plain):
    gain = replace(PLAIN, augment=AugmentConfig(gain_decibels=6.0))
    gains = []
    for (inputs, labels, _), (before, same_labels, _) in zip(train(clips(NUM_CLIPS), gain), plain, strict=True):
        np.testing.assert_array_equal(labels["emotion"], same_labels["emotion"])
        for row in range(4):
            valid = inputs["spectrogram_mask"][row] == 1
            difference = (inputs["spectrogram"][row] - before["spectrogram"][row])[valid]
            assert difference.max() - difference.min() < 1e-2
            gains.append(difference.mean())
    assert len(np.unique(np.round(gains, 3))) == 24
    assert max(np.abs(gains)) <= 6.001


def test_speech_is_sought_in_the_augmented_waveform():
    """As in serving. In noise 30 dB above the clips there is none: then all of a clip is taken, with its silence."""
    loud = AugmentConfig(noise_probability=1.0, noise_snr_decibels=(-30.0, -30.0))
    long = override(PLAIN, {"audio.window_seconds": 1.0})
    waveforms = clips(NUM_CLIPS)
    longer = 0
    for (inputs, labels, _), (before, _, _) in zip(
        train(waveforms, replace(long, augment=loud)), train(waveforms, long), strict=True
    ):
        for row, clip in enumerate(labels["emotion"].argmax(axis=1)):
            frames = len(waveforms[clip]) // 160 + 1
            assert inputs["spectrogram_mask"][row].sum() == pytest.approx(frames, abs=1)  # Noise has random ends.
            longer += before["spectrogram_mask"][row].sum() < frames - 3
    assert longer >= 6


def test_each_epoch_takes_the_clip_or_one_of_its_variants():
    """Tones of different levels show which waveform a batch was made of."""
    config = override(PLAIN, {"training.epochs": 40, "audio.window_seconds": 0.5, "audio.speech_decibels": 0.0})
    own = [
        np.sin(2 * np.pi * 500 * np.arange(3960) / RATE).astype(np.float32) * level for level in (0.5, 0.25, 0.1, 0.05)
    ]
    variants = [[waveform / 1000, waveform / 2000] for waveform in own]  # 60 and 66 dB less
    loudest = evaluated(own, config)["spectrogram"].max(axis=(1, 2))
    losses = {clip: [] for clip in range(4)}
    for inputs, labels, _ in train(own, config, variants=variants):
        for spectrogram, clip in zip(inputs["spectrogram"], labels["emotion"].argmax(axis=1), strict=True):
            losses[clip].append(loudest[clip] - spectrogram.max())
    for clip, found in losses.items():
        counts = [sum(abs(loss - expected) < 1.5 for loss in found) for expected in (0, 60, 66)]
        assert sum(counts) == len(found) == 40, (clip, found)
        assert min(counts) >= 5  # with probability 1/3 each


# Training: labels and weights


def test_labels_are_those_of_the_clips_and_weights_those_of_the_emotions(plain):
    for _, labels, weights in plain:
        assert sorted(np.unique(labels["emotion"])) == [0, 1]
        np.testing.assert_array_equal(labels["emotion"].sum(axis=1), 1)
        np.testing.assert_allclose(weights["emotion"], WEIGHTS[labels["emotion"].argmax(axis=1)])


def test_mixup_keeps_the_sum_of_labels_and_mixes_weights(augmented):
    mixed = 0
    for _, labels, weights in augmented:
        np.testing.assert_allclose(labels["emotion"].sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(weights["emotion"], labels["emotion"] @ WEIGHTS, rtol=1e-5)
        mixed += (labels["emotion"].max(axis=1) < 0.999).sum()
    assert 1 <= mixed < 24


def test_a_mixed_batch_is_the_mix_of_the_plain_one(plain):
    mixup = replace(PLAIN, augment=AugmentConfig(mixup_alpha=0.4, mixup_probability=1.0))
    for (inputs, labels, _), (before, one_hot, _) in zip(train(clips(NUM_CLIPS), mixup), plain, strict=True):
        share = (labels["emotion"] * one_hot["emotion"]).sum(axis=1)[:, np.newaxis, np.newaxis]
        neighbor = np.roll(before["spectrogram"], 1, axis=0)
        both = (before["spectrogram_mask"] * np.roll(before["spectrogram_mask"], 1, axis=0)) == 1
        expected = share * before["spectrogram"] + (1 - share) * neighbor
        np.testing.assert_allclose(inputs["spectrogram"][both], expected[both], atol=1e-3)
        np.testing.assert_allclose(
            labels["emotion"],
            share[:, 0] * one_hot["emotion"] + (1 - share[:, 0]) * np.roll(one_hot["emotion"], 1, axis=0),
            atol=1e-6,
        )


# Training: repeated and resumed


def test_the_seed_alone_determines_the_batches(augmented):
    """Not the split seed, nor what tf.data does in parallel."""
    again = train(clips(NUM_CLIPS), override(EVERYTHING, {"experiment.split_seed": 5}), WEIGHTS)
    assert_equal_batches(again, augmented)


def test_another_seed_gives_another_order_and_other_random_numbers(augmented):
    other = override(EVERYTHING, {"experiment.seed": 1})
    assert order(12, 0, other) != order(12, 0, EVERYTHING)
    for (inputs, _, _), (others, _, _) in zip(augmented, train(clips(NUM_CLIPS), other), strict=True):
        assert not np.array_equal(inputs["spectrogram"], others["spectrogram"])


def test_a_resumed_run_continues_with_the_same_batches(augmented):
    resumed = train(clips(NUM_CLIPS), EVERYTHING, WEIGHTS, first_epoch=1)
    assert_equal_batches(resumed, augmented[2:])


def test_there_are_no_batches_after_the_last_epoch():
    assert train(clips(NUM_CLIPS), PLAIN, first_epoch=3) == []


# Evaluation


@pytest.mark.parametrize("count", [1, 4, 10])
def test_evaluation_has_every_clip_in_order(count, monkeypatch):
    monkeypatch.setattr(pipeline, "EVALUATION_BATCH", 4)
    waveforms = clips(count)
    inputs, numbers = pipeline.stack(pipeline.evaluation_dataset(waveforms, PLAIN))
    assert len(inputs["spectrogram"]) == len(inputs["spectrogram_mask"]) == len(numbers)
    counts = np.bincount(numbers)
    assert len(counts) == count
    assert set(counts) == ({1, 2, 3} if count == 10 else set(counts))  # some shorter than a window, some longer
    for number, waveform in enumerate(waveforms):
        alone, weights = features.serving_inputs(PLAIN, {"waveform": waveform[np.newaxis]})
        assert weights.shape == (1, counts[number])
        own = {name: value[numbers == number] for name, value in inputs.items()}
        np.testing.assert_array_equal(own["spectrogram_mask"], alone["spectrogram_mask"][0])
        np.testing.assert_allclose(own["spectrogram"], alone["spectrogram"][0], atol=1e-4)


def test_evaluation_has_no_augmentation():
    waveforms = clips(5)
    plain = pipeline.stack(pipeline.evaluation_dataset(waveforms, PLAIN))
    inputs, numbers = pipeline.stack(pipeline.evaluation_dataset(waveforms, EVERYTHING))
    np.testing.assert_array_equal(numbers, plain.clips)
    for name, value in inputs.items():
        np.testing.assert_array_equal(value, plain.inputs[name])


@pytest.mark.parametrize("shape", [(), (2,)], ids=["waveforms", "frames"])
def test_arrays_of_different_lengths_are_kept_apart(shape):
    arrays = [np.random.default_rng(length).normal(size=(length, *shape)).astype(np.float16) for length in (3, 1, 5)]
    read = pipeline.frames_reader(arrays) if shape else pipeline.Store(arrays).__getitem__
    for number, array in enumerate(arrays):
        found = read(tf.constant(number, tf.int64))
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, array)


# Tokens


def test_tokens_are_joined_to_the_features_of_their_clip():
    both = replace(PLAIN, encoders=PLAIN.encoders | {"tokens": RecurrentConfig()})
    both = override(both, {"training.epochs": 2, "tokens.max_words": 3})
    waveforms, tokens = clips(8), np.arange(24).reshape(8, 3)
    for inputs, labels, _ in train(waveforms, both, tokens=tokens):
        assert set(inputs) == {"spectrogram", "spectrogram_mask", "tokens"}
        np.testing.assert_array_equal(inputs["tokens"], tokens[labels["emotion"].argmax(axis=1)])
    inputs, numbers = pipeline.stack(pipeline.evaluation_dataset(waveforms, both, tokens=tokens))
    assert len(numbers) > 8
    np.testing.assert_array_equal(inputs["tokens"], tokens[numbers])


def test_a_network_of_tokens_only_needs_no_waveforms():
    config = override(Config("text", {"tokens": RecurrentConfig()}), {"training.batch_size": 4, "training.epochs": 1})
    tokens = np.arange(48).reshape(8, 6)
    (first, second) = train([], config, tokens=tokens)
    assert set(first[0]) == {"tokens"}
    found = np.concatenate([first[0]["tokens"], second[0]["tokens"]])
    np.testing.assert_array_equal(np.sort(found, axis=0), tokens)
    np.testing.assert_array_equal(evaluated([], config, tokens=tokens)["tokens"], tokens)


# Frames of a speech encoder


SPEECH = override(
    Config("speech", {"speech": RecurrentConfig()}),
    {
        "audio.window_seconds": 0.24,
        "audio.window_step_seconds": 0.12,
        "speech.units": 3,
        "training.batch_size": 4,
        "training.epochs": 3,
    },
)
FRAMES = SPEECH.num_frames("speech")


def frames_of(count: int, versions: int = 1) -> list[list[np.ndarray]]:
    """Return frames whose features are the clip, the version and the place; some clips are shorter than a window."""
    return [
        [
            np.array([(clip, version, place) for place in range(3 + 7 * clip + version)], np.float16)
            for version in range(versions)
        ]
        for clip in range(count)
    ]


def assert_is_window_of(window: np.ndarray, mask: np.ndarray, frames: np.ndarray) -> int:
    """Check that a window has as many frames of a clip as it can have, in their order; return where it begins."""
    valid = np.flatnonzero(mask)
    count = min(FRAMES, len(frames))
    np.testing.assert_array_equal(valid, np.arange(count) + valid[0])
    assert not window[mask == 0].any()
    first = int(window[valid[0], 2])
    np.testing.assert_array_equal(window[valid], frames[first : first + count])
    return first


def test_training_windows_are_of_the_frames_of_their_clip():
    """At random places."""
    speech, places = frames_of(8), []
    for inputs, labels, _ in train([], override(SPEECH, {"training.epochs": 12}), speech=speech):
        assert inputs["speech"].shape == (4, FRAMES, 3)
        for row, clip in enumerate(labels["emotion"].argmax(axis=1)):
            place = assert_is_window_of(inputs["speech"][row], inputs["speech_mask"][row], speech[clip][0])
            if clip == 7:
                places.append(place)
    assert len(places) == 12
    assert min(places) < 10
    assert max(places) > 52 - FRAMES - 10


def test_a_resumed_run_continues_with_the_same_frames():
    config = replace(SPEECH, augment=AugmentConfig(mixup_alpha=0.4))
    whole = train([], config, speech=frames_of(8, 2))
    assert_equal_batches(train([], config, speech=frames_of(8, 2), first_epoch=1), whole[2:])


def test_the_frames_are_those_of_the_version_of_the_clip_that_an_epoch_takes():
    speech = frames_of(4, versions=3)
    taken = {clip: [] for clip in range(4)}
    for inputs, labels, _ in train([], override(SPEECH, {"training.epochs": 40}), speech=speech):
        for row, clip in enumerate(labels["emotion"].argmax(axis=1)):
            window, mask = inputs["speech"][row], inputs["speech_mask"][row]
            version = int(window[mask > 0][0, 1])
            assert_is_window_of(window, mask, speech[clip][version])
            taken[clip].append(version)
    for versions in taken.values():
        assert len(versions) == 40
        assert min(versions.count(version) for version in range(3)) >= 5


def test_waveform_and_frames_are_of_the_same_version():
    """The variants are silent, so that the spectrogram shows which version it was made of."""
    both = override(replace(SPEECH, encoders={"spectrogram": CnnConfig(), **SPEECH.encoders}), {"training.epochs": 20})
    waveforms = [np.random.default_rng(clip).normal(size=9000).astype(np.float32) for clip in range(4)]
    variants = [[np.zeros(9000, np.float32)] for _ in waveforms]
    versions = []
    for inputs, _, _ in train(waveforms, both, variants=variants, speech=frames_of(4, versions=2)):
        for row in range(4):
            is_silent = inputs["spectrogram"][row][inputs["spectrogram_mask"][row] > 0].max() < -60
            versions.append(int(inputs["speech"][row][inputs["speech_mask"][row] > 0][0, 1]))
            assert is_silent == (versions[-1] == 1)
    assert 20 < sum(versions) < 60


def test_evaluation_windows_cover_the_frames_of_their_clip():
    """In order, of the clip itself and not of a variant."""
    speech = frames_of(40, versions=2)
    inputs, clips = pipeline.stack(pipeline.evaluation_dataset([], SPEECH, speech=speech))
    assert sorted(set(clips)) == list(range(40))
    for clip, (frames, _) in enumerate(speech):
        own = np.flatnonzero(clips == clip)
        places = [assert_is_window_of(inputs["speech"][row], inputs["speech_mask"][row], frames) for row in own]
        assert places[-1] == max(0, len(frames) - FRAMES)
        assert places[0] == 0
        steps = np.diff(places)
        assert len(own) == 1 or 0 < steps.max() <= 6  # 0.12 s
        assert len(own) == 1 or np.ptp(steps) <= 1


def test_the_windows_of_a_clip_do_not_depend_on_the_others():
    speech = frames_of(6)
    inputs, clips = pipeline.stack(pipeline.evaluation_dataset([], SPEECH, speech=speech))
    for clip in range(6):
        alone, _ = pipeline.stack(pipeline.evaluation_dataset([], SPEECH, speech=speech[clip : clip + 1]))
        for name, value in alone.items():
            np.testing.assert_array_equal(inputs[name][clips == clip], value)


def test_all_inputs_are_windows_of_the_same_clip():
    """Waveform, frames and tokens together."""
    everything = override(
        replace(SPEECH, encoders={name: RecurrentConfig() for name in ("mfcc", "speech", "tokens")}),
        {"tokens.max_words": 3, "training.epochs": 1},
    )
    waveforms = [np.random.default_rng(clip).normal(size=20000).astype(np.float32) for clip in range(8)]
    tokens, speech = np.arange(24).reshape(8, 3), [[np.full((63, 3), 1 + clip, np.float16)] for clip in range(8)]
    (first, second) = train(waveforms, everything, tokens=tokens, speech=speech)
    for inputs, labels, _ in (first, second):
        clips = labels["emotion"].argmax(axis=1)
        assert set(inputs) == {"mfcc", "mfcc_mask", "speech", "speech_mask", "tokens"}
        np.testing.assert_array_equal(inputs["tokens"], tokens[clips])
        np.testing.assert_array_equal(inputs["speech"][..., 0], (1 + clips)[:, np.newaxis] * np.ones(FRAMES))
    inputs, clips = pipeline.stack(pipeline.evaluation_dataset(waveforms, everything, tokens, speech))
    assert set(np.bincount(clips)) == {10}  # 1.25 s of noise, all of it taken
    np.testing.assert_array_equal(inputs["tokens"], tokens[clips])
    np.testing.assert_array_equal(inputs["speech"][..., 0], (1 + clips)[:, np.newaxis] * np.ones(FRAMES))


# Training: corpora that differ in emotions


def test_with_masks_each_target_has_the_labels_and_the_mask_of_both_clips(augmented):
    """Two corpora in turn, which share one emotion; inputs, labels and weights are those without masks."""
    masks = np.ones((NUM_CLIPS, NUM_CLIPS), np.float32)
    masks[::2, :5], masks[1::2, 6:] = 0, 0
    batches = train(clips(NUM_CLIPS), EVERYTHING, WEIGHTS, masks=masks)
    mixed = 0
    for (inputs, targets, weights), (before, labels, weights_before) in zip(batches, augmented, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, (inputs, weights), (before, weights_before))
        own, own_mask, other, other_mask = np.split(targets["emotion"], 4, axis=1)
        np.testing.assert_allclose(own + other, labels["emotion"], atol=1e-6)
        np.testing.assert_array_equal(own_mask, masks[own.argmax(axis=1)])
        np.testing.assert_array_equal(other_mask, np.roll(own_mask, 1, axis=0))
        assert (np.count_nonzero(own, axis=1) == 1).all()
        mixed += np.count_nonzero(other)
    assert mixed >= 1
