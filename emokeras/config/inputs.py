"""The settings of what a network takes: waveform, features, speech encoder, tokens, and augmentation.

Each kind of feature has `num_features`, the size of its last axis.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emokeras.config.types import STRICT, Count, Fraction, NotNegative, Number, Positive, Probability

# Advice for messages about models of transformers.
DEFAULT_WHISPER = "openai/whisper-tiny"  # the smallest; on huggingface.co
GIVE_BERT = (
    "give a folder that transformers' save_pretrained wrote, with a BERT and its tokenizer, by --set model.weights=DIR"
)
GIVE_SPEECH_ENCODER = (
    "give a speech model of transformers, by its folder or its name, by --set model.pretrained=NAME|DIR"
)


@dataclass(frozen=True, config=STRICT)
class AudioConfig:
    """The waveform, and the windows of its speech that a network takes. What is more than `speech_decibels` below the
    loudest part is not speech, nor is what does not stand out of the noise (0: all of a recording is taken). Windows
    cover the speech evenly, one at least every `window_step_seconds`."""

    sample_rate_hz: Count = 16000
    speech_decibels: NotNegative = 40.0
    window_seconds: Positive = 2.56
    window_step_seconds: Positive = 2.0


@dataclass(frozen=True, config=STRICT)
class SpectrogramConfig:
    """Log-mel spectrogram in decibels, with Slaney's mel filters as librosa makes them."""

    frame_seconds: Positive = 0.032
    hop_seconds: Positive = 0.010
    fft_size: Count = 1024
    num_bands: Count = 80
    low_hz: NotNegative = 50.0
    high_hz: Positive = 8000.0

    @property
    def num_features(self) -> int:
        return self.num_bands


@dataclass(frozen=True, config=STRICT)
class MfccConfig(SpectrogramConfig):
    """Mel-frequency cepstral coefficients: the first of the discrete cosine transform of a log-mel spectrogram."""

    num_coefficients: Count = 40

    @property
    def num_features(self) -> int:
        return self.num_coefficients


@dataclass(frozen=True, config=STRICT)
class ProsodyConfig:
    """Pitch, level and spectral shape of frames. Pitch is searched from `low_hz` to `high_hz`; a frame must hold two
    periods of the lowest pitch and should hold three. A frame is voiced when YIN's aperiodicity is below
    `voicing_threshold`."""

    frame_seconds: Positive = 0.048
    hop_seconds: Positive = 0.020
    fft_size: Count = 1024
    low_hz: Positive = 65.0
    high_hz: Positive = 600.0
    voicing_threshold: Positive = 0.3

    @property
    def num_features(self) -> int:
        return 8


@dataclass(frozen=True, config=STRICT)
class SpeechConfig:
    """Hidden states of the frozen speech encoder in `model.pretrained`.

    Those of `layers` are concatenated; 0 is the input of the first block, -1 the output of the last. `equalization` is
    how far the average spectrum of what Whisper takes is moved to that of speech (`data.speech`). The rest is read from
    the encoder: whether it is a "whisper", or one of wav2vec 2.0's "wav2vec2" kin, the size of a layer's states,
    and the SHA-256 of its weights.
    """

    hop_seconds: ClassVar[float] = 0.02  # of wav2vec 2.0 and its kin, and of Whisper

    layers: Annotated[tuple[int, ...], Field(min_length=1)] = (2, 3)
    equalization: Probability = 0.5
    family: Literal["whisper", "wav2vec2"] = "whisper"
    units: Count = 512
    sha256: str = ""

    @property
    def num_features(self) -> int:
        return self.units * len(self.layers)


@dataclass(frozen=True, config=STRICT)
class TokensConfig:
    """Tokenized transcripts. The tokenizer "words" fits its vocabulary on the training clips; "pretrained" is the
    tokenizer of the transformers model in `model.weights`."""

    tokenizer: Literal["words", "pretrained"] = "words"
    max_words: Count = 6
    vocabulary_size: Annotated[int, Field(ge=3)] = 200
    embedding_units: Count = 64


@dataclass(frozen=True, config=STRICT)
class AugmentConfig:
    """Augmentation of training clips; 0 switches a kind off. Bands and frames are those of the network's input.

    On the waveform: `speed_change`, `shift_seconds`, `gain_decibels`; `equalization_decibels` is the largest gain per
    octave; a limited band has its edges in `band_low_hz` and `band_high_hz`; reverberation falls by 60 dB in
    `reverberation_seconds`, and the direct sound has `reverberation_ratio_decibels` more energy; the power of noise
    changes by `noise_slope_decibels` per octave (0: white; -6 is near the noise of rooms). Pairs are the bounds of a
    uniform distribution, for a band's edges of a log-uniform one.
    `num_variants`: copies of each clip over other channels, made once and cached; each epoch takes the clip or one of
    them. Equalization, band, reverberation and noise are drawn as above, then a codec. A frozen speech encoder, which
    takes clips as they are, gets these too.

    On the features: SpecAugment masks (Park et al. 2019), mixup (Zhang et al. 2018), `band_shift_bands`, and
    `vocal_tract_change` (vocal tract length perturbation, Jaitly and Hinton 2013: frequencies are warped by up to this
    share).
    """

    num_variants: Number = 0
    speed_change: Fraction = 0.0
    shift_seconds: NotNegative = 0.0
    fade_seconds: NotNegative = 0.005
    gain_decibels: NotNegative = 0.0
    equalization_decibels: NotNegative = 0.0
    band_limit_probability: Probability = 0.0
    band_low_hz: tuple[Positive, Positive] = (100.0, 400.0)
    band_high_hz: tuple[Positive, Positive] = (2500.0, 7000.0)
    reverberation_probability: Probability = 0.0
    reverberation_seconds: tuple[Positive, Positive] = (0.1, 0.5)
    reverberation_ratio_decibels: tuple[float, float] = (0.0, 20.0)
    noise_probability: Probability = 0.0
    noise_snr_decibels: tuple[float, float] = (15.0, 40.0)
    noise_slope_decibels: tuple[float, float] = (0.0, 0.0)

    mixup_alpha: NotNegative = 0.0
    mixup_probability: Probability = 0.5
    num_time_masks: Number = 0
    time_mask_frames: Number = 24
    num_band_masks: Number = 0
    band_mask_bands: Number = 10
    band_shift_bands: Number = 0
    vocal_tract_change: Fraction = 0.0


def check_frames(name: str, frames: SpectrogramConfig | ProsodyConfig, audio: AudioConfig) -> None:
    """Raise ValueError, naming both settings, where the settings of an input contradict each other."""
    rate = audio.sample_rate_hz
    if frames.low_hz >= frames.high_hz:
        raise ValueError(
            f"{name}.low_hz={frames.low_hz:g} is not below {name}.high_hz={frames.high_hz:g}: "
            "lower one or raise the other"
        )
    if frames.hop_seconds * rate < 1:
        raise ValueError(
            f"{name}.hop_seconds={frames.hop_seconds:g} is less than a sample at audio.sample_rate_hz={rate}: raise it"
        )
    if audio.window_seconds < frames.hop_seconds:
        raise ValueError(
            f"audio.window_seconds={audio.window_seconds:g} is shorter than one frame, "
            f"{name}.hop_seconds={frames.hop_seconds:g}: raise it"
        )
    if frames.high_hz > rate / 2:
        raise ValueError(
            f"{name}.high_hz={frames.high_hz:g} is above half of audio.sample_rate_hz={rate}: "
            "lower one or raise the other"
        )
    if frames.frame_seconds * rate > frames.fft_size:
        raise ValueError(
            f"{name}.fft_size={frames.fft_size} is shorter than a frame of {frames.frame_seconds:g} s at {rate} Hz: "
            "raise it"
        )
    if name == "prosody" and frames.low_hz * frames.frame_seconds < 2:
        raise ValueError(
            f"{name}.frame_seconds={frames.frame_seconds:g} holds less than two periods of {name}.low_hz="
            f"{frames.low_hz:g}: raise one or the other"
        )
    if name == "mfcc" and frames.num_features > frames.num_bands:
        raise ValueError(
            f"{name}.num_coefficients={frames.num_features} is more than {name}.num_bands={frames.num_bands}: lower it"
        )
