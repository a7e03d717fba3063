"""Ideas for a stronger network: what each changes in a recipe, by dotted path.

Most are what others found to help with few clips; "no ..." takes away what the recipes have already.
"""

from typing import Any

IDEAS: dict[str, dict[str, Any]] = {
    # What is heard
    "a spectrum every 10 ms": {"spectrogram.hop_seconds": 0.010},
    "a spectrum every 16 ms": {"spectrogram.hop_seconds": 0.016},
    "spectra of 64 bands": {"spectrogram.num_bands": 64},
    "MFCCs every 10 ms": {"mfcc.hop_seconds": 0.010},
    "20 MFCCs": {"mfcc.num_coefficients": 20},
    "MFCCs of what is above 8 kHz too": {
        "audio.sample_rate_hz": 32000,
        "mfcc.fft_size": 2048,
        "mfcc.high_hz": 16000.0,
    },
    "windows of 2 s": {"audio.window_seconds": 2.0},
    "windows of 3.2 s": {"audio.window_seconds": 3.2},
    "breath before and after the words": LONG_WINDOW,
    # Augmentation
    "no change of speed": {"augment.speed_change": 0.0},
    "more change of speed": {"augment.speed_change": 0.2},
    "no shift of bands": {"augment.band_shift_bands": 0},
    "more shift of bands": {"augment.band_shift_bands": 6},
    "other vocal tracts": {"augment.vocal_tract_change": 0.1},
    "pitch and tempo variants": {"augment.variants": ["pitch-up", "pitch-down", "slow", "fast"]},
    "more change of loudness": {"augment.gain_decibels": 12.0},
    "no noise": {"augment.noise_probability": 0.0},
    "equalisation": {"augment.equalization_decibels": 6.0},
    "reverberation": {"augment.reverberation_probability": 0.3},
    "random parts stretched": {"augment.crop_share": 0.3},
    "no SpecAugment": {"augment.num_time_masks": 0, "augment.num_band_masks": 0},
    "no mixup": {"augment.mixup_alpha": 0.0},
    "mixing of styles": {"augment.style_mixing_probability": 0.5},
    "mixup of all clips": {"augment.mixup_probability": 1.0},
    # The network
    "slopes over time too": {"encoder.deltas": 2},
    "less each clip's mean": {"encoder.centered": True},
    "less each clip's loudness": {"encoder.leveled": True},
    "no squeeze and excitation": {"encoder.squeeze_excitation": False},
    "squeeze and excitation": {"encoder.squeeze_excitation": True},
    "blocks end in layer normalisation": {"encoder.layer_normalization": True},
    "pooling by mean and maximum": {"model.pooling": "mean-max"},
    # What is learned, and how
    "Muon": {"training.optimizer": "muon"},
    "no label smoothing": {"training.label_smoothing": 0.0},
    "more label smoothing": {"training.label_smoothing": 0.1},
    "no moving average": {"training.ema_momentum": 0.0},
    "a longer moving average": {"training.ema_momentum": 0.998},
    "emotions weigh alike": {"training.class_weights": False},
    "batches of 16": {"training.batch_size": 16},
}
