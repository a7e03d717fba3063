"""From a branch's frames to logits: how time is pooled, and the dense head."""

import keras

from emokeras.config import EncoderConfig, ModelConfig
from emokeras.models.layers import AttentionPooling, MaskedPooling


def pool(frames, mask, config: ModelConfig):
    """Pool frames [steps, channels] with their mask [steps, 1] over time to an embedding [channels or more]."""
    match config.pooling:
        case "flatten":
            return keras.layers.Flatten()(frames)
        case "attention":
            return AttentionPooling(with_deviation=False)([frames, mask])
        case "attentive-statistics":
            return AttentionPooling(with_deviation=True)([frames, mask])
        case mode:
            return MaskedPooling(mode)([frames, mask])


def head(embedding, num_emotions: int, config: ModelConfig, encoder: EncoderConfig):
    """Dense layers with dropout, then logits [emotions] in float32, whatever the precision of the layers before."""
    regularizer = keras.regularizers.L2(encoder.l2)
    if encoder.batch_normalization:
        embedding = keras.layers.BatchNormalization()(embedding)
    embedding = keras.layers.Dropout(config.dropout)(embedding)
    for units in config.hidden_units:
        embedding = keras.layers.Dense(units, activation="relu", kernel_regularizer=regularizer)(embedding)
        embedding = keras.layers.Dropout(config.dropout)(embedding)
    return keras.layers.Dense(num_emotions, kernel_regularizer=regularizer, dtype="float32", name="emotion")(embedding)
