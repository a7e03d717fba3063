"""The settings of branch encoders: features -> frames [steps, channels]. `kind` names a builder in models.encoders."""

from collections.abc import Mapping
from typing import Annotated, Literal, Union

from pydantic import Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from emokeras.config.types import STRICT, Count, Fraction, NotNegative, Number, Pooling

# Settings that have no effect on an input.
WITHOUT_EFFECT = {"tokens": ("centered", "deltas")}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderConfig:
    """What all encoders share.

    `pooling` is over time ("": that of `model.pooling`). `embedding_units` adds a dense layer after it (0: none).
    `centered`: subtract the clip's mean of each feature (cepstral mean normalization). `deltas` 1 appends delta
    features, 2 adds delta-deltas. Both are for frames of audio.
    """

    centered: bool = False
    deltas: Annotated[int, Field(ge=0, le=2)] = 0
    dropout: Fraction = 0.2
    l2: NotNegative = 1e-4
    pooling: Pooling | Literal[""] = ""
    embedding_units: Number = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IdentityConfig(EncoderConfig):
    """The frames as they are. With their mean and no hidden layers the network is a logistic regression."""

    kind: Literal["identity"] = "identity"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConvolutionalConfig(EncoderConfig):
    """What encoders made of convolutions share: batch normalization after each convolution."""

    batch_normalization: bool = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CnnConfig(ConvolutionalConfig):
    """Blocks of 2-D convolution and 2 × 2 max-pooling; one block per filter count."""

    kind: Literal["cnn"] = "cnn"
    filters: tuple[Count, ...] = (32, 64, 128)
    kernel_size: Count = 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CrnnConfig(CnnConfig):
    """The blocks of a CNN, then bidirectional GRUs."""

    kind: Literal["crnn"] = "crnn"
    recurrent_units: tuple[Count, ...] = (96,)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResnetConfig(ConvolutionalConfig):
    """A 2-D stem, then 1-D residual blocks over time.

    The first filter count is the stem's. Its two convolutions halve the bands twice and the steps once, in the "first"
    or the "second" of them. `layer_normalization` ends each block, so that an input unlike the training clips, such as
    a very quiet voice, cannot grow from block to block.
    """

    kind: Literal["resnet"] = "resnet"
    filters: tuple[Count, ...] = (32, 128, 192)
    kernel_size: Count = 3
    stem_halves_steps: Literal["first", "second"] = "first"
    squeeze_excitation: bool = False
    layer_normalization: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TcnConfig(ConvolutionalConfig):
    """Dilated causal convolutions over time in both directions; one block per dilation, in steps of two frames."""

    kind: Literal["tcn"] = "tcn"
    filters: Count = 128
    kernel_size: Annotated[int, Field(ge=2)] = 2
    dilations: tuple[Count, ...] = (1, 2, 4, 8, 16)
    layer_normalization: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerConfig(EncoderConfig):
    """Patches of a spectrogram with learned positions, then blocks of self-attention."""

    kind: Literal["transformer"] = "transformer"
    patch_frames: Count = 16
    patch_bands: Count = 16
    units: Count = 128
    num_heads: Count = 4
    num_blocks: Count = 4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImagenetConfig(EncoderConfig):
    """A ResNet of keras.applications that was trained on ImageNet, with the weights that `model.weights` names."""

    kind: Literal["imagenet"] = "imagenet"
    backbone: Literal["ResNet50", "ResNet101", "ResNet152", "ResNet50V2"] = "ResNet50"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RecurrentConfig(EncoderConfig):
    """Recurrent layers over words or frames; one layer per unit count."""

    kind: Literal["recurrent"] = "recurrent"
    cell: Literal["lstm", "gru"] = "lstm"
    units: tuple[Count, ...] = (64,)
    bidirectional: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BertConfig(EncoderConfig):
    """The encoder of a BERT. Its sizes are read from the model in `model.weights`; the defaults are BERT base's."""

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
        ImagenetConfig,
        RecurrentConfig,
        BertConfig,
        IdentityConfig,
    )
}
Encoder = Annotated[
    Union[tuple(Annotated[encoder, Tag(kind)] for kind, encoder in ENCODER_CONFIGS.items())],  # noqa: UP007
    Discriminator(lambda value: value.get("kind", "cnn") if isinstance(value, Mapping) else getattr(value, "kind", "")),
]
