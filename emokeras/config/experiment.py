"""One experiment: which clips, which network, how it is trained; and an ensemble of several."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emokeras.config.encoders import WITHOUT_EFFECT, Encoder
from emokeras.config.inputs import (
    AudioConfig,
    AugmentConfig,
    MfccConfig,
    ProsodyConfig,
    SpectrogramConfig,
    SpeechConfig,
    TokensConfig,
    check_frames,
)
from emokeras.config.types import (
    STRICT,
    BranchFusion,
    Count,
    EnsembleMethod,
    Fraction,
    InputName,
    Name,
    NotNegative,
    Number,
    Pooling,
    Positive,
    ProtocolName,
    Seed,
)

SPEECH_RATE_HZ = 16000  # the sample rate of the pretrained speech encoders


@dataclass(frozen=True, config=STRICT)
class ExperimentConfig:
    """The corpora, their split, the random seeds, and the emotions, which are filled in from the corpora.

    `emotion_map`: pairs "calm=neutral"; clips of the first emotion count as the second.
    """

    corpora: tuple[str, ...] = ()
    emotion_map: tuple[str, ...] = ()
    protocol: ProtocolName = "speaker"
    fold: Number = 0
    seed: Seed = 0
    split_seed: Seed = 0
    emotions: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The corpora as `load_corpus` takes them; "" where the corpus was made in Python."""
        return ",".join(self.corpora)


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """From frames to logits: pooling over time, fusion of branches, dense layers.

    `normalize_embedding` is batch normalization of the pooled embeddings, `batch_normalization` that between the dense
    layers. `weights` are a pretrained encoder's: a file, a folder or a name on a hub. `pretrained` is the frozen speech
    encoder of a `speech` branch: a folder or a name.

    `fusion` of several branches: "early", one head over all embeddings; "attention", cross-attention between the
    branches' frames before pooling; "hybrid", the early head and one head per branch, averaged with learned weights.

    `branches` are runs, or recipes that are trained first where they are missing, from which the branches take their
    weights. `start_from` is a run or an export of one network, from which this one takes all of its weights. `license`
    is that of the trained weights, which an export names.
    """

    pooling: Pooling = "attentive-statistics"
    hidden_units: tuple[Count, ...] = (128,)
    dropout: Fraction = 0.3
    normalize_embedding: bool = True
    batch_normalization: bool = False
    weights: str = ""
    pretrained: str = ""
    fusion: BranchFusion = "early"
    attention_units: Count = 128
    attention_heads: Count = 4
    attention_blocks: Count = 1
    branches: tuple[str, ...] = ()
    start_from: str = ""
    license: str = ""


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How a network is trained; 0 switches off clipping, the moving average, early stopping, freezing, refitting.

    `optimizer` "muon" is Muon for weight matrices and AdamW for the rest; `weight_decay` applies to "adamw" and "muon".
    `clip_norm` is of each variable's gradient. `ema_momentum` is of the moving average of the weights. `select_by`
    chooses the epoch whose weights are kept: the best on validation, or the last.

    `accumulated_batches` gradients make one update; schedule and moving average count batches. Pretrained weights are
    frozen for `frozen_epochs`, then everything is trained at `unfrozen_learning_rate`.

    `refit_epochs`: after model selection, training continues on train + validation; the final weights are tested. The
    learning rate falls once more from where it last began.
    """

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
    mixed_precision: bool = False


@dataclass(frozen=True, config=STRICT)
class Config:
    """One experiment with one network. `encoders` has one encoder per input; sections it does not use keep their
    defaults."""

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
            check_frames(name, getattr(self, name), self.audio)
        if (self.augment.mixup_alpha or self.augment.num_variants) and not self.takes_audio:
            raise ValueError("augment: mixup and variants are of audio, which this network lacks: leave them out")
        if self.has_speech_encoder and self.audio.sample_rate_hz != SPEECH_RATE_HZ:
            raise ValueError(
                f"audio.sample_rate_hz={self.audio.sample_rate_hz}: a speech encoder takes {SPEECH_RATE_HZ} Hz only"
            )
        if self.model.attention_units % self.model.attention_heads:
            raise ValueError(
                f"model.attention_heads={self.model.attention_heads} does not divide model.attention_units="
                f"{self.model.attention_units}"
            )
        if self.model.start_from and self.model.branches:
            raise ValueError("model.start_from is a whole network, model.branches are parts of one: give one of them")
        for name, encoder in self.encoders.items():
            if encoder.kind == "bert" and (name != "tokens" or self.tokens.tokenizer != "pretrained"):
                raise ValueError(f"encoders.{name}: a bert takes tokens of tokens.tokenizer=pretrained, nothing else")
            for key in WITHOUT_EFFECT.get(name, ()):
                if getattr(encoder, key):
                    raise ValueError(f"encoders.{name}.{key} has no effect on {name}: leave it out")

    @property
    def networks(self) -> dict[str, "Config"]:
        """The networks to train: this one. (Of an ensemble: its members.)"""
        return {self.recipe: self}

    @property
    def sample_rate_hz(self) -> int:
        return self.audio.sample_rate_hz

    @property
    def audio_inputs(self) -> tuple[InputName, ...]:
        """The inputs that are computed from the waveform, in graph."""
        return tuple(name for name in self.encoders if name not in ("speech", "tokens"))

    @property
    def has_speech_encoder(self) -> bool:
        return "speech" in self.encoders

    @property
    def takes_audio(self) -> bool:
        return bool(self.audio_inputs) or self.has_speech_encoder

    @property
    def takes_waveform(self) -> bool:
        """Whether the graph that serves it begins at the waveform; that of a wav2vec 2.0 begins at its frames."""
        return bool(self.audio_inputs) or (self.has_speech_encoder and self.speech.family == "whisper")

    @property
    def takes_transcripts(self) -> bool:
        return "tokens" in self.encoders

    @property
    def decode_rate_hz(self) -> int | None:
        """The rate at which clips are decoded for it; None where it takes no audio."""
        return self.sample_rate_hz if self.takes_audio else None

    @property
    def has_pretrained_tokenizer(self) -> bool:
        return self.takes_transcripts and self.tokens.tokenizer == "pretrained"

    def num_frames(self, name: InputName) -> int:
        """Return the frames of a window of a branch."""
        return round(self.audio.window_seconds / getattr(self, name).hop_seconds)

    def pooling_of(self, name: InputName) -> Pooling:
        """Return how a branch's frames are pooled over time."""
        return self.encoders[name].pooling or self.model.pooling


@dataclass(frozen=True, config=STRICT)
class EnsembleConfig:
    """Networks that are trained separately and combined by `method` (late fusion). They share the sample rate, a
    pretrained tokenizer and a speech encoder; each has features of its own. `weights` are the members' in "weighted";
    without any they are fitted on validation."""

    recipe: Name
    members: Annotated[dict[Name, Config], Field(min_length=1)]
    method: EnsembleMethod = "weighted"
    experiment: ExperimentConfig = ExperimentConfig()
    weights: tuple[NotNegative, ...] = ()

    def __post_init__(self):
        members = self.members.values()
        if self.weights and (self.method != "weighted" or len(self.weights) != len(members) or not sum(self.weights)):
            raise ValueError(
                f"weights: the method weighted takes one for each of the {len(members)} members, not all 0, or none"
            )
        rates = {name: member.sample_rate_hz for name, member in self.members.items() if member.takes_audio}
        if len(set(rates.values())) > 1:
            named = ", ".join(f"{name} {rate}" for name, rate in rates.items())
            raise ValueError(f"members: all must have one audio.sample_rate_hz, these are {named}")
        if len({(one.model.weights, one.tokens.max_words) for one in members if one.has_pretrained_tokenizer}) > 1:
            raise ValueError("members: those with a pretrained tokenizer must share it and tokens.max_words")
        decibels = {one.audio.speech_decibels for one in members if one.has_speech_encoder}
        if len({(one.model.pretrained, one.speech) for one in members if one.has_speech_encoder}) > 1:
            raise ValueError("members: those with a speech encoder must share it and its settings")
        if len(decibels) > 1:
            raise ValueError("members: those with a speech encoder must share audio.speech_decibels")
        starts = [one.model.start_from for one in members if one.model.start_from]
        if len(set(starts)) < len(starts):
            raise ValueError("members: two start from one model: give it to one of them, members.NAME.model.start_from")

    @property
    def networks(self) -> dict[str, Config]:
        """The networks to train: the members."""
        return self.members

    @property
    def sample_rate_hz(self) -> int:
        """The rate of the members that take audio; any, where none does."""
        with_audio = [member for member in self.members.values() if member.takes_audio]
        return (with_audio or list(self.members.values()))[0].sample_rate_hz

    @property
    def audio_inputs(self) -> tuple[InputName, ...]:
        """The inputs that are computed from the waveform, of any member."""
        return tuple(dict.fromkeys(name for member in self.members.values() for name in member.audio_inputs))

    @property
    def has_speech_encoder(self) -> bool:
        return any(member.has_speech_encoder for member in self.members.values())

    @property
    def takes_audio(self) -> bool:
        return any(member.takes_audio for member in self.members.values())

    @property
    def takes_waveform(self) -> bool:
        """Whether the graph that serves it takes the waveform."""
        return any(member.takes_waveform for member in self.members.values())

    @property
    def decode_rate_hz(self) -> int | None:
        """The rate at which clips are decoded for it; None where it takes no audio."""
        return self.sample_rate_hz if self.takes_audio else None

    @property
    def takes_transcripts(self) -> bool:
        return any(member.takes_transcripts for member in self.members.values())


AnyConfig = Config | EnsembleConfig
