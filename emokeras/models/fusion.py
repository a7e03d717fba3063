"""From the frames of one or several branches to logits: pooling over time, fusion of branches, and the dense head.

The layers INPUT_frames and INPUT_pooled mark a branch's frames before and after pooling: up to there the weights of
another network's branch can be loaded. Shapes in this module leave out the batch axis.
"""

from collections.abc import Mapping

import keras

from emokeras.config import Config, InputName, Pooling
from emokeras.models.attention import feed_forward
from emokeras.models.layers import AttentionPooling, CrossAttention, MaskedPooling, PositionEmbedding, WeightedAverage

Branches = Mapping[InputName, tuple[keras.KerasTensor, keras.KerasTensor]]  # [steps, channels], their mask [steps, 1]


def fuse(branches: Branches, config: Config) -> keras.KerasTensor:
    """Return the logits [emotions] of a network with these branches; with a single one `model.fusion` has no effect."""
    match config.model.fusion if len(branches) > 1 else "early":
        case "early":
            return early(branches, config)
        case "attention":
            return early(cross_attend(branches, config), config)
        case "hybrid":
            return hybrid(branches, config)


def early(branches: Branches, config: Config):
    """Early fusion: one head over the concatenated embeddings of the branches."""
    return head(list(embed(branches, config).values()), config, "emotion")


def hybrid(branches: Branches, config: Config):
    """Hybrid fusion, early and late: the logits of a head over all embeddings and of one dense layer per branch,
    averaged with learned weights."""
    embeddings = embed(branches, config)
    together = head(list(embeddings.values()), config, "all_emotion")
    alone = [_logits(embedding, config, f"{name}_emotion") for name, embedding in embeddings.items()]
    return WeightedAverage(dtype="float32", name="emotion")([together, *alone])


def cross_attend(branches: Branches, config: Config) -> Branches:
    """Attention fusion: cross-attention from the steps of each branch to all valid steps of the others, as in the
    cross-modal transformer (Tsai et al. 2019), in blocks of `attention_units` channels."""
    units, heads = config.model.attention_units, config.model.attention_heads
    regularizer = keras.regularizers.L2(_l2(config))
    branches = {
        name: (PositionEmbedding()(keras.layers.Dense(units, kernel_regularizer=regularizer)(frames)), mask)
        for name, (frames, mask) in branches.items()
    }
    for block in range(config.model.attention_blocks):
        fused = {}
        for name, (frames, mask) in branches.items():
            others = [branch for other, branch in branches.items() if other != name]
            other_frames, other_masks = (_concatenate(parts, axis=1) for parts in zip(*others, strict=True))
            layer = CrossAttention(heads, config.model.dropout, name=attention_layer_name(name, block))
            frames = layer([frames, other_frames, other_masks])
            fused[name] = feed_forward(frames, config.model.dropout, _l2(config)), mask
        branches = fused
    return branches


def attention_layer_name(name: InputName, block: int) -> str:
    """Return the name of a branch's cross-attention layer."""
    return f"{name}_attention_{block}"


def embed(branches: Branches, config: Config) -> dict[InputName, keras.KerasTensor]:
    """Return the embedding of each branch: its frames pooled over time, then the dense layer of
    `encoder.embedding_units`, if any, with batch normalization where the encoder has it."""
    embeddings = {}
    for name, (frames, mask) in branches.items():
        encoder = config.encoders[name]
        embedding = keras.layers.Identity(name=f"{name}_pooled")(pool(frames, mask, config.pooling_of(name)))
        if encoder.embedding_units:
            normalize = getattr(encoder, "batch_normalization", False)
            embedding = _dense(embedding, encoder.embedding_units, normalize, config)
        embeddings[name] = embedding
    return embeddings


def pool(frames, mask, pooling: Pooling):
    """Pool frames [steps, channels] with their mask [steps, 1] over time: [channels or more]."""
    match pooling:
        case "flatten":
            return keras.layers.Flatten()(frames)
        case "attention":
            return AttentionPooling(with_deviation=False)([frames, mask])
        case "attentive-statistics":
            return AttentionPooling(with_deviation=True)([frames, mask])
        case mode:
            return MaskedPooling(mode)([frames, mask])


def head(embeddings: list, config: Config, name: str):
    """Dense layers with dropout over the concatenated embeddings, then logits [emotions]."""
    embedding = _concatenate(embeddings, axis=-1)
    if config.model.normalize_embedding:
        embedding = keras.layers.BatchNormalization()(embedding)
    embedding = keras.layers.Dropout(config.model.dropout)(embedding)
    for units in config.model.hidden_units:
        embedding = _dense(embedding, units, config.model.batch_normalization, config)
        embedding = keras.layers.Dropout(config.model.dropout)(embedding)
    return _logits(embedding, config, name)


def _dense(embedding, units: int, batch_normalization: bool, config: Config):
    embedding = keras.layers.Dense(units, kernel_regularizer=keras.regularizers.L2(_l2(config)))(embedding)
    if batch_normalization:
        embedding = keras.layers.BatchNormalization()(embedding)
    return keras.layers.ReLU()(embedding)


def _logits(embedding, config: Config, name: str):
    """Logits [emotions], in float32 whatever the precision of the layers before."""
    regularizer = keras.regularizers.L2(_l2(config))
    emotions = len(config.experiment.emotions)
    return keras.layers.Dense(emotions, kernel_regularizer=regularizer, dtype="float32", name=name)(embedding)


def _l2(config: Config) -> float:
    return max(encoder.l2 for encoder in config.encoders.values())


def _concatenate(tensors, axis: int):
    tensors = list(tensors)
    return keras.layers.Concatenate(axis)(tensors) if len(tensors) > 1 else tensors[0]
