"""Every number of an experiment, with its unit in its name: frozen dataclasses, JSON in and out, one `override`."""

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from emokeras.errors import UsageError

DEFAULT_WHISPER = "openai/whisper-tiny"  # the smallest; on huggingface.co

GIVE_BERT = (
    "give a folder that transformers' save_pretrained wrote, with a BERT and its tokenizer, by --set model.weights=DIR"
)
GIVE_SPEECH_MODEL = "give a speech model of transformers, by its folder or its name, by --set model.pretrained=NAME|DIR"

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
MAX_SEED = 2**31 - 1
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
InputName = Literal["spectrogram", "mfcc", "prosody", "speech", "tokens"]
Auxiliary = Literal["sex", "intensity", "statement", "speaker"]
Variant = Literal["pitch-up", "pitch-down", "slow", "fast", "noise"]
MeasuredProtocol = Literal["random", "random-10fold", "luna", "emobox", "speaker"]
ProtocolName = Literal[MeasuredProtocol, "all"]
Pooling = Literal["mean", "max", "mean-max", "attention", "attentive-statistics", "flatten"]
FusionMethod = Literal["mean-logits", "mean-probabilities", "vote", "weighted", "stacking"]


def _as_folder_name(name: str) -> str:
    if not name or name.startswith(".") or not {"/", "\\"}.isdisjoint(name):
        raise ValueError("a folder is named by it: take no slash, and no dot in front")
    return name


Name = Annotated[str, AfterValidator(_as_folder_name)]  # of a recipe, or of an ensemble's member


@dataclass(frozen=True, config=STRICT)
class ExperimentConfig:
    """Which clips, who hears them, and which random numbers."""

    corpus: str = ""
    protocol: ProtocolName = "speaker"
    fold: Number = 0
    seed: Seed = 0
    split_seed: Seed = 0
    emotions: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class AudioConfig:
    """The waveform, and the windows of it that a network sees. Frames quieter than the loudest one by more than
    `trim_decibels` are cut off at both ends (0: nothing is cut)."""

    sample_rate_hz: Count = 16000
    trim_decibels: NotNegative = 40.0
    window_seconds: Positive = 2.56
    num_windows: Count = 3


@dataclass(frozen=True, config=STRICT)
class SpectrogramConfig:
    """Log-mel spectrogram in decibels; the triangles are Slaney's, as librosa makes them."""

    frame_seconds: Positive = 0.032
    hop_seconds: Positive = 0.010
    fft_size: Count = 1024
    num_bands: Count = 80
    low_hz: NotNegative = 50.0
    high_hz: Positive = 8000.0

    @property
    def num_features(self) -> int:
        return self.num_bands

    @property
    def loud_features(self) -> range:
        """The features that grow alike, each by its own unit, when a clip is louder."""
        return range(self.num_bands)


@dataclass(frozen=True, config=STRICT)
class MfccConfig(SpectrogramConfig):
    """Mel-frequency cepstral coefficients: the first of the discrete cosine transform of a log-mel spectrogram."""

    num_coefficients: Count = 40

    @property
    def num_features(self) -> int:
        return self.num_coefficients

    @property
    def loud_features(self) -> range:
        return range(1)


@dataclass(frozen=True, config=STRICT)
class ProsodyConfig:
    """Pitch, loudness and brightness of frames. Pitch is sought from `low_hz` to `high_hz`: a frame should hold three
    periods of the lowest, and must hold two. Below `voicing_threshold` of YIN's aperiodicity it counts as voiced."""

    frame_seconds: Positive = 0.048
    hop_seconds: Positive = 0.020
    fft_size: Count = 1024
    low_hz: Positive = 65.0
    high_hz: Positive = 600.0
    voicing_threshold: Positive = 0.3

    @property
    def num_features(self) -> int:
        return 8

    @property
    def loud_features(self) -> range:
        return range(2, 3)


@dataclass(frozen=True, config=STRICT)
class SpeechConfig:
    """Hidden states of the speech model in `model.pretrained`: of its `layer` (0 goes into the first block, -1 is the
    last's output), the middle `max_seconds` of a clip. The models give a frame every `hop_seconds`; their `units` are
    taken from the model, these are those of the base sizes."""

    layer: int = -1
    max_seconds: Positive = 5.0
    hop_seconds: Positive = 0.02
    units: Count = 768

    @property
    def num_features(self) -> int:
        return self.units

    @property
    def loud_features(self) -> range:
        return range(0)


@dataclass(frozen=True, config=STRICT)
class TokensConfig:
    """Transcripts as numbers. `tokenizer` is "words", whose vocabulary is fitted on the training clips, or
    "pretrained", that of the transformers model in `model.weights`."""

    tokenizer: Literal["words", "pretrained"] = "words"
    max_words: Count = 6
    vocabulary_size: Annotated[int, Field(ge=3)] = 200
    embedding_units: Count = 64


@dataclass(frozen=True, config=STRICT)
class AugmentConfig:
    """What happens to a training clip. 0 turns a thing off. Bands and frames are those of the network's input; only a
    spectrogram's bands are shifted. The masks are SpecAugment's (Park et al. 2019), mixup is Zhang et al.'s (2018); its
    labels have the shares that were `drawn`, or those that are `heard`, for where one clip is longer it stands unmixed.
    With `style_mixing_probability` a clip's features get a mean and a deviation between its own and another clip's.

    Of a clip up to `crop_share` is cut off, at either end, and the rest is stretched over the frames of all of it.
    The frequencies of spectrograms and MFCCs are warped by up to `vocal_tract_change`: another vocal tract.
    Each octave is made louder or softer by up to `equalisation_decibels`. A room is heard with
    `reverberation_probability`: it takes `reverberation_seconds` to fall by 60 dB, and the direct sound has
    `reverberation_ratio_decibels` more energy than it; both are drawn between two bounds, as noise is.

    `variants` are made once per clip and kept: a clip sounds in each epoch as itself or as one of them."""

    variants: tuple[Variant, ...] = ()
    variant_semitones: Positive = 2.0
    variant_stretch: Fraction = 0.15
    variant_snr_decibels: float = 20.0

    speed_change: Fraction = 0.0
    shift_seconds: NotNegative = 0.0
    fade_seconds: NotNegative = 0.005
    gain_decibels: NotNegative = 0.0
    equalisation_decibels: NotNegative = 0.0
    reverberation_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    reverberation_seconds: tuple[Positive, Positive] = (0.1, 0.5)
    reverberation_ratio_decibels: tuple[float, float] = (0.0, 20.0)
    noise_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise_snr_decibels: tuple[float, float] = (15.0, 40.0)
    style_mixing_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    style_mixing_alpha: Positive = 0.3
    crop_share: Fraction = 0.0
    mixup_alpha: NotNegative = 0.0
    mixup_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    mixup_labels: Literal["drawn", "heard"] = "drawn"
    num_time_masks: Number = 0
    time_mask_frames: Number = 24
    num_band_masks: Number = 0
    band_mask_bands: Number = 10
    band_shift_bands: Number = 0
    vocal_tract_change: Fraction = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderConfig:
    """What the bodies of all branches have. A body turns features and mask into frames [steps, channels]; its `kind`
    names the function in `models.encoders` that builds it.

    Its frames are pooled as `pooling` says ("": as `model.pooling` does), and an embedding of `embedding_units` is made
    of that (0: it is the embedding itself).

    What is `centered` is heard less its mean over the clip: less of the speaker's voice and the microphone, and of how
    loud it is. What is `leveled` is heard less how loud the clip is, and no more: one number. Words are neither.

    With `deltas` 1 the frames' slopes over time are heard too, with 2 also the slopes of those."""

    centered: bool = False
    leveled: bool = False
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    batch_normalization: bool = True
    dropout: Fraction = 0.2
    l2: NotNegative = 1e-4
    pooling: Pooling | Literal[""] = ""
    embedding_units: Number = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CnnConfig(EncoderConfig):
    """Blocks of 2-D convolution and max-pooling; one a filter count."""

    kind: Literal["cnn"] = "cnn"
    filters: tuple[Count, ...] = (32, 64, 128)
    kernel_size: Count = 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CrnnConfig(CnnConfig):
    """The same, and a bidirectional GRU over what it leaves."""

    kind: Literal["crnn"] = "crnn"
    recurrent_units: tuple[Count, ...] = (96,)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResnetConfig(EncoderConfig):
    """Residual blocks over time after a 2-D stem. The first filter count is the stem's; its two convolutions halve the
    bands twice, and the steps once: the `first`, or the `second`, which makes a larger tensor between them.

    With `layer_normalization` each block ends in one: what is unlike the training clips, such as a very quiet voice,
    then cannot grow from block to block."""

    kind: Literal["resnet"] = "resnet"
    filters: tuple[Count, ...] = (32, 128, 192)
    kernel_size: Count = 3
    stem_halves_steps: Literal["first", "second"] = "first"
    squeeze_excitation: bool = False
    layer_normalization: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TcnConfig(EncoderConfig):
    """Dilated causal convolutions over time, in both directions; one block a dilation, in steps of two frames.
    `layer_normalization` is that of ResnetConfig."""

    kind: Literal["tcn"] = "tcn"
    filters: Count = 128
    kernel_size: Annotated[int, Field(ge=2)] = 2
    dilations: tuple[Count, ...] = (1, 2, 4, 8, 16)
    layer_normalization: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttentionConfig(EncoderConfig):
    """What bodies of self-attention have: blocks of so many units, in heads."""

    units: Count = 128
    num_heads: Count = 4
    num_blocks: Count = 4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerConfig(AttentionConfig):
    """Patches of a spectrogram, their positions, and blocks of self-attention."""

    kind: Literal["transformer"] = "transformer"
    patch_frames: Count = 16
    patch_bands: Count = 16


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConformerConfig(AttentionConfig):
    """Blocks of self-attention and of a depthwise convolution over `kernel_size` steps of four frames."""

    kind: Literal["conformer"] = "conformer"
    kernel_size: Count = 15


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImagenetConfig(EncoderConfig):
    """A ResNet of keras.applications that was trained on photographs; `model.weights` says where its weights are."""

    kind: Literal["imagenet"] = "imagenet"
    backbone: Literal["ResNet50", "ResNet101", "ResNet152", "ResNet50V2"] = "ResNet50"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RecurrentConfig(EncoderConfig):
    """Recurrent layers, one a unit count."""

    kind: Literal["recurrent"] = "recurrent"
    cell: Literal["lstm", "gru"] = "lstm"
    units: tuple[Count, ...] = (64,)
    bidirectional: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BertConfig(EncoderConfig):
    """The encoder of a BERT. Its sizes are taken from the model in `model.weights`; these are BERT base's."""

    kind: Literal["bert"] = "bert"
    dropout: Fraction = 0.1
    vocabulary_size: Count = 30522
    num_positions: Count = 512
    units: Count = 768
    num_heads: Count = 12
    num_blocks: Count = 12
    hidden_units: Count = 3072


ENCODER_CONFIGS = {
    encoder.kind: encoder
    for encoder in (
        CnnConfig,
        CrnnConfig,
        ResnetConfig,
        TcnConfig,
        TransformerConfig,
        ConformerConfig,
        ImagenetConfig,
        RecurrentConfig,
        BertConfig,
    )
}
Encoder = Annotated[
    Union[tuple(Annotated[encoder, Tag(kind)] for kind, encoder in ENCODER_CONFIGS.items())],  # noqa: UP007
    Discriminator(lambda value: value.get("kind", "cnn") if isinstance(value, Mapping) else getattr(value, "kind", "")),
]


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """From frames to logits: how time is pooled, and the dense layers after it, with `batch_normalization` between them
    too. `weights` are those that a pretrained body starts from: a file, a folder or a name of a hub. `pretrained` is
    the speech model of transformers that a `speech` branch hears through, a folder or a name; it stands still.

    Several branches meet by `fusion`: "early", one head over all embeddings; "attention", the branches look at each
    other's frames before pooling; "hybrid", the early head and one of each branch, averaged by learned weights.
    `branches` are what the branches start from: folders of trained runs, or recipes, which are trained first where they
    are missing. `start_from` is a run or an export of one network: this one then is the same, and goes on from there.
    What starts so counts as pretrained: `training.frozen_epochs` is of it."""

    pooling: Pooling = "attentive-statistics"
    hidden_units: tuple[Count, ...] = (128,)
    dropout: Fraction = 0.3
    batch_normalization: bool = False
    weights: str = ""
    pretrained: str = ""
    fusion: Literal["early", "attention", "hybrid"] = "early"
    attention_units: Count = 128
    attention_heads: Count = 4
    attention_blocks: Count = 1
    branches: tuple[str, ...] = ()
    start_from: str = ""


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How the network learns. `optimizer` "muon" moves the matrices among the weights by Muon, the others by AdamW;
    `weight_decay` is of these two alone. `clip_norm` is of each variable's gradient. 0 turns a thing off: the clipping,
    the moving average of the weights (`ema_momentum`), the early stop (`patience_epochs`), the freezing.

    `select_by` says which epoch's weights are kept: the best on validation, or the last.

    `auxiliaries` are what the network learns to tell beside the emotion, with the weight of each in the loss; what has
    a negative weight it learns to hide. `teacher` is the run of a network or an ensemble on the same split, by its
    folder, or by its recipe where it lies beside this one (runs/RECIPE/the same name): the labels then have
    `teacher_share` of what it says of each training clip. It was taught those: at a `teacher_temperature` above 1 it is
    less sure of them.

    With `crossfit_parts` the training clips are parted, by speaker unless speakers are on all sides of the split. For
    each part a network like this one is trained on the others, for `crossfit_epochs`; the labels then have
    `crossfit_share` of what it says of the part, which it has not heard (Dao et al., ICLR 2021). `crossfit_by` names
    recipes whose networks tell instead, together: the mean of their logits.

    With `accumulated_batches` so many batches' gradients make one update; schedule and moving average count batches all
    the same. For `frozen_epochs` a pretrained body stands still, then all learns at `unfrozen_learning_rate`.

    When the epoch is chosen and the validation figures stand, the network goes on for `refit_epochs`, with the
    validation clips among those that train and the emotion as all that it learns; the rate falls once more from where
    it last began. What it is at their end is tested and kept."""

    epochs: Count = 60
    batch_size: Count = 32
    accumulated_batches: Count = 1
    frozen_epochs: Number = 0
    unfrozen_learning_rate: Positive = 1e-4
    refit_epochs: Number = 0
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: NotNegative = 3.0
    weight_decay: NotNegative = 1e-2
    clip_norm: NotNegative = 1.0
    label_smoothing: Fraction = 0.05
    class_weights: bool = True
    ema_momentum: Fraction = 0.0
    patience_epochs: Number = 0
    select_by: Literal["val_accuracy", "val_balanced_accuracy", "val_loss", "last"] = "val_loss"
    auxiliaries: dict[Auxiliary, float] = dataclasses.field(default_factory=dict)
    teacher: str = ""
    teacher_share: Fraction = 0.5
    teacher_temperature: Positive = 2.0
    crossfit_parts: Number = 0
    crossfit_epochs: Count = 30
    crossfit_share: Fraction = 0.5
    crossfit_by: tuple[str, ...] = ()
    mixed_precision: bool = False


@dataclass(frozen=True, config=STRICT)
class Config:
    """One experiment. `encoders` has one body per input; what a recipe does not use stays at its default."""

    recipe: Name
    encoders: Annotated[dict[InputName, Encoder], Field(min_length=1)]
    experiment: ExperimentConfig = ExperimentConfig()
    audio: AudioConfig = AudioConfig()
    spectrogram: SpectrogramConfig = SpectrogramConfig()
    mfcc: MfccConfig = MfccConfig()
    prosody: ProsodyConfig = ProsodyConfig()
    speech: SpeechConfig = SpeechConfig()
    tokens: TokensConfig = TokensConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self):
        for name in self.audio_inputs:
            _check_frames(name, getattr(self, name), self.audio)
        if (self.augment.mixup_alpha and not self.hears) or (self.augment.variants and not self.audio_inputs):
            raise ValueError("augment: mixup and variants are of sounds, this network hears none: leave them out")
        if self.hears_pretrained and self.audio.sample_rate_hz != 16000:
            raise ValueError(f"audio.sample_rate_hz={self.audio.sample_rate_hz}: a speech model hears 16000 Hz alone")
        if self.model.attention_units % self.model.attention_heads:
            raise ValueError(
                f"model.attention_heads={self.model.attention_heads} does not divide model.attention_units="
                f"{self.model.attention_units}"
            )
        if self.model.start_from and self.model.branches:
            raise ValueError("model.start_from is a whole network, model.branches are parts of one: give one of them")
        if self.training.crossfit_parts == 1:
            raise ValueError("training.crossfit_parts=1: nothing is left to learn the part from: take 2 or more, or 0")
        if self.training.crossfit_parts and self.model.branches:
            raise ValueError("training.crossfit_parts: the branches have heard all training clips: give no branches")
        if self.training.crossfit_by and not self.training.crossfit_parts:
            raise ValueError("training.crossfit_by: say of how many parts by training.crossfit_parts, such as 3")
        if self.training.crossfit_by and self.model.start_from:
            raise ValueError("training.crossfit_by: networks of recipes begin with nothing, not with model.start_from")
        for name, encoder in self.encoders.items():
            if encoder.kind == "bert" and (name != "tokens" or self.tokens.tokenizer != "pretrained"):
                raise ValueError(f"encoders.{name}: a bert reads tokens of tokens.tokenizer=pretrained, nothing else")

    @property
    def networks(self) -> dict[str, "Config"]:
        """The networks that are trained for it: itself. (Of an ensemble, its members.)"""
        return {self.recipe: self}

    @property
    def sample_rate_hz(self) -> int:
        return self.audio.sample_rate_hz

    @property
    def audio_inputs(self) -> tuple[InputName, ...]:
        """The inputs that are made from the waveform, in graph."""
        return tuple(name for name in self.encoders if name not in ("speech", "tokens"))

    @property
    def hears_pretrained(self) -> bool:
        return "speech" in self.encoders

    @property
    def hears(self) -> bool:
        return bool(self.audio_inputs) or self.hears_pretrained

    @property
    def reads_transcripts(self) -> bool:
        return "tokens" in self.encoders

    @property
    def has_pretrained_tokenizer(self) -> bool:
        return self.reads_transcripts and self.tokens.tokenizer == "pretrained"

    def seconds_of(self, name: InputName) -> float:
        """Return how many seconds of a clip a branch is shown at once."""
        return self.speech.max_seconds if name == "speech" else self.audio.window_seconds

    def num_frames(self, name: InputName) -> int:
        """Return how many frames that are."""
        return round(self.seconds_of(name) / getattr(self, name).hop_seconds)

    def pooling_of(self, name: InputName) -> Pooling:
        """Return how a branch's frames are pooled."""
        return self.encoders[name].pooling or self.model.pooling

    @property
    def num_windows(self) -> int:
        """How many windows of a clip the network is shown in serving."""
        return self.audio.num_windows if self.audio_inputs else 1


@dataclass(frozen=True, config=STRICT)
class EnsembleConfig:
    """Networks that are trained each for itself and answer together, as `method` says. All hear at one sample rate;
    each has features of its own."""

    recipe: Name
    members: Annotated[dict[Name, Config], Field(min_length=1)]
    method: FusionMethod = "weighted"
    experiment: ExperimentConfig = ExperimentConfig()

    def __post_init__(self):
        rates = {name: member.sample_rate_hz for name, member in self.members.items() if member.hears}
        if len(set(rates.values())) > 1:
            told = ", ".join(f"{name} {rate}" for name, rate in rates.items())
            raise ValueError(f"members: all must hear at one audio.sample_rate_hz, these are {told}")
        tokenizers = {
            (member.model.weights, member.tokens.max_words)
            for member in self.members.values()
            if member.has_pretrained_tokenizer
        }
        if len(tokenizers) > 1:
            raise ValueError("members: those that read with a pretrained tokenizer must share it and tokens.max_words")
        speech = {
            (member.model.pretrained, member.speech) for member in self.members.values() if member.hears_pretrained
        }
        if len(speech) > 1:
            raise ValueError("members: those that hear through a speech model must share it and its settings")
        starts = [member.model.start_from for member in self.members.values() if member.model.start_from]
        if len(set(starts)) < len(starts):
            raise ValueError(
                "members: two start from one model: give it to one of them, by members.NAME.model.start_from"
            )

    @property
    def networks(self) -> dict[str, Config]:
        """The networks that are trained for it."""
        return self.members

    @property
    def sample_rate_hz(self) -> int:
        """What the members that hear take; any, where none does."""
        hearing = [member for member in self.members.values() if member.hears]
        return (hearing or list(self.members.values()))[0].sample_rate_hz

    @property
    def audio_inputs(self) -> tuple[InputName, ...]:
        """The inputs that are made from the waveform, for any of the members."""
        return tuple(dict.fromkeys(name for member in self.members.values() for name in member.audio_inputs))

    @property
    def hears_pretrained(self) -> bool:
        return any(member.hears_pretrained for member in self.members.values())

    @property
    def hears(self) -> bool:
        return any(member.hears for member in self.members.values())

    @property
    def reads_transcripts(self) -> bool:
        return any(member.reads_transcripts for member in self.members.values())


AnyConfig = Config | EnsembleConfig


def _check_frames(name: str, frames: SpectrogramConfig | ProsodyConfig, audio: AudioConfig) -> None:
    """Raise ValueError, naming both settings, where those of an input do not go together."""
    rate = audio.sample_rate_hz
    if frames.low_hz >= frames.high_hz:
        raise ValueError(
            f"{name}.low_hz={frames.low_hz:g} is not below {name}.high_hz={frames.high_hz:g}: "
            "lower the one or raise the other"
        )
    if frames.hop_seconds * rate < 1:
        raise ValueError(
            f"{name}.hop_seconds={frames.hop_seconds:g} is less than a sample at audio.sample_rate_hz={rate}: raise it"
        )
    if audio.window_seconds < frames.hop_seconds:
        raise ValueError(
            f"audio.window_seconds={audio.window_seconds:g} is less than one frame, "
            f"{name}.hop_seconds={frames.hop_seconds:g}: raise it"
        )
    if frames.high_hz > rate / 2:
        raise ValueError(
            f"{name}.high_hz={frames.high_hz:g} lies above half of audio.sample_rate_hz={rate}: "
            "lower the one or raise the other"
        )
    if frames.frame_seconds * rate > frames.fft_size:
        raise ValueError(
            f"{name}.fft_size={frames.fft_size} is shorter than a frame of {frames.frame_seconds:g} s at {rate} Hz: "
            "take a larger one"
        )
    if name == "prosody" and frames.low_hz * frames.frame_seconds < 2:
        raise ValueError(
            f"{name}.frame_seconds={frames.frame_seconds:g} holds less than two periods of {name}.low_hz="
            f"{frames.low_hz:g}: raise the one or the other"
        )
    if name == "mfcc" and frames.num_features > frames.num_bands:
        raise ValueError(
            f"{name}.num_coefficients={frames.num_features} is more than {name}.num_bands={frames.num_bands}: lower it"
        )


_NETWORK, _ENSEMBLE, _ANY = TypeAdapter(Config), TypeAdapter(EnsembleConfig), TypeAdapter(AnyConfig)


def home() -> Path:
    """Return the folder of all that is cached: EMOKERAS_HOME, by default ~/.cache/emokeras."""
    return Path(os.environ.get("EMOKERAS_HOME") or Path.home() / ".cache" / "emokeras")


def to_json(config: AnyConfig) -> str:
    """Return the whole configuration as indented JSON, which `from_json` reads back."""
    return _ANY.dump_json(config, indent=2).decode() + "\n"


def from_json(text: str, where: str = "the configuration") -> AnyConfig:
    """Read a configuration from JSON; an ensemble's has `members`. Raises UsageError, naming the key that is wrong."""
    try:
        return _validated(json.loads(text), where)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON ({error}): give a config.json of a run") from error


def read_config(path: Path) -> AnyConfig:
    """Read a configuration file, such as a run's config.json."""
    try:
        return from_json(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({reason}): give a config.json of a run") from error


def with_experiment(config: AnyConfig, **values: Any) -> AnyConfig:
    """Return the configuration with these values in its experiment, and in that of each member. Raises UsageError for
    one that does not fit."""
    try:
        config = dataclasses.replace(config, experiment=dataclasses.replace(config.experiment, **values))
    except ValidationError as error:
        raise UsageError(f"experiment.{_first_fault(error)}") from error
    if isinstance(config, EnsembleConfig):
        members = {name: with_experiment(member, **values) for name, member in config.members.items()}
        config = dataclasses.replace(config, members=members)
    return config


def with_lasting_paths(config: Config) -> Config:
    """Return the configuration with whole paths for what it names by a file or a folder, so that they hold from
    anywhere. A branch that is no run that has ended is a recipe."""
    weights, pretrained, start_from, teacher = (
        str(Path(path).absolute()) if path and Path(path).exists() else path
        for path in (config.model.weights, config.model.pretrained, config.model.start_from, config.training.teacher)
    )
    branches = tuple(
        str(Path(branch).absolute()) if (Path(branch) / "metrics.json").is_file() else branch
        for branch in config.model.branches
    )
    model = dataclasses.replace(
        config.model, weights=weights, pretrained=pretrained, start_from=start_from, branches=branches
    )
    return dataclasses.replace(config, model=model, training=dataclasses.replace(config.training, teacher=teacher))


def settings(config: AnyConfig) -> dict[str, Any]:
    """Return every setting under its dotted path: {"encoder.l2": 0.0001, "training.epochs": 60, ...}.

    With one branch its body's settings go by `encoder.KEY`, with more by `encoders.INPUT.KEY`; a member's by
    `members.NAME.` before all that.
    """
    if isinstance(config, EnsembleConfig):
        own = {"method": config.method}
        members = config.members.items()
        return own | {f"members.{name}.{path}": value for name, one in members for path, value in settings(one).items()}
    flat = {}
    for section, value in dataclasses.asdict(config).items():
        if section == "encoders":
            for name, encoder in value.items():
                prefix = "encoder" if len(value) == 1 else f"encoders.{name}"
                flat.update({f"{prefix}.{key}": setting for key, setting in encoder.items()})
        elif isinstance(value, dict):
            flat.update({f"{section}.{key}": setting for key, setting in value.items()})
    return flat


def override(config: AnyConfig, values: Mapping[str, Any]) -> AnyConfig:
    """Return the configuration with the settings at these dotted paths replaced.

    A text value is read as JSON where it is JSON (`0.1`, `true`, `[32, 64]`), as a list where there is one (`32,64`,
    `RUN,RUN`), else taken as it is; this serves `--set`, the flags, JSON files and the tuner alike. `encoder.KEY` sets
    every branch, `encoders.INPUT.KEY` one. In an ensemble a path sets every member that has it, `members.NAME.PATH`
    one.

    Raises UsageError for an unknown path, with its nearest neighbour, and for a value that does not fit.
    """
    tree = dataclasses.asdict(config)
    # A change of kind comes first: it decides which settings there are.
    for path, value in sorted(values.items(), key=lambda item: not item[0].endswith(".kind")):
        known = _targets(tree)
        if path not in known:
            near = difflib.get_close_matches(path, known, 1, 0.0)
            raise UsageError(f"there is no setting '{path}'; did you mean '{near[0]}'?")
        key = path.rpartition(".")[2]
        for target in known[path]:
            if key == "kind":
                _change_kind(target, value)
            target[key] = _as_kind_of(target[key], value)
    return _validated(tree, "--set")


def _targets(tree: dict[str, Any]) -> dict[str, list[dict]]:
    """Return, for each dotted path that can be set, the parts of the tree in which its last key stands."""
    targets: dict[str, list[dict]] = {}
    for section, value in tree.items():
        if section == "method":
            targets["method"] = [tree]
        elif section == "members":
            for name, member in value.items():
                for path, places in _targets(member).items():
                    targets[f"members.{name}.{path}"] = places
                    targets[path] = targets.get(path, []) + places
        elif section == "encoders":
            for name, encoder in value.items():
                for key in encoder:
                    targets[f"encoders.{name}.{key}"] = [encoder]
                    targets.setdefault(f"encoder.{key}", []).append(encoder)
        elif isinstance(value, dict):
            for key in value:
                targets[f"{section}.{key}"] = [*targets.get(f"{section}.{key}", []), value]
    return targets


def _change_kind(encoder: dict[str, Any], kind: str) -> None:
    """Make a body of one kind one of another: what both have stays, the rest is the other's default."""
    if kind not in ENCODER_CONFIGS:
        raise UsageError(f"encoder.kind: there is no encoder '{kind}'; there are {', '.join(ENCODER_CONFIGS)}")
    defaults = dataclasses.asdict(ENCODER_CONFIGS[kind]())
    kept = {key: value for key, value in encoder.items() if key in defaults and type(value) is type(defaults[key])}
    encoder.clear()
    encoder.update(defaults | kept)


def _as_kind_of(before: Any, value: Any) -> Any:
    """Return a value, where it is text, as what stood there before: text, a list with commas between, or as JSON."""
    if isinstance(before, str):  # What is text stays text: a corpus may be called 2024.
        return value
    parsed = _parse(value)
    if isinstance(before, tuple) and isinstance(parsed, str):
        return [_parse(part) for part in parsed.split(",")] if parsed else []
    return parsed


def _parse(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _validated(tree: Any, where: str) -> AnyConfig:
    adapter = _ENSEMBLE if isinstance(tree, dict) and "members" in tree else _NETWORK
    try:
        return adapter.validate_python(tree)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_fault(error)}") from error


def ensemble_of(recipe: str, members: Mapping[str, Config], method: FusionMethod) -> EnsembleConfig:
    """Return the configuration of an ensemble of networks, its experiment that of the first. Raises UsageError when
    they do not go together."""
    try:
        experiment = next(iter(members.values())).experiment
        return EnsembleConfig(recipe=recipe, members=dict(members), method=method, experiment=experiment)
    except ValidationError as error:
        raise UsageError(_first_fault(error)) from error


def changed(config: Config, where: str, **changes: Any) -> Config:
    """Return the configuration with these sections replaced. Raises UsageError, which begins with `where`, when it does
    not hold together so."""
    try:
        return dataclasses.replace(config, **changes)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    if "encoders" in parts:  # After the input's name comes the kind, by which pydantic tells the encoders apart.
        kind = parts.index("encoders") + 2
        del parts[kind : kind + 1]
    path = ".".join(parts)
    given = f" (it is {first['input']!r})" if parts and not isinstance(first["input"], dict) else ""
    message = first["msg"].removeprefix("Value error, ")
    return f"{path + ': ' if path else ''}{message}{given}"
