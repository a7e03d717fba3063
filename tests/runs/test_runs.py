import json
import os
from dataclasses import replace

import numpy as np
import pytest
from kept_runs import Clip

from emokeras import runs
from emokeras.config import override, read_config, to_json
from emokeras.errors import RunError
from emokeras.files import replacing
from emokeras.recipes import RECIPES

EMOTIONS = ("calm", "sad", 'odd, "quoted"')


CLIPS = [
    Clip("a/1.wav", "01", "sad", "abc"),
    Clip("b, c.wav", "02", "calm", "abc"),
    Clip("ü.wav", "01", 'odd, "quoted"', "abc"),
]


def config(protocol="random", corpus="ravdess", **numbers):
    named = RECIPES["mel-cnn3"].config
    return replace(named, experiment=replace(named.experiment, corpus=corpus, protocol=protocol, **numbers))


def finished_run(folder, protocol="luna", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"recipe": "mel-cnn3", "corpus": "ravdess", "protocol": protocol, "fold": 2, "seed": 7, "split_seed": 3}
    runs.write_json(folder / "metrics.json", metrics | changes)
    config = override(RECIPES["mel-cnn3"].config, {"experiment.corpus": "/home/somebody/ravdess"})
    (folder / "config.json").write_text(to_json(config))
    for name in ("predictions.csv", "validation_predictions.csv", "model.keras"):
        (folder / name).write_text(name)
    return folder


def test_a_run_folder_is_made_once(tmp_path):
    folder = runs.create_run(tmp_path / "deep" / "run")
    assert folder.is_dir()
    assert runs.create_run(folder) == folder  # still empty
    runs.write_json(folder / "config.json", {})
    with pytest.raises(RunError, match=r"holds a run already \(config.json\).*--run-dir.*--resume"):
        runs.create_run(folder)
    assert runs.create_run(folder, resume=True) == folder


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path):
    with pytest.raises(RunError, match="no run to go on with"):
        runs.create_run(tmp_path, resume=True)
    with pytest.raises(RunError, match="no run to go on with"):
        runs.create_run(tmp_path / "nowhere", resume=True)


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="--run-dir"):
            runs.create_run(folder)


def test_default_folder_names_the_run_and_is_never_taken(tmp_path):
    first = runs.default_run_dir(config("luna", fold=2, seed=7), root=tmp_path)
    assert first == tmp_path / "mel-cnn3" / "ravdess-luna-fold-2-seed-7"
    for expected in ("ravdess-luna-fold-2-seed-7", "ravdess-luna-fold-2-seed-7-2", "ravdess-luna-fold-2-seed-7-3"):
        folder = runs.create_run(runs.default_run_dir(config("luna", fold=2, seed=7), root=tmp_path))
        assert folder.name == expected
        runs.write_json(folder / "config.json", {})
    other = runs.default_run_dir(config("random", seed=7, split_seed=3), root=tmp_path)
    assert other.name == "ravdess-random-split-3-seed-7"


def test_default_folder_of_a_corpus_given_as_a_path(tmp_path):
    of_path = runs.default_run_dir(config(corpus="../my data/Audio Speech.zip"), root=tmp_path)
    assert of_path.name == "Audio-Speech-random-split-0-seed-0"
    of_name = runs.default_run_dir(config(corpus="/somewhere"), "ravdess", root=tmp_path)
    assert of_name.name == "ravdess-random-split-0-seed-0"


def test_json_round_trip_and_layout(tmp_path):
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


def test_metrics_that_cannot_be_read(tmp_path):
    with pytest.raises(RunError, match=r"metrics.json is missing.*--resume"):
        runs.read_metrics(tmp_path)
    for damaged in ('{"accuracy": 0.', "[1]"):
        (tmp_path / "metrics.json").write_text(damaged)
        with pytest.raises(RunError, match=r"metrics.json"):
            runs.read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match="cannot be read"):
        runs.read_metrics(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            assert temporary.suffix == ".keras"
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.keras"]


def test_split_round_trip(tmp_path):
    runs.write_split(tmp_path, CLIPS, ["train", "test", "validation"])
    rows = runs.read_split(tmp_path)
    assert rows[1] == {"clip": "b, c.wav", "content": "abc", "speaker": "02", "emotion": "calm", "subset": "test"}
    assert [row["subset"] for row in rows] == ["train", "test", "validation"]
    assert (tmp_path / "split.csv").read_bytes().startswith(b"clip,content,speaker,emotion,subset\na/1.wav,")
    (tmp_path / "split.csv").write_text("clip,subset\na,train\n")
    with pytest.raises(RunError, match="has the columns clip, subset"):
        runs.read_split(tmp_path)


def test_predictions_bring_back_float32_exactly(tmp_path):
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
def test_damaged_predictions_are_refused_in_one_line(tmp_path, text, message):
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


def test_a_torn_last_line_is_dropped_and_written_over(tmp_path):
    path = tmp_path / "history.csv"
    for epoch in (1, 2):
        runs.append_history(path, {"epoch": epoch, "loss": 0.5})
    whole = path.read_text()
    for torn in ("3,0.25", "3,", "3"):  # the first would pass for a whole row
        path.write_text(whole + torn)
        assert [row["epoch"] for row in runs.read_history(path)] == [1, 2]
    runs.append_history(path, {"epoch": 3, "loss": 0.25})
    assert path.read_text() == whole + "3,0.25\n"
    path.write_text("epoch,lo")
    assert runs.read_history(path) == []


def test_a_repeated_epoch_stands_once(tmp_path):
    path = tmp_path / "history.csv"
    for epoch, loss in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.6)):
        runs.append_history(path, {"epoch": epoch, "loss": loss})
    assert runs.read_history(path) == [{"epoch": 1.0, "loss": 0.9}, {"epoch": 2.0, "loss": 0.6}]


def test_a_history_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "history.csv"
    with pytest.raises(RunError, match="is missing"):
        runs.read_history(path)
    runs.append_history(path, {"epoch": 1, "loss": 0.5})
    with pytest.raises(RunError, match="the new row has epoch, val_loss"):
        runs.append_history(path, {"epoch": 2, "val_loss": 0.5})
    path.write_text("epoch,loss\n1,?\n2,0.5\n")
    with pytest.raises(RunError, match="no number"):
        runs.read_history(path)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("luna", "fold-2-seed-7"),
        ("emobox", "fold-2-seed-7"),
        ("random-10fold", "fold-2-seed-7"),
        ("random", "split-3-seed-7"),
        ("speaker", "split-3-seed-7"),
    ],
)
def test_results_are_kept_under_their_name(tmp_path, protocol, name):
    run = finished_run(tmp_path / "run", protocol)
    kept = runs.keep_results(run, tmp_path / "results")
    assert kept == tmp_path / "results" / "ravdess" / protocol / "mel-cnn3" / name
    names = ["config.json", "metrics.json", "predictions.csv", "validation_predictions.csv"]
    assert sorted(os.listdir(kept)) == names
    assert all((kept / name).read_bytes() == (run / name).read_bytes() for name in names[1:])
    # Where the corpus lay on the machine stays there; nothing else changes.
    config = read_config(run / "config.json")
    assert read_config(kept / "config.json") == override(config, {"experiment.corpus": "ravdess"})


def test_results_of_a_run_replace_the_earlier_ones(tmp_path):
    run = finished_run(tmp_path / "run")
    runs.keep_results(run, tmp_path / "results")
    finished_run(run, num_test=5)
    kept = runs.keep_results(run, tmp_path / "results")
    assert json.loads((kept / "metrics.json").read_text())["num_test"] == 5


def test_results_of_an_unfinished_run_are_not_kept(tmp_path):
    run = finished_run(tmp_path / "run")
    (run / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"lacks predictions.csv.*--resume"):
        runs.keep_results(run, tmp_path / "results")
    finished_run(run, protocol="luna")
    runs.write_json(run / "metrics.json", {"recipe": "mel-cnn3"})
    with pytest.raises(RunError, match="lacks 'protocol'"):
        runs.keep_results(run, tmp_path / "results")
    assert not (tmp_path / "results").exists()
