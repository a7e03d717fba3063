"""Custom layers, written in keras.ops so that they run on every backend, registered so that a saved model loads."""

import keras
from keras import ops

SMALLEST_VARIANCE = 1e-5
# Of the bodies' batch normalisation. An epoch has a few dozen batches here: at Keras's 0.99 the moving statistics would
# lag behind for many epochs. (Dense heads, the reports' own, keep Keras's.)
MOMENTUM = 0.95


@keras.saving.register_keras_serializable("emokeras")
class SpecAugment(keras.layers.Layer):
    """Mask random stretches of frames and of bands with 0, in training only (Park et al. 2019).

    Stands after normalisation, where 0 is the mean. Input and output: [batch, frames, bands].
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
        """Return [batch, size], 0 in each of `num_masks` stretches of 0 to `most`, else 1."""
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
class StyleMixing(keras.layers.Layer):
    """Give a clip's features, with `probability` and in training only, a mean and a deviation over its valid steps that
    lie between its own and another clip's of the batch: the share is drawn from Beta(alpha, alpha), one for all
    features. So it sounds as through another voice, room or microphone.

    MixStyle (Zhou et al. 2021) on the frequency axis (Schmid et al. 2022). Call with [frames, mask], [batch, steps,
    features] and [batch, steps, 1]; returns frames of the same shape, 0 where none is valid.
    """

    def __init__(self, probability, alpha, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.probability, self.alpha, self.seed = probability, alpha, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        frames, mask = inputs
        if not training:
            return frames
        mean = ops.expand_dims(masked_mean(frames, mask), 1)  # [batch, 1, features]
        variance = ops.expand_dims(masked_mean(ops.square(frames - mean), mask), 1)
        deviation = ops.sqrt(variance + SMALLEST_VARIANCE)

        clips = ops.shape(frames)[0]
        own = keras.random.beta((clips, 1, 1), self.alpha, self.alpha, seed=self.seed_generator)
        drawn = keras.random.uniform((clips, 1, 1), seed=self.seed_generator)
        own = ops.where(drawn < self.probability, own, 1.0)
        others = keras.random.shuffle(ops.arange(clips), seed=self.seed_generator)
        mixed_mean, mixed_deviation = (
            own * value + (1.0 - own) * ops.take(value, others, axis=0) for value in (mean, deviation)
        )
        return ((frames - mean) / deviation * mixed_deviation + mixed_mean) * mask

    def get_config(self):
        return super().get_config() | {"probability": self.probability, "alpha": self.alpha, "seed": self.seed}


@keras.saving.register_keras_serializable("emokeras")
class Leveling(keras.layers.Layer):
    """Take from frames [batch, steps, features] how loud their clip is: the mean, over the valid steps, of the features
    from `start` to before `stop`, which are those that grow with it.

    Call with [frames, mask]; the mask is [batch, steps, 1]. Returns frames of the same shape, 0 where none is valid.
    """

    def __init__(self, start, stop, **kwargs):
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs):
        frames, mask = inputs
        level = ops.mean(masked_mean(frames, mask)[:, self.start : self.stop], axis=-1)  # [batch]
        features = ops.arange(frames.shape[-1])
        grows = ops.cast((features >= self.start) & (features < self.stop), frames.dtype)  # [features]
        return (frames - ops.reshape(level, (-1, 1, 1)) * grows) * mask

    def get_config(self):
        return super().get_config() | {"start": self.start, "stop": self.stop}


@keras.saving.register_keras_serializable("emokeras")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's, over all axes but the last, with the gradient that Ioffe and Szegedy (2015) give. The one
    TensorFlow derives goes over the frames twice as often: on CPUs it took a tenth of a training's time."""

    def call(self, inputs, training=False):
        if not (training and self.trainable):  # What stands still normalises as in serving.
            return super().call(inputs)
        frames = ops.cast(inputs, "float32")
        axes = tuple(range(len(frames.shape) - 1))
        mean = ops.stop_gradient(ops.mean(frames, axes))
        variance = ops.stop_gradient(ops.maximum(ops.mean(ops.square(frames), axes) - ops.square(mean), 0.0))
        self.move_statistics(mean, variance)
        inverse = ops.rsqrt(variance + self.epsilon)
        count = ops.cast(ops.size(frames) // frames.shape[-1], "float32")

        @ops.custom_gradient
        def normalize(frames, gamma, beta):
            def gradient(*arguments, upstream=None):
                above = arguments[0] if upstream is None else upstream  # PyTorch gives the latter.
                of_beta = ops.sum(above, axes)
                of_gamma = (ops.sum(above * frames, axes) - mean * of_beta) * inverse
                slope = of_gamma * inverse / count
                of_frames = (above - frames * slope + (mean * slope - of_beta / count)) * (gamma * inverse)
                return of_frames, of_gamma, of_beta

            scale = gamma * inverse
            return frames * scale + (beta - mean * scale), gradient

        # As tensors: eager TensorFlow takes no variables here.
        outputs = normalize(frames, ops.copy(self.gamma), ops.copy(self.beta))
        return ops.cast(outputs, self.compute_dtype)

    def move_statistics(self, mean, variance):
        """Move the statistics of serving towards those of a batch, [channels] each."""
        for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + of_batch * (1.0 - self.momentum))


@keras.saving.register_keras_serializable("emokeras")
class NormalizedConvolution(keras.layers.Layer):
    """Convolve frames [batch, steps, bands, 1] with `padding="same"` and normalise the batch (Ioffe and Szegedy 2015),
    in one: [batch, steps, bands, filters], shorter by `strides`.

    Gives what a Conv2D and a BatchNormalization of `momentum` give. But mean and variance of what comes out follow from
    those of the few numbers under the kernel, and the normalisation goes into the kernel: behind a single channel it is
    the largest tensor of a network, and normalising it took a quarter of a training's time on CPUs.
    """

    def __init__(self, filters, kernel_size, strides=1, momentum=0.99, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides, self.momentum = filters, kernel_size, strides, momentum
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        self.convolution = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            self.strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
        )
        self.normalization = BatchNormalization(momentum=self.momentum, dtype=self.dtype_policy)
        self.convolution.build(input_shape)
        self.normalization.build(self.convolution.compute_output_shape(input_shape))

    def call(self, frames, training=False):
        normalization, kernel = self.normalization, ops.cast(self.convolution.kernel, "float32")
        mean, variance = normalization.moving_mean, normalization.moving_variance
        if training and self.trainable:  # What stands still normalises as in serving.
            mean, variance = self._statistics(ops.cast(frames, "float32"), ops.reshape(kernel, (-1, self.filters)))
            normalization.move_statistics(mean, variance)
        scale = normalization.gamma * ops.rsqrt(variance + normalization.epsilon)
        kernel, bias = (ops.cast(value, frames.dtype) for value in (kernel * scale, normalization.beta - mean * scale))
        return ops.conv(frames, kernel, self.strides, padding="same") + bias

    def _statistics(self, frames, kernel):
        """Return mean and variance, [filters] each, of what a kernel [taps, filters] makes of frames."""
        taps = kernel.shape[0]
        patches = ops.image.extract_patches(frames, self.kernel_size, self.strides, padding="same")
        patches = ops.reshape(patches, (-1, taps))
        mean = ops.mean(patches, axis=0)
        count = ops.cast(ops.shape(patches)[0], "float32")
        covariance = ops.matmul(ops.transpose(patches), patches) / count - ops.outer(mean, mean)  # [taps, taps]
        # By sums: products of matrices are rounded on some GPUs, and a small variance could become a negative one.
        crossed = ops.expand_dims(kernel, 0) * ops.expand_dims(kernel, 1)  # [taps, taps, filters]
        variance = ops.sum(ops.expand_dims(covariance, 2) * crossed, axis=(0, 1))
        return ops.sum(ops.expand_dims(mean, 1) * kernel, axis=0), ops.maximum(variance, 0.0)

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self):
        names = ("filters", "kernel_size", "strides", "momentum")
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        own = {name: getattr(self, name) for name in names} | {"kernel_regularizer": regularizer}
        return super().get_config() | own


@keras.saving.register_keras_serializable("emokeras")
class SqueezeExcitation(keras.layers.Layer):
    """Weigh the channels of frames [batch, steps, channels] by their mean over the valid steps (Hu et al. 2018).

    Call with [frames, mask]; the mask is [batch, steps, 1]. Returns frames of the same shape.
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
    """Pool frames [batch, steps, channels] over the valid steps: the mean, the maximum, or both side by side.

    Call with [frames, mask]; the mask is [batch, steps, 1]. Returns [batch, channels], twice as many for "mean-max".
    """

    def __init__(self, mode="mean", **kwargs):
        super().__init__(**kwargs)
        self.mode = mode
        self.supports_masking = True  # It gets the mask beside the frames, and ends it.

    def call(self, inputs):
        frames, mask = inputs
        parts = []
        if "mean" in self.mode:
            parts.append(masked_mean(frames, mask))
        if "max" in self.mode:
            largest = ops.max(ops.where(mask > 0, frames, ops.full_like(frames, -1e4)), axis=1)
            # 0 where no step is valid, as the mean is.
            parts.append(largest * ops.cast(ops.max(mask, axis=1), frames.dtype))
        return ops.concatenate(parts, axis=-1)

    def get_config(self):
        return super().get_config() | {"mode": self.mode}

    def compute_mask(self, inputs, previous_mask):
        return None


@keras.saving.register_keras_serializable("emokeras")
class AttentionPooling(keras.layers.Layer):
    """Pool frames [batch, steps, channels] by learned weights over the valid steps, one set of weights a channel.

    Attentive statistics pooling (Okabe et al. 2018; channel-wise as in ECAPA-TDNN, Desplanques et al. 2020): with
    `with_deviation` the weighted standard deviation stands beside the weighted mean. Call with [frames, mask]; the
    mask is [batch, steps, 1]. Returns [batch, channels], twice as many with the deviation.
    """

    def __init__(self, units=64, with_deviation=True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.with_deviation = units, with_deviation
        self.supports_masking = True  # It gets the mask beside the frames, and ends it.

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
    """Add several tensors of one shape, each times a learned weight of its own; all weights begin equal, with sum 1.

    TIM-Net's dynamic fusion of its temporal scales (Ye et al. 2023). Call with a list; returns a tensor of its shape.
    """

    def build(self, input_shape):
        count = len(input_shape)
        self.weight = self.add_weight(shape=(count,), initializer=keras.initializers.Constant(1 / count), name="weight")

    def call(self, inputs):
        weights = ops.cast(self.weight, self.compute_dtype)
        return sum(weights[index] * value for index, value in enumerate(inputs))


@keras.saving.register_keras_serializable("emokeras")
class WeightedAverage(keras.layers.Layer):
    """Average several tensors of one shape by learned weights, none negative, that sum to 1; all begin equal.

    Call with a list; returns a tensor of the shape they share.
    """

    def build(self, input_shape):
        self.scores = self.add_weight(shape=(len(input_shape),), initializer="zeros", name="scores")

    def call(self, inputs):
        weights = ops.cast(ops.softmax(self.scores), self.compute_dtype)
        return sum(weights[index] * value for index, value in enumerate(inputs))


@keras.saving.register_keras_serializable("emokeras")
class CrossAttention(keras.layers.Layer):
    """Add to each step of one sequence what it finds in another, both normalised before (Vaswani et al. 2017).

    Call with [frames [batch, steps, channels], others [batch, other steps, channels], mask of the others [batch, other
    steps, 1]]; returns frames of the same shape.
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
        """Return where each step looks, the mean over the heads: [batch, steps, other steps], rows that sum to 1."""
        return ops.mean(self._attend(inputs, training=False)[1], axis=1)

    def _attend(self, inputs, training):
        frames, others, mask = inputs
        keys = ops.transpose(mask, (0, 2, 1)) > 0  # [batch, 1, other steps]: for every query the same keys
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
    """Add to each step of frames [batch, steps, channels] a learned vector of its position."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True  # What attends behind it gets the mask beside the frames.

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

    Summed in float32: a sum over many steps overflows float16.
    """
    values, mask = ops.cast(frames, "float32"), ops.cast(mask, "float32")
    mean = ops.sum(values * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)
    return ops.cast(mean, frames.dtype)


def slopes(frames, reach: int = 4):
    """Return how frames [steps, channels] rise at each step: the slope of a line through the 2 `reach` + 1 around it
    (Savitzky and Golay 1964). Beyond the ends they count as 0."""
    padded = ops.pad(frames, [(0, 0), (reach, reach), (0, 0)])
    steps = frames.shape[1]
    rise = sum(lag * padded[:, reach + lag : reach + lag + steps] for lag in range(-reach, reach + 1) if lag)
    return rise / (2 * sum(lag**2 for lag in range(1, reach + 1)))


def shorten(mask):
    """Halve the steps of a mask [steps, 1] as a convolution of stride 2 with padding "same" does; a half-valid step is
    valid."""
    return keras.layers.MaxPooling1D(2, padding="same")(mask)
