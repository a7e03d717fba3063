"""TensorBoard's own server reads back what a run wrote: scalars, the graph, images, hyperparameters."""

import json
import re
import struct
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest
from children import wait_for

from emokeras import runs
from emokeras.config import read_config, settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(trained_run, tmp_path_factory):
    """Start the real server on a free port of this machine; yield its address."""
    log = tmp_path_factory.mktemp("server") / "log"
    # Without --load_fast=false a compiled reader serves, which does not know hyperparameters.
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(trained_run / "tensorboard"), "--port", "0"]
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--load_fast=false"], stdout=file, stderr=file)
    try:
        wait_for(lambda: "http://127.0.0.1" in log.read_text() or process.poll() is not None)
        address = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())[0]
        wait_for(lambda: get(address, "data/plugin/scalars/tags"))  # It answers before it has read its files.
        yield address
    finally:
        process.kill()
        process.wait()


def get(address, path, **query):
    url = f"{address}{path}?{urllib.parse.urlencode(query)}" if query else f"{address}{path}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        body = answer.read()
    return json.loads(body) if "json" in answer.headers["Content-Type"] else body


def test_scalars_are_those_of_the_history(server, trained_run):
    history = runs.read_history(trained_run / "history.csv")
    for run, tag, column in (
        ("train", "epoch_loss", "loss"),
        ("validation", "epoch_loss", "val_loss"),
        ("validation", "epoch_balanced_accuracy", "val_balanced_accuracy"),
    ):
        points = get(server, "data/plugin/scalars/scalars", run=run, tag=tag)
        assert [value for _, _, value in points] == pytest.approx([row[column] for row in history], rel=1e-5)


def test_graph_names_the_layers(server):
    assert get(server, "data/plugin/graphs/info")["validation"]["run_graph"]
    graph = get(server, "data/plugin/graphs/graph", run="validation", conceptual="false").decode()
    for layer in ("spectrogram_normalization", "attention_pooling", "emotion"):
        assert f"mel_cnn3_1/{layer}" in graph


def test_images_are_png_files_of_their_size(server):
    tags = get(server, "data/plugin/images/tags")["validation"]
    assert {"confusion_matrix", "test_confusion_matrix", "examples"} <= set(tags)
    for tag in ("confusion_matrix", "examples"):
        (first, *_) = get(server, "data/plugin/images/images", run="validation", tag=tag, sample=0)
        picture = get(server, "data/plugin/images/individualImage", **dict(urllib.parse.parse_qsl(first["query"])))
        assert picture.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", picture[16:24])
        assert width > 300 < height


def test_hyperparameters_are_the_configuration(server, trained_run):
    request = urllib.request.Request(
        f"{server}data/plugin/hparams/experiment", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        experiment = json.load(answer)
    found = {info["name"] for info in experiment["hparamInfos"]}
    expected = settings(read_config(trained_run / "config.json"))
    assert {"training.learning_rate", "encoder.l2", "encoder.dropout", "augment.mixup_alpha"} <= found <= set(expected)
