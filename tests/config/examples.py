"""Configurations that the tests of this folder share, and the message with which something is refused."""

import pytest

from emokeras.config import (
    AudioConfig,
    AugmentConfig,
    CnnConfig,
    Config,
    EnsembleConfig,
    ExperimentConfig,
    MfccConfig,
    ModelConfig,
    ResnetConfig,
    SpectrogramConfig,
    TrainingConfig,
)
from emokeras.errors import UsageError

ONE_BRANCH = Config("one", {"spectrogram": CnnConfig(l2=0.25)})
TWO_BRANCHES = Config(
    "two",
    {"spectrogram": CnnConfig(filters=(8,)), "mfcc": ResnetConfig(dropout=0.5)},
    ExperimentConfig(("demo", "/data/mine"), ("calm=neutral",), "luna", 3, 1, 2, ("calm", "angry")),
    AudioConfig(22050, 30.0, 1.5, 5),
    SpectrogramConfig(0.025, 0.0125, 2048, 64, 20.0, 11025.0),
    MfccConfig(num_bands=40, num_coefficients=13),
    augment=AugmentConfig(speed_change=0.1, noise_snr_decibels=(1.5, 2.5)),
    model=ModelConfig("mean", (64, 32), 0.1),
    training=TrainingConfig(epochs=3, mixed_precision=True),
)
ENSEMBLE = EnsembleConfig("both", {"a": ONE_BRANCH, "b": Config("other", {"mfcc": ResnetConfig()})}, "vote")


def refusal(work) -> str:
    """Return the one line of the UsageError that something raises."""
    with pytest.raises(UsageError) as caught:
        work()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_status == 2
    return message
