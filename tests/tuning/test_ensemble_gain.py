"""What each member contributes to an ensemble is measured on validation clips, in the table of the ablations."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, log_loss

from emokeras import runs
from emokeras.config import read_config
from tuning import ensemble_gain, measurements
from tuning.measurements import UNCHANGED


def test_each_member_is_left_out_once_and_the_figures_are_those_of_the_mean(demo_folder, demo_corpus, tmp_path, capsys):
    arguments = ["text-gru", "text-lstm", "--corpus", str(demo_folder), "--epochs", "1,2"]
    arguments += ["--results", str(tmp_path / "results"), "--runs-dir", str(tmp_path / "runs")]
    given = ["--set", "training.batch_size=8", "--set", "model.dropout=0.2"]
    arguments += ["--set", "experiment.split_seed=0"]  # It has a column, and is no change.
    assert ensemble_gain.main([*arguments, *given]) == 0
    rows = {row["idea"]: row for row in measurements.read_rows(tmp_path / "results" / "ablation.csv")}
    assert list(rows) == [UNCHANGED, "without text-gru", "without text-lstm"]

    (gru,), (lstm,) = ((tmp_path / "runs" / name).iterdir() for name in ("text-gru", "text-lstm"))
    assert [len(runs.read_history(run / "history.csv")) for run in (gru, lstm)] == [1, 2]
    assert not [*tmp_path.rglob("predictions.csv")]  # The test subset was not read.
    (epoch,) = runs.read_history(gru / "history.csv")
    alone = rows["without text-lstm"]
    assert float(alone["loss"]) == pytest.approx(epoch["val_loss"], abs=1e-3)
    assert float(alone["balanced_accuracy"]) == pytest.approx(epoch["val_balanced_accuracy"], abs=1e-4)

    first, second = (
        measurements.train(read_config(run / "config.json"), demo_corpus, tmp_path / "runs") for run in (gru, lstm)
    )
    assert len({*(tmp_path / "runs" / "text-gru").iterdir()}) == 1  # It is the run that was trained.
    mean = softmax((first.logits + second.logits) / 2, axis=1)
    both = rows[UNCHANGED]
    assert float(both["loss"]) == pytest.approx(log_loss(first.labels, mean, labels=np.arange(8)), abs=1e-4)
    own = balanced_accuracy_score(first.labels, mean.argmax(axis=1))
    assert float(both["balanced_accuracy"]) == pytest.approx(own, abs=1e-4)
    assert both["clips"] == "8"
    assert both["changes"] == "training.batch_size=8, model.dropout=0.2"

    page = (tmp_path / "results" / "ablation.md").read_text()
    assert "## mean of the logits of text-gru, text-lstm, demo, protocol speaker, 1, 2 epochs" in page
    capsys.readouterr()
    assert ensemble_gain.main([*arguments, *given[2:], *given[:2]]) == 0  # the same in another order
    assert "done already" in capsys.readouterr().out
    assert len(measurements.read_rows(tmp_path / "results" / "ablation.csv")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text-gru"], "text-gru: name two recipes or more, each once"),
        (["text-gru", "text-gru"], "name two recipes or more, each once"),
        (["text-gru", "weighted-mel-mfcc"], "weighted-mel-mfcc is an ensemble"),
        (["text-gru", "text-lstm", "--epochs", "3"], "--epochs 3: give a number for each of text-gru, text-lstm"),
        (["text-gru", "text-lstm", "--set", "experiment.seed=3"], "--set experiment.seed: give --seeds instead"),
        (["text-gru", "text-lstm", "--folds", "7"], "has no fold 7"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, message, demo_folder, capsys):
    assert ensemble_gain.main([*arguments, "--corpus", str(demo_folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
