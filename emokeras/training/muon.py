"""Muon for networks of convolutions."""

import keras


@keras.saving.register_keras_serializable("emokeras")
class ConvolutionMuon(keras.optimizers.Muon):
    """Keras's Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), with the kernel of a convolution as
    the matrix that it is, [taps × inputs, filters]. Keras moves matrices so, and leaves such kernels to AdamW.

    What moves a matrix is its momentum made orthogonal, so that all directions are learned alike, the rare ones too;
    the step is as large as AdamW's at the same rate (Liu et al. 2025). Biases and all else are moved by AdamW.
    """

    def _should_use_adamw(self, variable):
        # Told by the names that Keras gives: kernels of depthwise convolutions and of attention are other matrices.
        layer, *_ = variable.path.split("/")[-2:]
        is_convolution = layer.startswith(("conv1d", "conv2d")) and variable.name == "kernel"
        return not is_convolution and super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x, steps):
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(_as_matrix(x), steps), x.shape)

    def lr_adjust(self, x):
        return keras.ops.reshape(super().lr_adjust(_as_matrix(x)), x.shape)


def _as_matrix(kernel):
    return keras.ops.reshape(kernel, (-1, kernel.shape[-1]))
