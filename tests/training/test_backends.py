"""What trains on another backend of Keras is the same network under TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_arguments

from emokeras import evaluate, runs

ROOT = Path(__file__).parents[2]


def run_on_jax(*words):
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_jax_trains_and_leaves_a_run_that_tensorflow_serves(demo_folder, tmp_path):
    pytest.importorskip("jax", reason="the extra test brings jax")
    folder = tmp_path / "run"
    # With a moving average of the weights, which validation borrows, and mixed styles, masks and dropout.
    settings = [*tiny_arguments("mel-resnet"), "--set", "training.ema_momentum=0.5"]
    settings += ["--set", "augment.style_mixing_probability=0.5"]
    trained = run_on_jax("emokeras.train", "mel-resnet", "--corpus", demo_folder, "--run-dir", folder, *settings)
    assert trained.returncode == 0, trained.stderr
    losses = [row["loss"] for row in runs.read_history(folder / "history.csv")]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert runs.read_metrics(folder)["backend"] == "jax"

    served = run_on_jax("emokeras.predict", demo_folder, "--model", folder)
    assert (served.returncode, served.stderr.strip()) == (
        2,
        "error: a run is served by TensorFlow, and KERAS_BACKEND is jax: set it to tensorflow",
    )
    assert evaluate.main([str(folder), "--corpus", str(demo_folder), "--output", str(tmp_path / "again")]) == 0
    *_, under_jax = runs.read_predictions(folder / "predictions.csv")
    *_, under_tensorflow = runs.read_predictions(tmp_path / "again" / "predictions.csv")
    np.testing.assert_allclose(under_tensorflow, under_jax, atol=1e-4)
