"""KerasTuner's tuner over our trainings: a trial is one configuration, trained with one seed or several.

The oracle keeps each trial under SEARCH/keras-tuner/trial_ID. Its trainings are run folders without a test,
SEARCH/trials/ID/seed-S.
"""

import contextlib
import io
import shutil
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import keras
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.src import config as keras_tuner_config

from emokeras.config import Config, read_config, settings, with_experiment
from emokeras.data.corpora import Corpus
from emokeras.errors import RunError, UsageError, first_line
from emokeras.files import replacing, write_text
from emokeras.runs import read_history
from emokeras.training.callbacks import best_epoch
from emokeras.training.run import train_unscored
from tuning.oracles import make_oracle
from tuning.plan import PROJECT, Plan
from tuning.spaces import to_config
from tuning.trials import REASON
from tuning.workers import chief_address

keras_tuner_config.DEBUG = False  # No traceback for each trial that fails: trials.csv has the reason.
IDLE_SECONDS = 0.5
LOST_SECONDS = 60.0  # how long the chief waits for workers that have no trial and do not ask for one
ALONE = "tuner0"  # KerasTuner's id of the one process of a search without a chief
MAX_DEATHS = 3  # of the worker, in one trial


class Tuner(base_tuner.BaseTuner):
    """Runs the trials of a search on a corpus. KerasTuner reads its role, alone, chief or worker, from the variables
    KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID.

    Parameters
    ----------
    corpus: None for a chief, which does not train.
    update_progress: called after each trial; by a chief, twice a second.
    restarted: whether this worker died in the trial that it is given first.
    is_gone: whether a worker, by its id, that had a trial when the search was stopped will not come back.
    """

    def __init__(
        self,
        plan: Plan,
        corpus: Corpus | None,
        update_progress: Callable[[], None] = lambda: None,
        restarted: bool = False,
        is_gone: Callable[[str], bool] = lambda worker: False,
    ):
        self.plan, self.corpus, self.update_progress, self.restarted = plan, corpus, update_progress, restarted
        with contextlib.redirect_stdout(io.StringIO()):  # It prints the names of files that it reads.
            super().__init__(make_oracle(plan), directory=str(plan.folder), project_name=PROJECT)
        if not self._is_worker():
            self.oracle.release(lambda worker: worker == ALONE or is_gone(worker))

    def _get_tuner_fname(self):
        # KerasTuner resumes a search where it finds this file; a chief must find that of a search without a chief.
        return super()._get_tuner_fname() if self._is_worker() else str(Path(self.project_dir) / "tuner.json")

    def save(self):
        if not self._is_worker():  # The state is in the oracle's files and the runs.
            write_text(Path(self._get_tuner_fname()), "{}")

    def on_search_begin(self):
        self.save()  # So that a search that is killed in its first trial is resumed.

    def run(self) -> None:
        """Run trials until there are enough. Raises UsageError where the first, the recipe, cannot be trained."""
        try:
            self.search()
        except FatalError as error:
            raise error.__cause__ from None

    # Chief and workers

    def lead(self) -> None:
        """Serve the oracle to the workers until all trials have ended and all workers know.

        KerasTuner's own loop checks only every 20 seconds. Raises RunError where the address cannot be used.
        """
        from keras_tuner.src import protos
        from keras_tuner.src.distribute import oracle_chief

        servicer = oracle_chief.OracleServicer(self.oracle)
        # With SO_REUSEPORT two chiefs could share a port, and workers would get trials of either.
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
        protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
        try:
            server.add_insecure_port(chief_address())
        except RuntimeError as error:
            raise RunError(
                f"the chief cannot listen at {chief_address()}: give --chief an address of this machine and a free port"
            ) from error
        self.save()
        server.start()
        waited_for, idle_since = set(), time.monotonic()
        while not (servicer.stop_triggered and oracle_chief.exit_chief(self.oracle)):
            time.sleep(IDLE_SECONDS)
            self.update_progress()
            ongoing = dict(self.oracle.ongoing_trials)
            if ongoing or not servicer.stop_triggered:
                idle_since = time.monotonic()
            if servicer.stop_triggered:
                for worker in ongoing.keys() - waited_for:
                    trial = ongoing[worker].trial_id
                    print(f"waiting for {worker}, which has trial {trial}: if it died, start it again", flush=True)
                    waited_for.add(worker)
            if time.monotonic() - idle_since > LOST_SECONDS:
                print(f"{', '.join(sorted(self.oracle.tuner_ids))} did not ask for a trial again: the search ends")
                break
        server.stop(grace=1.0).wait()
        self.update_progress()

    def wait_for_chief(self) -> None:
        """Return once the chief answers. Raises RunError after KerasTuner's time limit, an hour."""
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
                # The chief died while it was sent the score. The runs are complete, so the score is sent again at once;
                # KerasTuner would fail the trial.
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise

    # Trials

    def pre_create_trial(self):
        time.sleep(IDLE_SECONDS)  # KerasTuner asks again at once where the oracle waits for the trials of others.

    def on_trial_begin(self, trial):
        values = trial.hyperparameters.values
        texts = [
            f"{path} {values[path]:.3g}" if isinstance(values[path], float) else f"{path} {values[path]}"
            for path in self.plan.space
        ]
        print(f"trial {trial.trial_id}: {' · '.join(texts)}")

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        self.update_progress()

    def run_trial(self, trial, *_, **__):
        """Train a trial's configuration with each seed; return the mean of their scores."""
        folder = self.plan.trial_folder(trial.trial_id)
        try:
            if self.restarted:
                self.restarted = False
                _count_death(folder)
            config = to_config(self.plan.config, trial.hyperparameters.values, self.plan.space)
            scores = [self._score(trial, config, number) for number in range(self.plan.executions)]
        except Exception as error:
            if isinstance(error, UsageError) and int(trial.trial_id) == 0:
                raise FatalError(first_line(error)) from error  # The recipe itself cannot be trained.
            # KerasTuner sends a chief only that a trial failed, not why.
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / REASON, first_line(error))
            self._write_hparams(trial)
            raise FailedTrialError(first_line(error)) from error
        finally:
            keras.backend.clear_session()
        score = sum(scores) / len(scores)
        self._write_hparams(trial, score)
        return {self.plan.objective: score}

    def _score(self, trial, config: Config, execution: int) -> float:
        """Train one seed of a trial, or continue it; return its objective at the epoch that the run would keep."""
        config = with_experiment(config, seed=config.experiment.seed + execution)
        values = trial.hyperparameters.values
        folder = self.plan.run_folder(trial.trial_id, execution)
        if values.get("tuner/trial_id") and not folder.exists():
            # Hyperband continues the weights, optimizer and epoch of one of its best trials.
            folder.parent.mkdir(parents=True, exist_ok=True)
            with replacing(folder) as temporary:
                shutil.copytree(self.plan.run_folder(values["tuner/trial_id"], execution), temporary)
        if (folder / "config.json").is_file():
            earlier, own = settings(read_config(folder / "config.json")), settings(config)
            if any(earlier[path] != own[path] for path in self.plan.space):
                raise RunError(f"{folder} holds a training with other settings: give another --search-dir")
        train_unscored(config, self.corpus, folder, values.get("tuner/epochs", self.plan.config.training.epochs))
        history = read_history(folder / "history.csv")
        epoch = best_epoch(history, config.training.select_by)
        return next(row[self.plan.objective] for row in history if row["epoch"] == epoch)

    def _write_hparams(self, trial, score: float | None = None) -> None:
        """Write a trial's settings and its score, if it has one, for TensorBoard's HParams page."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api as hparams

        values = {path: trial.hyperparameters.values[path] for path in self.plan.space}
        with tf.summary.create_file_writer(str(self.plan.folder / "tensorboard" / trial.trial_id)).as_default():
            hparams.hparams(values, trial_id=trial.trial_id)
            if score is not None:
                tf.summary.scalar(self.plan.objective, score, step=0)


def _count_death(folder: Path) -> None:
    """Count a worker's death in a trial. Raises FailedTrialError at the last one that is allowed."""
    path = folder / "deaths"
    deaths = 1 + (int(path.read_text()) if path.exists() else 0)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, str(deaths))
    if deaths >= MAX_DEATHS:
        raise FailedTrialError(f"its worker died in it {deaths} times: is the memory too small?")
