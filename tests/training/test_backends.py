"""What trains on another backend of Keras is the same network under TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import tiny_arguments

from emokeras import evaluate, runs
from emokeras.errors import UsageError
from emokeras.recognizer import load_recognizer


@pytest.mark.slow
def test_a_run_trained_under_jax_has_the_same_predictions_under_tensorflow(demo_folder, tmp_path):
    pytest.importorskip("jax", reason="the extra test brings jax")
    folder = tmp_path / "run"
    # With a moving average of the weights, with which it is validated.
    settings = [*tiny_arguments("mel-resnet"), "--set", "training.ema_momentum=0.5"]
    command = [sys.executable, "-m", "emokeras.train", "mel-resnet", "--corpus", str(demo_folder), *settings]
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    jax["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # It compiles sooner.
    options = {"env": os.environ | jax, "cwd": Path(__file__).parents[2], "capture_output": True, "text": True}
    trained = subprocess.run([*command, "--run-dir", str(folder)], **options)
    assert trained.returncode == 0, trained.stderr
    first, *_, last = (row["loss"] for row in runs.read_history(folder / "history.csv"))
    assert last < first
    assert runs.read_metrics(folder)["backend"] == "jax"

    assert evaluate.main([str(folder), "--corpus", str(demo_folder), "--output", str(tmp_path / "again")]) == 0
    under_jax, under_tensorflow = (
        runs.read_predictions(place / "predictions.csv").probabilities for place in (folder, tmp_path / "again")
    )
    np.testing.assert_allclose(under_tensorflow, under_jax, atol=1e-4)


def test_a_run_is_not_served_on_another_backend(trained_run, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="a run is served by TensorFlow, and KERAS_BACKEND is jax: set it to"):
        load_recognizer(trained_run)
