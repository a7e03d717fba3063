"""What a run writes for TensorBoard beside the scalars: the graph, pictures, hyperparameters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from emokeras.reporting import plots


class TensorBoardPage:
    """Writes the graph, pictures and hyperparameters; keras.callbacks.TensorBoard writes the scalars."""

    def __init__(self, folder: Path, emotions: Sequence[str]):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(str(folder / "tensorboard" / "validation"))
        self.emotions = emotions

    def write_graph(self, model: keras.Model) -> None:
        """Write the network's graph of operations, on the TensorFlow backend. (TensorBoard cannot draw a Keras model
        whose outputs are a dict.)"""
        if keras.backend.backend() != "tensorflow":
            return
        import tensorflow as tf

        inputs = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}
        graph = tf.function(model).get_concrete_function(inputs).graph
        with self.writer.as_default():
            tf.summary.graph(graph)
        self.writer.flush()

    def write_figure(self, name: str, figure, step: int) -> None:
        """Write a matplotlib figure as an image."""
        import tensorflow as tf

        with self.writer.as_default():
            tf.summary.image(name, plots.to_image(figure)[np.newaxis], step)
        self.writer.flush()

    def write_confusion(self, labels: np.ndarray, predicted: np.ndarray, epoch: int) -> None:
        """Write the confusion matrix of the validation clips, both arguments int [clips]."""
        matrix = confusion_matrix(labels, predicted, labels=range(len(self.emotions)))
        picture = plots.confusion_matrix(matrix, self.emotions, f"validation, epoch {epoch}")
        self.write_figure("confusion_matrix", picture, epoch)

    def write_hyperparameters(self, settings: Mapping[str, object], accuracy: float, step: int) -> None:
        """Write the settings and the test accuracy, for TensorBoard's HParams page."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api as hparams

        plain = {path: value for path, value in settings.items() if isinstance(value, (bool, int, float, str))}
        with self.writer.as_default():
            hparams.hparams(plain)
            tf.summary.scalar("test_accuracy", accuracy, step)
        self.writer.flush()
