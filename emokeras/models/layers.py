"""Custom layers, and functions of frames and masks: augmentation, pooling, attention, positions.

They are written in keras.ops, so that they run on every backend. Importing this module registers all custom layers of
the package (those of `normalization` too), so that a saved model loads.
"""

import keras
from keras import ops

from emokeras.models import normalization  # noqa: F401  registers its layers

SMALLEST_VARIANCE = 1e-5


@keras.saving.register_keras_serializable("emokeras")
class SpecAugment(keras.layers.Layer):
    """SpecAugment (Park et al. 2019): set random intervals of frames and of bands to 0, in training only.

    The input is normalized, so that 0 is the mean. Input and output: [batch, frames, bands].
    """

    def __init__(self, num_time_masks, time_mask_frames, num_band_masks, band_mask_bands, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.num_time_masks, self.time_mask_frames = num_time_masks, time_mask_frames
        self.num_band_masks, self.band_mask_bands = num_band_masks, band_mask_bands
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, features, training=False):
        if not training or not (self.num_time_masks or self.num_band_masks):
            return features
        frames, bands = features.shape[1:]
        keep_frames = self._keep(features, frames, self.num_time_masks, self.time_mask_frames)
        keep_bands = self._keep(features, bands, self.num_band_masks, self.band_mask_bands)
        keep = ops.expand_dims(keep_frames, 2) * ops.expand_dims(keep_bands, 1)
        return features * ops.cast(keep, features.dtype)

    def _keep(self, features, size, num_masks, most):
        """Return [batch, size]: 0 in `num_masks` random intervals of length 0 to `most`, else 1."""
        shape = (ops.shape(features)[0], num_masks, 1)
        width = ops.floor(keras.random.uniform(shape, 0.0, float(most + 1), seed=self.seed_generator))
        start = ops.floor(keras.random.uniform(shape, seed=self.seed_generator) * (float(size + 1) - width))
        position = ops.reshape(ops.arange(size, dtype="float32"), (1, 1, size))
        masked = ops.logical_and(position >= start, position < start + width)
        return 1.0 - ops.cast(ops.any(masked, axis=1), "float32")

    def get_config(self):
        names = ("num_time_masks", "time_mask_frames", "num_band_masks", "band_mask_bands", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("emokeras")
class SqueezeExcitation(keras.layers.Layer):
    """Squeeze and excitation (Hu et al. 2018): weight channels by a function of their means over the valid steps.

    Call with [frames, mask], [batch, steps, channels] and [batch, steps, 1]; returns frames of the same shape.
    """

    def __init__(self, reduction=8, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.reduction = reduction
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        channels = input_shape[0][-1]
        regularizer = self.kernel_regularizer
        self.squeeze = keras.layers.Dense(
            max(8, channels // self.reduction),
            activation="relu",
            kernel_regularizer=regularizer,
            dtype=self.dtype_policy,
        )
        self.excite = keras.layers.Dense(
            channels, activation="sigmoid", kernel_regularizer=regularizer, dtype=self.dtype_policy
        )
        self.squeeze.build((input_shape[0][0], channels))
        self.excite.build((input_shape[0][0], self.squeeze.units))

    def call(self, inputs):
        frames, mask = inputs
        weights = self.excite(self.squeeze(masked_mean(frames, mask)))
        return frames * ops.expand_dims(weights, 1)

    def get_config(self):
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return super().get_config() | {"reduction": self.reduction, "kernel_regularizer": regularizer}


@keras.saving.register_keras_serializable("emokeras")
class MaskedPooling(keras.layers.Layer):
    """Mean, maximum, or both ("mean-max") over the valid steps.

    Call with [frames, mask], [batch, steps, channels] and [batch, steps, 1]; returns [batch, channels], twice as many
    channels for "mean-max".
    """

    def __init__(self, mode="mean", **kwargs):
        super().__init__(**kwargs)
        self.mode = mode
        self.supports_masking = True  # The mask is an input; compute_mask ends Keras's own.

    def call(self, inputs):
        frames, mask = inputs
        parts = []
        if "mean" in self.mode:
            parts.append(masked_mean(frames, mask))
        if "max" in self.mode:
            largest = ops.max(ops.where(mask > 0, frames, ops.full_like(frames, -1e4)), axis=1)
            # 0 without a valid step, as the mean.
            parts.append(largest * ops.cast(ops.max(mask, axis=1), frames.dtype))
        return ops.concatenate(parts, axis=-1)

    def get_config(self):
        return super().get_config() | {"mode": self.mode}

    def compute_mask(self, inputs, previous_mask):
        return None


@keras.saving.register_keras_serializable("emokeras")
class AttentionPooling(keras.layers.Layer):
    """Attention pooling: a mean over the valid steps with learned weights, which differ between channels.

    With `with_deviation` the weighted standard deviation is appended: attentive statistics pooling (Okabe et al. 2018;
    channel-wise as in ECAPA-TDNN, Desplanques et al. 2020). Call with [frames, mask], [batch, steps, channels] and
    [batch, steps, 1]; returns [batch, channels], twice as many channels with the deviation.
    """

    def __init__(self, units=64, with_deviation=True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.with_deviation = units, with_deviation
        self.supports_masking = True  # The mask is an input; compute_mask ends Keras's own.

    def build(self, input_shape):
        channels = input_shape[0][-1]
        self.hidden = keras.layers.Dense(self.units, activation="tanh", dtype=self.dtype_policy)
        self.score = keras.layers.Dense(channels, dtype=self.dtype_policy)
        self.hidden.build(input_shape[0])
        self.score.build((*input_shape[0][:-1], self.units))

    def call(self, inputs):
        frames, mask = inputs
        scores = ops.cast(self.score(self.hidden(frames)), "float32")
        frames = ops.cast(frames, "float32")
        weights = ops.softmax(ops.where(mask > 0, scores, ops.full_like(scores, -1e9)), axis=1)
        mean = ops.sum(weights * frames, axis=1)
        if not self.with_deviation:
            return ops.cast(mean, self.compute_dtype)
        variance = ops.sum(weights * ops.square(frames - ops.expand_dims(mean, 1)), axis=1)
        deviation = ops.sqrt(ops.maximum(variance, SMALLEST_VARIANCE))
        return ops.cast(ops.concatenate([mean, deviation], axis=-1), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"units": self.units, "with_deviation": self.with_deviation}

    def compute_mask(self, inputs, previous_mask):
        return None


@keras.saving.register_keras_serializable("emokeras")
class WeightedSum(keras.layers.Layer):
    """Sum of tensors of one shape with learned weights, which start equal with sum 1.

    TIM-Net's dynamic fusion of its temporal scales (Ye et al. 2023). Call with a list; returns a tensor of that shape.
    """

    def build(self, input_shape):
        count = len(input_shape)
        self.weight = self.add_weight(shape=(count,), initializer=keras.initializers.Constant(1 / count), name="weight")

    def call(self, inputs):
        weights = ops.cast(self.weight, self.compute_dtype)
        return sum(weights[index] * value for index, value in enumerate(inputs))


@keras.saving.register_keras_serializable("emokeras")
class WeightedAverage(keras.layers.Layer):
    """Average of tensors of one shape with learned weights, non-negative with sum 1, which start equal.

    Call with a list; returns a tensor of that shape.
    """

    def build(self, input_shape):
        self.scores = self.add_weight(shape=(len(input_shape),), initializer="zeros", name="scores")

    def call(self, inputs):
        weights = ops.cast(ops.softmax(self.scores), self.compute_dtype)
        return sum(weights[index] * value for index, value in enumerate(inputs))


@keras.saving.register_keras_serializable("emokeras")
class CrossAttention(keras.layers.Layer):
    """Residual cross-attention (Vaswani et al. 2017): queries from one sequence, keys and values from another, layer
    normalization before both.

    Call with [frames, others, mask of others]: [batch, steps, channels], [batch, other steps, channels], [batch, other
    steps, 1]; returns frames of the same shape.
    """

    def __init__(self, num_heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.dropout = num_heads, dropout

    def build(self, input_shape):
        frames, others, _ = input_shape
        policy = self.dtype_policy
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy)
        self.norm_others = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy)
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, frames[-1] // self.num_heads, dropout=self.dropout, dtype=policy
        )
        self.drop = keras.layers.Dropout(self.dropout, dtype=policy)
        self.norm.build(frames)
        self.norm_others.build(others)
        self.attention.build(frames, others)

    def call(self, inputs, training=False):
        attended, _ = self._attend(inputs, training)
        return inputs[0] + self.drop(attended, training=training)

    def attention_map(self, inputs):
        """Return the attention weights, averaged over the heads: [batch, steps, other steps], each row with sum 1."""
        return ops.mean(self._attend(inputs, training=False)[1], axis=1)

    def _attend(self, inputs, training):
        frames, others, mask = inputs
        keys = ops.transpose(mask, (0, 2, 1)) > 0  # [batch, 1, other steps]: the same for every query
        return self.attention(
            self.norm(frames),
            self.norm_others(others),
            attention_mask=keys,
            return_attention_scores=True,
            training=training,
        )

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return super().get_config() | {"num_heads": self.num_heads, "dropout": self.dropout}


@keras.saving.register_keras_serializable("emokeras")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector for each position to frames [batch, steps, channels]."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True  # Attention gets the mask as an input; compute_mask ends Keras's own.

    def compute_mask(self, inputs, previous_mask):
        return None

    def build(self, input_shape):
        self.positions = self.add_weight(
            shape=input_shape[1:], initializer=keras.initializers.TruncatedNormal(stddev=0.02), name="positions"
        )

    def call(self, inputs):
        return inputs + ops.cast(self.positions, inputs.dtype)


def masked_mean(frames, mask):
    """Return the mean of frames [batch, steps, channels] over the steps where mask [batch, steps, 1] is 1.

    It is computed in float32: a sum over many steps overflows float16.
    """
    values, mask = ops.cast(frames, "float32"), ops.cast(mask, "float32")
    mean = ops.sum(values * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)
    return ops.cast(mean, frames.dtype)


def delta_features(frames, reach: int = 4):
    """Return the delta features of frames [batch, steps, channels]: the slope of a line fitted to the 2 `reach` + 1
    frames around each step (Savitzky and Golay 1964), as librosa's. Frames beyond the ends count as 0."""
    padded = ops.pad(frames, [(0, 0), (reach, reach), (0, 0)])
    steps = frames.shape[1]
    rise = sum(lag * padded[:, reach + lag : reach + lag + steps] for lag in range(-reach, reach + 1) if lag)
    return rise / (2 * sum(lag**2 for lag in range(1, reach + 1)))


def halve_mask(mask):
    """Return the mask [batch, steps, 1] after a convolution of stride 2 with padding "same"; a step is valid where one
    of its two steps is."""
    return keras.layers.MaxPooling1D(2, padding="same")(mask)
