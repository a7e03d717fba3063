"""What recipes share: the record of a recipe, and settings that several of them use."""

from dataclasses import dataclass, replace

from emokeras.config import AnyConfig, AugmentConfig, TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """A named experiment: `source` is where it comes from, `reported` the accuracy in percent that its source states
    and the subset it was measured on ("": none)."""

    source: str
    config: AnyConfig
    reported: str = ""


AUGMENTATION = AugmentConfig(
    speed_change=0.12,
    shift_seconds=0.2,
    gain_decibels=6.0,
    noise_probability=0.3,
    num_time_masks=2,
    num_band_masks=2,
    band_shift_bands=3,
    mixup_alpha=0.4,
    mixup_probability=0.5,
)
# A small network underfits with all of it: after 20 epochs of mel-cnn3 on `random`, validation accuracy was 76 % with
# this, 66 % with everything but mixup, and 58 % after 40 epochs with everything and stronger L2 and dropout.
LIGHT_AUGMENTATION = replace(
    AUGMENTATION,
    noise_probability=0.0,
    num_time_masks=1,
    time_mask_frames=16,
    num_band_masks=1,
    band_mask_bands=8,
    mixup_alpha=0.0,
)
MFCC_AUGMENTATION = replace(LIGHT_AUGMENTATION, band_mask_bands=4)
TCN_AUGMENTATION = replace(
    AUGMENTATION, time_mask_frames=16, num_band_masks=1, band_mask_bands=4, vocal_tract_change=0.1
)
# For telephones, rooms and noise. With it and `centered` the mean over groups of conditions, after 20 epochs of
# mfcc-delta-tcn-muon-long, is 57.0 % on validation clips, 47.5 % without, and clean 64.8 % for 59.0 %
# (results/robustness.md).
CHANNEL = {
    "augment.equalization_decibels": 12.0,
    "augment.band_limit_probability": 0.25,
    "augment.reverberation_probability": 0.4,
    "augment.noise_probability": 0.6,
    "augment.noise_snr_decibels": (5.0, 40.0),
    "augment.noise_slope_decibels": (-6.0, 0.0),
}

# A report's training, where it names an optimizer and a number of epochs and nothing else.
PLAIN_TRAINING = TrainingConfig(
    optimizer="adam",
    schedule="constant",
    epochs=50,
    clip_norm=0.0,
    label_smoothing=0.0,
    class_weights=False,
    select_by="val_accuracy",
)
OUR_TRAINING = TrainingConfig(epochs=60, batch_size=16, learning_rate=2e-3, ema_momentum=0.99)
# The strongest networks keep the last epoch, where the learning rate is 0. Selected by the validation loss of a few
# speakers' clips, mfcc-tcn was kept at epochs 19 to 68 of 70 with 67.3 % on the validation clips of luna's five folds;
# the last epoch has 69.8 %.
TCN_TRAINING = replace(OUR_TRAINING, epochs=70, weight_decay=2e-2, select_by="last")
