"""KerasTuner with our trainings: a trial is one configuration, trained on one split with one seed or several.

KerasTuner is kept behind this module. Its oracle says what to try next and keeps each trial under
SEARCH/keras-tuner/trial_ID; what the trial trained lies in SEARCH/trials/ID/seed-S, a run folder without a test.
"""

import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import keras
import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.src import config as keras_tuner_config

from emokeras.config import Config, read_config, settings, with_experiment
from emokeras.data.corpora import Corpus
from emokeras.errors import RunError, UsageError, first_line
from emokeras.files import replacing, write_text
from emokeras.training.callbacks import best_epoch
from emokeras.training.fit import validate_run
from tuning.plan import PROJECT, Plan
from tuning.report import REASON
from tuning.spaces import declare, to_config
from tuning.workers import chief_address

keras_tuner_config.DEBUG = False  # Else the traceback of each trial that fails is shown; trials.csv has the reason.
HYPERBAND_FACTOR, HYPERBAND_ROUNDS = 3, 3  # The first trials train a ninth of the epochs, the best of them all.
IDLE_SECONDS = 0.5
LOST_SECONDS = 60.0  # after which a worker that has no trial and does not ask for one is gone
ALONE = "tuner0"  # what KerasTuner calls the one process of a search without a chief
DEATHS_IN_ONE_TRIAL = 3


class Lasting:
    """Lets an oracle be killed at any moment: its files are whole, and when it is started again, it knows which trials
    are under way and waits for them, each with the worker that has it.

    KerasTuner would give those to whoever asks next, while their workers still train them; and also one that has just
    ended, for it is written down as ended before it is struck off the list.
    """

    def save(self):
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        write_text(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))

    def reload(self):
        super().reload()
        state = json.loads(Path(self._get_oracle_fname()).read_text(encoding="utf-8"))
        for worker, trial_id in state["ongoing_trials"].items():
            self._retry_queue.remove(trial_id)
            self.tuner_ids.add(worker)
            if self.trials[trial_id].status == "RUNNING":
                self.ongoing_trials[worker] = self.trials[trial_id]
        given = {trial.trial_id for trial in self.ongoing_trials.values()} | {*self._retry_queue}
        # What was written down as begun, but not yet who has it, nobody has.
        self._retry_queue += [
            name for name, trial in self.trials.items() if trial.status == "RUNNING" and name not in given
        ]

    def put_back(self, is_gone: Callable[[str], bool]) -> None:
        """Let anyone have the trials of workers that will not come back, by their ids."""
        for worker in [worker for worker in self.ongoing_trials if is_gone(worker)]:
            self._retry_queue.append(self.ongoing_trials.pop(worker).trial_id)
        self.tuner_ids = {worker for worker in self.tuner_ids if not is_gone(worker)}


class FromRecipe:
    """Lets an oracle begin with the recipe as it stands, so that a search can say that nothing was better."""

    def _random_values(self):
        if self.trials:
            return super()._random_values()
        return {own.name: own.default for own in self.hyperparameters.space}


class RandomOracle(Lasting, FromRecipe, keras_tuner.oracles.RandomSearchOracle):
    pass


class BayesianOracle(Lasting, FromRecipe, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class HyperbandOracle(Lasting, FromRecipe, keras_tuner.oracles.HyperbandOracle):
    """Hyperband whose first trials train for a ninth of the epochs: of one epoch nothing can be told here."""

    def __init__(self, epochs: int, max_trials: int, **options):
        super().__init__(max_epochs=epochs, factor=HYPERBAND_FACTOR, hyperband_iterations=max_trials, **options)
        self.max_trials = max_trials
        # Of three rounds there are three only where the first has no more than a ninth.
        self.min_epochs = max(1, epochs // HYPERBAND_FACTOR ** (HYPERBAND_ROUNDS - 1))
        self._current_bracket, self._brackets = self._get_num_brackets() - 1, []
        self._start_new_bracket()


def make_oracle(plan: Plan) -> keras_tuner.Oracle:
    """Return the oracle of a search: who says what to try next."""
    space = keras_tuner.HyperParameters()
    declare(space, plan.space, plan.config)
    options = {
        "objective": keras_tuner.Objective(plan.objective, "min" if plan.objective.endswith("loss") else "max"),
        "hyperparameters": space,
        "seed": plan.seed + 1,  # KerasTuner takes 0 for no seed.
        "allow_new_entries": False,
        "max_consecutive_failed_trials": plan.max_trials + 1,  # A trial that fails is recorded, the search goes on.
    }
    match plan.algorithm:
        case "random":
            oracle = RandomOracle(max_trials=plan.max_trials, **options)
        case "bayesian":
            # A third of the trials at random, so that a short search learns from them at all.
            points = max(3, min(3 * len(plan.space), plan.max_trials // 3))
            oracle = BayesianOracle(max_trials=plan.max_trials, num_initial_points=points, **options)
        case "hyperband":
            oracle = HyperbandOracle(plan.epochs, plan.max_trials, **options)
    oracle.verbose = 0
    return oracle


class Tuner(base_tuner.BaseTuner):
    """Runs the trials of a search on a corpus. Whether alone, as the chief or as a worker, KERASTUNER_ORACLE_IP,
    KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID say, as KerasTuner reads them."""

    def __init__(
        self,
        plan: Plan,
        corpus: Corpus | None,
        ended: Callable[[], None] | None = None,
        after_death: bool = False,
        is_gone: Callable[[str], bool] = lambda worker: False,
    ):
        """`ended` is called after each trial; `after_death` says that this worker died in its first one; `is_gone`
        tells which workers that had trials when the search was stopped will not come back."""
        self.plan, self.corpus, self.ended, self.after_death = plan, corpus, ended, after_death
        with contextlib.redirect_stdout(io.StringIO()):  # It tells which of its files it reads again.
            super().__init__(make_oracle(plan), directory=str(plan.folder), project_name=PROJECT)
        if not self._is_worker():
            self.oracle.put_back(lambda worker: worker == ALONE or is_gone(worker))

    def _get_tuner_fname(self):
        # KerasTuner knows by this file that a search goes on: a chief must find the one of a search begun without.
        return super()._get_tuner_fname() if self._is_worker() else str(Path(self.project_dir) / "tuner.json")

    def save(self):
        # What it would keep is kept by the oracle and the runs; the file says that a search lies here, no more.
        if not self._is_worker():
            write_text(Path(self._get_tuner_fname()), "{}")

    def on_search_begin(self):
        self.save()  # Else what is killed in its first trial would not be found again.

    def lead(self) -> None:
        """Be the chief: say to the workers what to try, until all trials have ended and all workers know.

        Does what KerasTuner's own loop does, which looks only every 20 seconds whether all have ended. Raises RunError
        where it cannot listen.
        """
        from keras_tuner.src import protos
        from keras_tuner.src.distribute import oracle_chief

        address = chief_address()
        servicer = oracle_chief.OracleServicer(self.oracle)
        # Else another chief could listen at the same port, and workers would be given its trials.
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
        protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise RunError(
                f"the chief cannot listen at {address}: give --chief an address of this machine and a free port"
            ) from error
        self.save()
        server.start()
        told, idle_since = set(), time.monotonic()
        while not (servicer.stop_triggered and oracle_chief.exit_chief(self.oracle)):
            time.sleep(IDLE_SECONDS)
            ongoing = dict(self.oracle.ongoing_trials)
            if ongoing or not servicer.stop_triggered:
                idle_since = time.monotonic()
            if servicer.stop_triggered:
                for worker in ongoing.keys() - told:
                    print(f"waiting for {worker}, which has trial {ongoing[worker].trial_id}")
                    told.add(worker)
            if time.monotonic() - idle_since > LOST_SECONDS:
                print(f"{', '.join(sorted(self.oracle.tuner_ids))} did not ask again: the search ends without")
                break
        server.stop(grace=1.0).wait()

    def run(self) -> None:
        """Run trials until there are enough. Raises UsageError where the first, the recipe, cannot be trained."""
        try:
            self.search()
        except FatalError as error:
            raise error.__cause__ from None

    def pre_create_trial(self):
        time.sleep(IDLE_SECONDS)  # An oracle that waits for others' trials is asked again at once.

    def on_trial_begin(self, trial):
        if self.ended:  # On a search's own screen; a worker has none.
            values = trial.hyperparameters.values
            told = " · ".join(
                f"{path} {values[path]:.3g}" if isinstance(values[path], float) else f"{path} {values[path]}"
                for path in self.plan.space
            )
            print(f"trial {trial.trial_id}: {told}")

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if self.ended:
            self.ended()

    def wait_for_chief(self) -> None:
        """Return once the chief answers, whose search it is then. Raises RunError when it does not for an hour, as long
        as KerasTuner waits."""
        try:
            self.oracle.get_space()
        except grpc.RpcError as error:
            raise RunError(
                f"no chief answers at {chief_address()}: start it, or give its address by --chief"
            ) from error

    def _run_and_update_trial(self, trial, *more, **options):
        while True:
            try:
                return super()._run_and_update_trial(trial, *more, **options)
            except grpc.RpcError as error:
                # The chief died while it was told the score. KerasTuner would take the trial for a failed one; it has
                # ended on the disk, and is told again at once.
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise

    def run_trial(self, trial, *_, **__):
        """Train a trial's configuration with each seed; return the mean of their scores."""
        folder = self.plan.folder / "trials" / trial.trial_id
        try:
            if self.after_death:
                self.after_death = False
                _count_death(folder)
            config = to_config(self.plan.config, trial.hyperparameters.values, self.plan.space)
            scores = [self._score(trial, config, number) for number in range(self.plan.executions)]
        except Exception as error:
            if isinstance(error, UsageError) and not int(trial.trial_id):
                # The first is the recipe as it stands: what it cannot be trained for, none can.
                raise FatalError(first_line(error)) from error
            # A worker's KerasTuner tells its chief that a trial failed, but not why.
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / REASON, first_line(error))
            self._write_hparams(trial)
            raise FailedTrialError(first_line(error)) from error
        finally:
            keras.backend.clear_session()
        score = sum(scores) / len(scores)
        self._write_hparams(trial, score)
        return {self.plan.objective: score}

    def _write_hparams(self, trial, score: float | None = None) -> None:
        """Write what was tried and its score, where it has one, for TensorBoard's HParams page."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api as hparams

        values = {path: trial.hyperparameters.values[path] for path in self.plan.space}
        with tf.summary.create_file_writer(str(self.plan.folder / "tensorboard" / trial.trial_id)).as_default():
            hparams.hparams(values, trial_id=trial.trial_id)
            if score is not None:
                tf.summary.scalar(self.plan.objective, score, step=0)

    def _score(self, trial, config: Config, number: int) -> float:
        config = with_experiment(config, seed=config.experiment.seed + number)
        values = trial.hyperparameters.values
        folder = trial_folder(self.plan, trial.trial_id, number)
        if values.get("tuner/trial_id") and not folder.exists():
            # Hyperband goes on with what the best trials have: weights, optimizer, epoch.
            folder.parent.mkdir(parents=True, exist_ok=True)
            with replacing(folder) as temporary:
                shutil.copytree(trial_folder(self.plan, values["tuner/trial_id"], number), temporary)
        if (folder / "config.json").is_file():
            earlier, own = settings(read_config(folder / "config.json")), settings(config)
            if any(earlier[path] != own[path] for path in self.plan.space):
                raise RunError(f"{folder} holds a training with other settings: give another --search-dir")
        history = validate_run(config, self.corpus, folder, values.get("tuner/epochs", self.plan.epochs))
        epoch = best_epoch(history, config.training.select_by)
        return next(row[self.plan.objective] for row in history if row["epoch"] == epoch)


def _count_death(folder: Path) -> None:
    """Count that a worker died in a trial; raise FailedTrialError when it was once too often."""
    path = folder / "deaths"
    deaths = 1 + (int(path.read_text()) if path.exists() else 0)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, str(deaths))
    if deaths >= DEATHS_IN_ONE_TRIAL:
        raise FailedTrialError(f"its worker died in it {deaths} times: is the memory too small?")


def trial_folder(plan: Plan, trial_id: str, number: int) -> Path:
    """Return where a trial's training with its `number`-th seed lies."""
    return plan.folder / "trials" / trial_id / f"seed-{plan.config.experiment.seed + number}"
