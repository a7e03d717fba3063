"""What each member gives an ensemble is measured on validation clips, and kept beside the ablations."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, log_loss

from emokeras import runs
from emokeras.config import read_config
from emokeras.data.corpora import load_corpus
from tuning import members, tried


def test_each_member_is_left_out_once_and_the_figures_are_those_of_the_mean(demo_folder, tmp_path, capsys):
    arguments = ["text-gru", "text-lstm", "--corpus", str(demo_folder), "--epochs", "1,2"]
    arguments += ["--results", str(tmp_path / "results"), "--runs-dir", str(tmp_path / "runs")]
    given = ["--set", "training.batch_size=8", "--set", "model.dropout=0.2"]
    arguments += ["--set", "experiment.split_seed=0"]  # Which clips, not what was changed: a column tells it.
    assert members.main([*arguments, *given]) == 0
    rows = {row["idea"]: row for row in tried.read_rows(tmp_path / "results" / "ablation.csv")}
    assert list(rows) == [tried.PLAIN, "without text-gru", "without text-lstm"]

    (gru,), (lstm,) = ((tmp_path / "runs" / name).iterdir() for name in ("text-gru", "text-lstm"))
    assert [len(runs.read_history(run / "history.csv")) for run in (gru, lstm)] == [1, 2]
    assert not [*tmp_path.rglob("predictions.csv")]  # The test subset was not read.
    (epoch,) = runs.read_history(gru / "history.csv")
    alone = rows["without text-lstm"]
    assert float(alone["loss"]) == pytest.approx(epoch["val_loss"], abs=1e-3)
    assert float(alone["balanced_accuracy"]) == pytest.approx(epoch["val_balanced_accuracy"], abs=1e-4)

    corpus = load_corpus(str(demo_folder))
    first, second = (members.answer(read_config(run / "config.json"), corpus, tmp_path / "runs") for run in (gru, lstm))
    assert len({*(tmp_path / "runs" / "text-gru").iterdir()}) == 1  # It is the run that was trained.
    mean = softmax((first.logits + second.logits) / 2, axis=1)
    both = rows[tried.PLAIN]
    assert float(both["loss"]) == pytest.approx(log_loss(first.labels, mean, labels=np.arange(8)), abs=1e-4)
    own = balanced_accuracy_score(first.labels, mean.argmax(axis=1))
    assert float(both["balanced_accuracy"]) == pytest.approx(own, abs=1e-4)
    assert both["clips"] == "8"
    assert both["changes"] == "training.batch_size=8, model.dropout=0.2"

    page = (tmp_path / "results" / "ablation.md").read_text()
    assert "## mean of the logits of text-gru, text-lstm, demo, protocol speaker, 1, 2 epochs" in page
    capsys.readouterr()
    assert members.main([*arguments, *given[2:], *given[:2]]) == 0  # The same, told otherwise.
    assert "done already" in capsys.readouterr().out
    assert len(tried.read_rows(tmp_path / "results" / "ablation.csv")) == 3


def test_who_tells_of_clips_is_trained_once_for_all_members(demo_folder, tmp_path):
    arguments = ["text-gru", "text-lstm", "--corpus", str(demo_folder), "--epochs", "1,1"]
    arguments += ["--results", str(tmp_path / "results"), "--runs-dir", str(tmp_path / "runs")]
    for setting in ("crossfit_parts=2", "crossfit_epochs=1", "crossfit_by=text-gru,text-bigru"):
        arguments += ["--set", f"training.{setting}"]
    assert members.main(arguments) == 0
    assert len([*tmp_path.rglob("crossfit/part-1/history.csv")]) == 2
    said = [path.read_text() for path in tmp_path.rglob("text-gru/crossfit/predictions.csv")]
    assert len(said) == 3
    assert len({*said}) == 1


def test_what_cannot_be_measured_is_one_line(demo_folder, capsys):
    for arguments, told in (
        (["text-gru"], "text-gru: name two recipes or more, each once"),
        (["text-gru", "text-gru"], "name two recipes or more, each once"),
        (["text-gru", "weighted-mel-mfcc"], "weighted-mel-mfcc is an ensemble"),
        (["text-gru", "text-lstm", "--epochs", "3"], "--epochs 3: give a number for each of text-gru, text-lstm"),
        (["text-gru", "text-lstm", "--set", "experiment.seed=3"], "--set experiment.seed: give --seeds instead"),
        (["text-gru", "text-lstm", "--corpus", str(demo_folder), "--folds", "7"], "has no fold 7"),
    ):
        assert members.main(arguments) == 2
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
