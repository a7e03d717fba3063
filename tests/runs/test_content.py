"""The files of a run folder: JSON, split, predictions and history are read back as they were written."""

import os
from pathlib import Path

import numpy as np
import pytest

from emokeras import runs
from emokeras.data.corpora import Clip
from emokeras.errors import RunError

EMOTIONS = ("calm", "sad", 'odd, "quoted"')
CLIPS = [
    Clip("a/1.wav", Path(), "sad", "01", "abc"),
    Clip("b, c.wav", Path(), "calm", "02", "abc"),
    Clip("ü.wav", Path(), 'odd, "quoted"', "01", "abc"),
]


def test_json_round_trip(tmp_path):
    value = {"matrix": [[1, 2], [3, 4]], "interval": [0.25, 0.5], "names": ["[\n 1 ]", "é"], "none": None, "empty": []}
    runs.write_json(tmp_path / "metrics.json", value)
    assert runs.read_metrics(tmp_path) == value
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert '"interval": [0.25, 0.5]' in text
    assert text.endswith("}\n")
    with pytest.raises(RunError, match="not finite"):
        runs.write_json(tmp_path / "metrics.json", {"loss": float("nan")})
    assert runs.read_metrics(tmp_path) == value
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_damaged_metrics_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"metrics.json is missing.*--resume"):
        runs.read_metrics(tmp_path)
    for damaged in ('{"accuracy": 0.', "[1]"):
        (tmp_path / "metrics.json").write_text(damaged)
        with pytest.raises(RunError, match=r"metrics.json"):
            runs.read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match="cannot be read"):
        runs.read_metrics(tmp_path)


def test_split_round_trip(tmp_path):
    runs.write_split(tmp_path, CLIPS, ["train", "test", "validation"])
    rows = runs.read_split(tmp_path)
    assert rows[1] == {"clip": "b, c.wav", "content": "abc", "speaker": "02", "emotion": "calm", "subset": "test"}
    assert [row["subset"] for row in rows] == ["train", "test", "validation"]
    assert (tmp_path / "split.csv").read_bytes().startswith(b"clip,content,speaker,emotion,subset\na/1.wav,")
    (tmp_path / "split.csv").write_text("clip,subset\na,train\n")
    with pytest.raises(RunError, match="has the columns clip, subset"):
        runs.read_split(tmp_path)


def test_predictions_round_trip_is_exact(tmp_path):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(3, 0.05), len(CLIPS)).astype(np.float32)
    probabilities[0] = [1e-30, 1 / 3, np.nextafter(np.float32(0.7), np.float32(1))]
    path = tmp_path / "predictions.csv"
    runs.write_predictions(path, CLIPS, EMOTIONS, probabilities)
    clips, speakers, labels, emotions, again = runs.read_predictions(path)
    assert clips == [clip.name for clip in CLIPS]
    assert speakers == ["01", "02", "01"]
    assert labels.tolist() == [1, 0, 2]
    assert emotions == EMOTIONS
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, probabilities)
    first_line = path.read_text(encoding="utf-8").split("\n")[0]
    assert first_line == 'clip,speaker,emotion,calm,sad,"odd, ""quoted"""'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("clip,speaker,calm\na,1,0.5\n", "has the columns"),
        ("clip,speaker,emotion,calm,sad\na,1,calm,0.5\n", "line 2: 4 columns, the header has 5"),
        ("clip,speaker,emotion,calm,sad\na,1,happy,0.5,0.5\n", "clip a: the emotion 'happy' has no column"),
        ("clip,speaker,emotion,calm,sad\na,1,calm,0.5,much\n", "clip a: a probability is no number"),
        ("clip,speaker,emotion,calm,sad\na,1,calm,0.5,0.", "ends in the middle of a line"),
        ('clip,speaker,emotion,calm,sad\n"a,1,calm,0.5,0.5\n', "is not CSV"),
    ],
)
def test_damaged_predictions_are_refused_by_line(tmp_path, text, message):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=message) as caught:
        runs.read_predictions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_history_round_trip(tmp_path):
    path = tmp_path / "history.csv"
    rows = [{"epoch": epoch, "loss": np.float32(1) / epoch, "val_loss": 0.1 + 0.2} for epoch in (1, 2, 3)]
    for row in rows:
        runs.append_history(path, row)
    assert runs.read_history(path) == [{name: float(value) for name, value in row.items()} for row in rows]
    assert path.read_text().split("\n")[1] == "1,1,0.30000000000000004"


def test_a_torn_last_line_of_the_history_is_replaced(tmp_path):
    path = tmp_path / "history.csv"
    for epoch in (1, 2):
        runs.append_history(path, {"epoch": epoch, "loss": 0.5})
    whole = path.read_text()
    for torn in ("3,0.25", "3,", "3"):  # The first looks like a whole row.
        path.write_text(whole + torn)
        assert [row["epoch"] for row in runs.read_history(path)] == [1, 2]
    runs.append_history(path, {"epoch": 3, "loss": 0.25})
    assert path.read_text() == whole + "3,0.25\n"
    path.write_text("epoch,lo")
    assert runs.read_history(path) == []


def test_a_repeated_epoch_replaces_the_later_rows(tmp_path):
    path = tmp_path / "history.csv"
    for epoch, loss in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.6)):
        runs.append_history(path, {"epoch": epoch, "loss": loss})
    assert runs.read_history(path) == [{"epoch": 1.0, "loss": 0.9}, {"epoch": 2.0, "loss": 0.6}]


def test_a_history_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "history.csv"
    with pytest.raises(RunError, match="is missing"):
        runs.read_history(path)
    runs.append_history(path, {"epoch": 1, "loss": 0.5})
    with pytest.raises(RunError, match="the new row has epoch, val_loss"):
        runs.append_history(path, {"epoch": 2, "val_loss": 0.5})
    path.write_text("epoch,loss\n1,?\n2,0.5\n")
    with pytest.raises(RunError, match="no number"):
        runs.read_history(path)
