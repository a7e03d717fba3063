"""Oracles: what is tried next, also after a kill at any moment."""

from pathlib import Path

import keras_tuner
import pytest

from tuning import workers
from tuning.oracles import HyperbandOracle, RandomOracle


def options() -> dict:
    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    return {"objective": keras_tuner.Objective("score", "max"), "hyperparameters": space, "seed": 1}


def random_oracle(folder) -> RandomOracle:
    oracle = RandomOracle(max_trials=9, **options())
    oracle._set_project_dir(str(folder), "project")
    oracle.verbose = 0
    return oracle


def restarted(folder) -> RandomOracle:
    oracle = random_oracle(folder)
    oracle.reload()
    return oracle


def test_a_restarted_oracle_knows_which_worker_trains_what(tmp_path):
    first = random_oracle(tmp_path)
    ended, ongoing = first.create_trial("a"), first.create_trial("b")
    first.update_trial(ended.trial_id, {"score": 0.5})
    ended.status = "COMPLETED"
    first.end_trial(ended)  # Written as ended before it leaves the list of running trials.
    again = restarted(tmp_path)
    assert again.create_trial("b").trial_id == ongoing.trial_id
    third = again.create_trial("a")
    assert third.trial_id not in (ended.trial_id, ongoing.trial_id)
    assert [trial.score for trial in again.get_best_trials()] == [0.5]


def test_a_trial_whose_start_was_half_written_is_given_again(tmp_path):
    first = random_oracle(tmp_path)
    first.create_trial("a")
    before = Path(first._get_oracle_fname()).read_bytes()
    lost = first.create_trial("b")
    Path(first._get_oracle_fname()).write_bytes(before)  # As after a kill between the trial's file and the oracle's.
    again = restarted(tmp_path)
    assert again.create_trial("c").trial_id == lost.trial_id
    assert again.create_trial("d").trial_id not in ("0", lost.trial_id)


def test_trials_of_workers_that_will_not_come_back_are_given_to_others(tmp_path):
    first = random_oracle(tmp_path)
    lost, kept = first.create_trial("worker-1"), first.create_trial("b0")
    again = restarted(tmp_path)
    again.release(workers.is_supervised)
    assert again.tuner_ids == {"b0"}
    assert again.create_trial("worker-0").trial_id == lost.trial_id
    assert again.create_trial("b0").trial_id == kept.trial_id


@pytest.mark.parametrize(("most", "rounds"), [(27, (3, 9, 27)), (40, (5, 14, 40)), (70, (8, 24, 70))])
def test_hyperband_begins_with_a_ninth_of_the_epochs_and_promotes_the_best(most, rounds, tmp_path):
    oracle = HyperbandOracle(most, 24, **options())
    oracle._set_project_dir(str(tmp_path), "project")
    oracle.verbose = 0
    epochs = []
    for _ in range(24):
        trial = oracle.create_trial("tuner0")
        values = trial.hyperparameters.values
        epochs.append(values["tuner/epochs"])
        if values["tuner/initial_epoch"]:
            promoted = oracle.trials[values["tuner/trial_id"]]
            assert promoted.hyperparameters.values["x"] == values["x"]
        oracle.update_trial(trial.trial_id, {"score": values["x"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert epochs[:12] == [rounds[0]] * 12
    assert set(epochs) == set(rounds)
