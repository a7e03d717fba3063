"""Loss, optimizer, schedule, precision, and the weight of each emotion in the loss."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from emokeras.config import TrainingConfig


def set_precision(config: TrainingConfig, say: Callable) -> None:
    """Use float16 with float32 variables where it is asked for and there is a GPU; else float32."""
    is_mixed = config.mixed_precision and has_gpu()
    if config.mixed_precision and not is_mixed:
        say("mixed precision: there is no GPU, training stays float32 (float16 is slower on a CPU)")
    keras.config.set_dtype_policy("mixed_float16" if is_mixed else "float32")


def has_gpu() -> bool:
    """Return whether Keras's backend computes on a GPU."""
    if keras.backend.backend() == "torch":  # Keras lists no devices of this backend.
        import torch

        return torch.cuda.is_available()
    return keras.distribution.list_devices()[0].startswith("gpu")


def compile_model(model: keras.Model, config: TrainingConfig, steps_per_epoch: int, is_masked: bool = False) -> None:
    """Give the model its loss, its optimizer and its schedule. `is_masked`: the targets are those of
    MaskedCrossEntropy."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        warmup_steps = round(config.warmup_epochs * steps_per_epoch)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 100 if warmup_steps else rate,
            max(1, config.epochs * steps_per_epoch - warmup_steps),
            warmup_target=rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    options = {"clipnorm": config.clip_norm or None}
    if config.accumulated_batches > 1:
        options["gradient_accumulation_steps"] = config.accumulated_batches
    if config.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    match config.optimizer:
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **options)
        case "muon":
            decay = {"weight_decay": config.weight_decay, "adam_weight_decay": config.weight_decay}
            heads = [f"^{name}/" for name in model.output]  # Muon is for hidden layers.
            optimizer = ConvolutionMuon(rate, exclude_layers=heads, **decay, **options)
        case "adam":
            optimizer = keras.optimizers.Adam(rate, **options)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    if optimizer.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if is_masked:
        loss = MaskedCrossEntropy(config.label_smoothing)
        accuracy = keras.metrics.MeanMetricWrapper(masked_accuracy, "accuracy")
    else:
        loss, accuracy = keras.losses.CategoricalCrossentropy(True, config.label_smoothing), "accuracy"
    model.compile(
        optimizer,
        loss={"emotion": loss},
        metrics={"emotion": [accuracy]},
        # XLA makes TensorFlow slower on a CPU; without it JAX would do one small step after another.
        jit_compile="auto" if has_gpu() or keras.backend.backend() != "tensorflow" else False,
    )
    model.optimizer.build(model.trainable_variables)


@keras.saving.register_keras_serializable("emokeras")
class MaskedCrossEntropy(keras.losses.Loss):
    """Cross-entropy over the emotions that a clip's corpus has: a corpus is no evidence against others.

    The targets are `data.augment_features.mixed_targets`, float32 [batch, 4 emotions], the predictions logits [batch,
    emotions]. Label smoothing is over the emotions of the corpus.
    """

    def __init__(self, label_smoothing=0.0, name="masked_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, targets, logits):
        own, own_mask, other, other_mask = ops.split(targets, 4, axis=-1)
        return self._of_clip(own, own_mask, logits) + self._of_clip(other, other_mask, logits)

    def _of_clip(self, labels, mask, logits):
        share = ops.sum(labels, axis=-1, keepdims=True)
        even = mask / ops.sum(mask, axis=-1, keepdims=True)
        labels = (1.0 - self.label_smoothing) * labels + self.label_smoothing * share * even
        logits = ops.where(mask > 0, logits, ops.full_like(logits, -1e9))
        logarithms = ops.where(mask > 0, ops.log_softmax(logits), ops.zeros_like(logits))
        return -ops.sum(labels * logarithms, axis=-1)

    def get_config(self):
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("emokeras")
def masked_accuracy(targets, logits):
    """Return whether the most probable emotion is that with the largest share, of the targets of MaskedCrossEntropy."""
    own, _, other, _ = ops.split(targets, 4, axis=-1)
    return ops.cast(ops.argmax(own + other, axis=-1) == ops.argmax(logits, axis=-1), "float32")


def clip_weights(labels: np.ndarray, corpora: Sequence[str], config: TrainingConfig) -> np.ndarray:
    """Return the weight of each clip in the loss, float64 [clips], 1 on average.

    The corpora have the same total weight and, with `class_weights`, so have the emotions of a corpus.

    Parameters
    ----------
    labels: int [clips].
    corpora: the corpus of each clip.
    """
    weights = np.empty(len(labels))
    for corpus in set(corpora):
        own = np.array([other == corpus for other in corpora])
        weights[own] = len(labels) / (len(set(corpora)) * own.sum())
        if config.class_weights:
            counts = np.bincount(labels[own])
            weights[own] *= own.sum() / (np.count_nonzero(counts) * counts[labels[own]])
    return weights


@keras.saving.register_keras_serializable("emokeras")
class ConvolutionMuon(keras.optimizers.Muon):
    """Keras's Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), with convolution kernels as
    matrices [taps × inputs, filters]. Keras itself updates 2-D kernels only and leaves those of convolutions to AdamW.

    A matrix is updated by its orthogonalized momentum, with a step as large as AdamW's at the same learning rate (Liu
    et al. 2025). Biases and everything else are updated by AdamW.
    """

    def _should_use_adamw(self, variable):
        # By the names that Keras gives: kernels of depthwise convolutions and of attention are no such matrices.
        layer, *_ = variable.path.split("/")[-2:]
        is_convolution = layer.startswith(("conv1d", "conv2d")) and variable.name == "kernel"
        return not is_convolution and super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x, steps):
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(_as_matrix(x), steps), x.shape)

    def lr_adjust(self, x):
        return keras.ops.reshape(super().lr_adjust(_as_matrix(x)), x.shape)


def _as_matrix(kernel):
    return keras.ops.reshape(kernel, (-1, kernel.shape[-1]))
