"""What a search tries next: KerasTuner's oracles, made to begin with the recipe and to survive a kill at any moment."""

import json
from collections.abc import Callable
from pathlib import Path

import keras_tuner

from emokeras.files import write_text
from tuning.plan import Plan
from tuning.spaces import declare

HYPERBAND_FACTOR, HYPERBAND_ROUNDS = 3, 3  # The first trials train a ninth of the epochs, the best of them all.


class SearchOracle:
    """What our oracles add to KerasTuner's.

    Files are written in one step. A restarted oracle knows which trials are running and waits for them, each with its
    worker: KerasTuner would give them to the next worker that asks while their own workers still train them. It would
    also repeat a trial that had just ended, which is written as ended before it leaves the list of running trials.
    """

    def save(self):
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        write_text(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))

    def _random_values(self):
        if self.trials:
            return super()._random_values()
        return {own.name: own.default for own in self.hyperparameters.space}  # The first trial is the recipe.

    def reload(self):
        super().reload()
        state = json.loads(Path(self._get_oracle_fname()).read_text(encoding="utf-8"))
        for worker, trial_id in state["ongoing_trials"].items():
            self._retry_queue.remove(trial_id)
            self.tuner_ids.add(worker)
            if self.trials[trial_id].status == "RUNNING":
                self.ongoing_trials[worker] = self.trials[trial_id]
        # A kill between the file of a trial and that of the oracle leaves a running trial without a worker.
        known = {trial.trial_id for trial in self.ongoing_trials.values()} | {*self._retry_queue}
        self._retry_queue += [
            name for name, trial in self.trials.items() if trial.status == "RUNNING" and name not in known
        ]

    def release(self, is_gone: Callable[[str], bool]) -> None:
        """Let any worker continue the trials of workers that will not come back, by their ids."""
        for worker in [worker for worker in self.ongoing_trials if is_gone(worker)]:
            self._retry_queue.append(self.ongoing_trials.pop(worker).trial_id)
        self.tuner_ids = {worker for worker in self.tuner_ids if not is_gone(worker)}


class RandomOracle(SearchOracle, keras_tuner.oracles.RandomSearchOracle):
    pass


class BayesianOracle(SearchOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class HyperbandOracle(SearchOracle, keras_tuner.oracles.HyperbandOracle):
    """Hyperband whose first trials train a ninth of the epochs; one epoch, as KerasTuner has it, separates nothing."""

    def __init__(self, epochs: int, max_trials: int, **options):
        super().__init__(max_epochs=epochs, factor=HYPERBAND_FACTOR, hyperband_iterations=max_trials, **options)
        self.max_trials = max_trials
        # There are three rounds only where the first has no more than a ninth.
        self.min_epochs = max(1, epochs // HYPERBAND_FACTOR ** (HYPERBAND_ROUNDS - 1))
        self._current_bracket, self._brackets = self._get_num_brackets() - 1, []
        self._start_new_bracket()


def make_oracle(plan: Plan) -> keras_tuner.Oracle:
    """Return the oracle of a search."""
    space = keras_tuner.HyperParameters()
    declare(space, plan.space, plan.config)
    options = {
        "objective": keras_tuner.Objective(plan.objective, "min" if plan.objective.endswith("loss") else "max"),
        "hyperparameters": space,
        "seed": plan.config.experiment.seed + 1,  # KerasTuner takes 0 for no seed.
        "allow_new_entries": False,
        "max_consecutive_failed_trials": plan.max_trials + 1,  # Failed trials never end a search.
    }
    match plan.algorithm:
        case "random":
            oracle = RandomOracle(max_trials=plan.max_trials, **options)
        case "bayesian":
            # A third of the trials at random: KerasTuner's default would leave a short search nothing to model.
            points = max(3, min(3 * len(plan.space), plan.max_trials // 3))
            oracle = BayesianOracle(max_trials=plan.max_trials, num_initial_points=points, **options)
        case "hyperband":
            oracle = HyperbandOracle(plan.config.training.epochs, plan.max_trials, **options)
    oracle.verbose = 0
    return oracle
