"""One configuration to one trained run: its folder holds all there is to know of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from emokeras.config import (
    MAX_SEED,
    Config,
    InputName,
    TrainingConfig,
    read_config,
    settings,
    to_json,
    with_experiment,
    with_lasting_paths,
)
from emokeras.data import pipeline
from emokeras.data.corpus import Corpus
from emokeras.files import write_text
from emokeras.models.auxiliary import with_auxiliaries
from emokeras.models.build import build_model
from emokeras.models.pretrained import load_pretrained, pretrained_layers, with_pretrained_sizes
from emokeras.reporting import figures, runs
from emokeras.training import callbacks
from emokeras.training.attention import draw_attention
from emokeras.training.branches import (
    branch_layers,
    check_splits,
    configs_of,
    inputs_of,
    keep_words,
    load_branches,
    with_branches,
)
from emokeras.training.compile import class_weights, compile_model, set_precision
from emokeras.training.crossfit import SAID, crossfit, part_clips, said_together, teller_folder, tellers_of
from emokeras.training.epochs import with_epochs_beside
from emokeras.training.examples import draw_examples
from emokeras.training.report import write_network_report
from emokeras.training.score import predict_logits, to_probabilities
from emokeras.training.start import check_unheard, load_start, start_folder, started_layers, with_start
from emokeras.training.subsets import Subset, evaluation_inputs, split_corpus, take_subsets, with_validation
from emokeras.training.targets import check_targets, make_targets, with_teacher


@dataclass(frozen=True)
class Prepared:
    """All that a training needs: the network, what of it is pretrained, the clips and what they teach, the run's folder
    and page."""

    config: Config
    model: keras.Model
    pretrained: Sequence[keras.layers.Layer]
    subsets: Mapping[str, Subset]
    targets: Mapping[str, np.ndarray]
    folder: Path
    page: callbacks.TensorBoardPage | None


def train_run(
    config: Config,
    corpus: Corpus,
    folder: Path,
    resume: bool = False,
    say: Callable = print,
    branches: Sequence[Path] = (),
) -> dict:
    """Train one network on one split, score it once on the test subset, and write the run folder.

    Parameters
    ----------
    config: a recipe's, overridden; its emotions are filled in from the corpus.
    folder: where the run goes; with `resume` a run that was interrupted there goes on after its last whole epoch.
    say: where lines for the reader go.
    branches: runs that branches of the network start from.

    Returns the metrics, as in metrics.json; under the protocol "all" they have no subset's. Raises CorpusError for a
    split that cannot be trained on.
    """
    run = prepare(config, corpus, folder, resume, say, branches)
    best_epoch = fit(run, say)
    probabilities = {}
    for name in ("validation", "test"):
        if inputs := evaluation_inputs(run.subsets[name], run.config):
            probabilities[name] = to_probabilities(predict_logits(run.model, inputs))
        if name == "validation" and run.config.training.refit_epochs:
            refit(run, corpus, probabilities.get(name), say)
    if run.config.model.fusion == "attention" and len(run.config.encoders) > 1:
        first = run.subsets["validation" if probabilities else "train"].take(np.array([0]))
        clip = {name: value[0, 0] for name, value in evaluation_inputs(first, run.config).items()}
        title = f"{first.clips[0].name}, {first.clips[0].emotion}"
        picture = draw_attention(run.model, run.config, clip, title, run.folder)
        figures.save(picture, run.folder / "attention.png")
        run.page.write_figure("attention", picture, best_epoch)
    return write_network_report(
        run.model, run.config, corpus.name, run.subsets, probabilities, best_epoch, run.folder, run.page
    )


def validate_run(config: Config, corpus: Corpus, folder: Path, stop_epoch: int) -> list[dict[str, float]]:
    """Train as `train_unscored` does; return the rows of history.csv."""
    run = train_unscored(config, corpus, folder, stop_epoch)
    return runs.read_history(run.folder / "history.csv")


def train_unscored(config: Config, corpus: Corpus, folder: Path, stop_epoch: int) -> Prepared:
    """Train as `train_run` does, on from where the folder's run stands, until an epoch is done; ask nothing of the test
    subset. The network starts from `config.model.branches`, which are run folders. Returns the run, whose network has
    its best weights."""
    resume = (Path(folder) / "config.json").is_file()
    run = prepare(config, corpus, folder, resume, _quiet, [Path(branch) for branch in config.model.branches])
    # Graph and pictures of each of many trials take time, and nobody looks at them.
    fit(replace(run, page=None), _quiet, stop_epoch)
    return run


def _quiet(line: str) -> None:
    pass


def prepare(
    config: Config,
    corpus: Corpus,
    folder: Path,
    resume: bool = False,
    say: Callable = print,
    branches: Sequence[Path] = (),
) -> Prepared:
    """Build the network and begin its run's folder, or go on with it. What tells of training clips that it has not
    heard is trained here. Arguments as for `train_run`."""
    runs.check_run(folder, resume)
    config = with_experiment(config, emotions=corpus.emotions)
    if resume:  # As it was begun, with all that was found out then.
        config = replace(read_config(Path(folder) / "config.json"), experiment=config.experiment)
    else:
        config = with_teacher(with_lasting_paths(config), Path(folder))
        config = with_start(config) if config.model.start_from else with_pretrained_sizes(config)
    asked = settings(config)
    config = with_branches(config, configs_of(branches))
    if taken := [path for path, own in settings(config).items() if asked.get(path) != own]:
        say(f"as the branches were trained, not as asked for: {', '.join(taken)}")
    if config.experiment.protocol == "all":
        config = with_epochs_beside(config, corpus.name, Path(folder), say)
    names = split_corpus(corpus, config.experiment)
    if config.model.start_from and not resume:
        check_unheard(config, corpus, names)
    check_splits(branches, runs.split_digest(corpus.clips, names))
    check_targets(config, corpus.clips, names)
    set_precision(config.training, say)
    state = Path(folder) / "checkpoints" / callbacks.STATE
    # Before the folder: weights may be out of reach.
    model = make_network(config, not state.exists(), branches)

    folder = runs.create_run(folder, resume)
    started = [start_folder(Path(config.model.start_from))] if config.model.start_from and not resume else []
    keep_heard(config, branches, started, folder)
    keep_words([*branches, *started], folder)
    write_text(folder / "config.json", to_json(config))
    (folder / "checkpoints").mkdir(exist_ok=True)
    subsets = take_subsets(config, corpus, folder, say)
    page = callbacks.TensorBoardPage(folder, config.experiment.emotions)
    # What was trained elsewhere has the statistics of the clips that its weights are of.
    learned = config.encoders if config.model.start_from else inputs_of(branches)
    adapt_normalization(model, config, subsets["train"], [name for name in config.encoders if name not in learned])
    say(f"{config.recipe}: {model.count_params():,} parameters")
    pretrained = [
        *pretrained_layers(model),
        *branch_layers(model, config, branches),
        *started_layers(model, config),
    ]
    said_unheard = ask_unheard(config, corpus, subsets, folder, say) if config.training.crossfit_parts else None
    targets = make_targets(config, corpus, subsets["train"], said_unheard)
    return Prepared(config, model, pretrained, subsets, targets, folder, page)


def ask_unheard(
    config: Config, corpus: Corpus, subsets: Mapping[str, Subset], folder: Path, say: Callable
) -> np.ndarray:
    """Return what networks that have not heard them say of the training clips, probabilities [clips, emotions]: those
    that `training.crossfit_by` names, else such as the configuration's. They lie under crossfit/ of the run."""
    tellers = tellers_of(config)
    for name, teller in tellers.items():
        own = teller_folder(folder, name)
        if not (own / SAID).exists():
            say(f"{name} tells of clips")
            prepare(teller, corpus, own, (own / "config.json").is_file(), say)
    if tellers:
        set_precision(config.training, _quiet)
        said = said_together([teller_folder(folder, name) for name in tellers])
    else:
        said = ask_own_kind(config, corpus, subsets, folder, say)
    keras.utils.set_random_seed(config.experiment.seed)  # As where all had been said before.
    return said


def ask_own_kind(
    config: Config, corpus: Corpus, subsets: Mapping[str, Subset], folder: Path, say: Callable
) -> np.ndarray:
    """Train networks such as the configuration's on parts of the training clips; return what they say of the others,
    probabilities [clips, emotions]."""
    num_parts, train = config.training.crossfit_parts, subsets["train"]
    training = unjudged(config.training, config.training.crossfit_epochs)
    # A teacher would have heard all parts.
    config = replace(config, training=replace(training, refit_epochs=0, crossfit_parts=0, teacher=""))
    started = config.model.start_from
    nobody = train.take(np.array([], int))

    def answer(rest: Subset, part: Subset, own: Path) -> np.ndarray:
        model = make_network(config, not (own / "checkpoints" / callbacks.STATE).exists())
        adapt_normalization(model, config, rest, () if started else config.encoders)
        pretrained = [*pretrained_layers(model), *started_layers(model, config)]
        targets = make_targets(config, corpus, rest)
        fit(Prepared(config, model, pretrained, {"train": rest, "validation": nobody}, targets, own, None), say)
        return to_probabilities(predict_logits(model, evaluation_inputs(part, config)))

    others = [*subsets["validation"].clips, *subsets["test"].clips]
    parts = part_clips(train.clips, others, num_parts, config.experiment.seed)
    return crossfit(config.experiment.emotions, train, parts, folder, say, answer)


def keep_heard(config: Config, branches: Sequence[Path], started: Sequence[Path], folder: Path) -> None:
    """Keep in a run's folder what the clips were to all that its network starts or learns from: the runs of its
    branches, on its own split, the model that it `started` from, and its teacher."""
    if (folder / runs.HEARD_FILE).exists():  # A run that goes on.
        return
    teachers = [Path(config.training.teacher)] if config.training.teacher else []
    heard = [*runs.read_heard(branches), *(row for source in [*started, *teachers] for row in runs.made_with(source))]
    if heard:
        runs.write_heard(folder, heard)


def make_network(config: Config, pretrained: bool, branches: Sequence[Path] = ()) -> keras.Model:
    """Build the network, its weights drawn from the seed; where it has `pretrained` parts, they get theirs."""
    keras.utils.set_random_seed(config.experiment.seed)
    model = build_model(config)
    if pretrained:
        if config.model.start_from:
            load_start(model, config)
        else:
            load_pretrained(model, config)
            load_branches(model, config, branches)
    return model


def adapt_normalization(model: keras.Model, config: Config, train: Subset, names: Sequence[InputName]) -> None:
    """Give the normalisation of each of these branches the mean and deviation of the training clips' valid frames."""
    names = [name for name in names if name != "tokens"]
    if not names:
        return
    inputs = evaluation_inputs(train, replace(config, audio=replace(config.audio, num_windows=1)))
    for name in names:
        valid_frames = inputs[name][inputs[f"{name}_mask"] > 0]  # [all frames, bands]
        model.get_layer(f"{name}_normalization").adapt(valid_frames[np.newaxis])


class Stage(NamedTuple):
    """A part of a training: from `first_epoch` to before `stop_epoch`, with what is pretrained frozen or learning."""

    first_epoch: int
    stop_epoch: int
    frozen: bool
    training: TrainingConfig


def stages(config: TrainingConfig, pretrained: bool) -> list[Stage]:
    """Return the parts of a training: the epochs with what is `pretrained` frozen, if there is any, and those in which
    all learns. Each has a schedule of its own."""
    frozen, epochs = config.frozen_epochs if pretrained else 0, config.epochs
    if not frozen:
        return [Stage(0, epochs, False, config)]
    if frozen >= epochs:
        return [Stage(0, epochs, True, config)]
    unfrozen = replace(config, epochs=epochs - frozen, learning_rate=config.unfrozen_learning_rate)
    return [Stage(0, frozen, True, replace(config, epochs=frozen)), Stage(frozen, epochs, False, unfrozen)]


def unjudged(config: TrainingConfig, epochs: int) -> TrainingConfig:
    """Return the training over so many epochs, where no validation clip says when to stop or what to keep."""
    warmup_epochs = min(config.warmup_epochs, epochs / 10)
    return replace(config, epochs=epochs, warmup_epochs=warmup_epochs, select_by="last", patience_epochs=0)


def fit(run: Prepared, say: Callable, stop_epoch: int | None = None) -> int:
    """Train from the last whole epoch on until the epochs or the patience end, or `stop_epoch` is done; leave the model
    with its best weights.

    Returns the epoch they are of, counted from 1.
    """
    config, subsets, folder, page = run.config, run.subsets, run.folder, run.page
    classes = {name: target.shape[1] for name, target in run.targets.items()}
    model = with_auxiliaries(run.model, config.training.auxiliaries, classes)
    state = folder / "checkpoints" / callbacks.STATE
    done = callbacks.saved_epoch(state)
    if done:
        say(f"going on after epoch {done}")
    train, epochs = subsets["train"], config.training.epochs
    weights = class_weights(train.labels, len(config.experiment.emotions), config.training)
    steps = pipeline.steps_per_epoch(len(train.clips), config)
    validation = callbacks.Validation(
        evaluation_inputs(subsets["validation"], config),
        subsets["validation"].labels,
        folder,
        config.training,
        done,
        page,
    )
    for first, stop, frozen, learning in stages(config.training, bool(run.pretrained)):
        stop = min(stop, stop_epoch or stop)
        validation.stage_begins_after, validation.stage_ends_after = first, stop
        if done > stop or first >= stop:
            continue
        for layer in run.pretrained:
            layer.trainable = not frozen
        compile_model(model, learning, steps)
        if first < done:
            callbacks.load_variables(state, callbacks.all_variables(model))
            callbacks.settle_normalization(model)
        if done == stop or validation.out_of_patience():
            # The next stage begins with the moving average, as after Keras's own end of `fit`.
            model.optimizer.finalize_variable_values(model.trainable_variables)
            continue
        batches = pipeline.training_dataset(
            train.waveforms, run.targets, config, weights, max(first, done), train.ready, train.variants
        )
        if page and not done and first == 0:
            page.write_graph(run.model)
            if config.audio_inputs:
                examples = draw_examples(run.model, config, train, batches)
                figures.save(examples, folder / "examples.png")
                page.write_figure("examples", examples, 0)
        model.fit(
            batches,
            epochs=stop,
            initial_epoch=max(first, done),
            steps_per_epoch=steps,
            verbose=0,
            shuffle=False,  # The dataset shuffles by seed and epoch.
            callbacks=[
                validation,
                callbacks.Progress(epochs, steps, max(first, done)),
                keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
            ],
        )
    best_epoch = callbacks.load_variables(folder / "checkpoints" / callbacks.BEST, model.variables)
    callbacks.settle_normalization(model)
    return best_epoch


def refit(run: Prepared, corpus: Corpus, validated: np.ndarray | None, say: Callable) -> None:
    """Let a network that has been trained and validated go on, with the validation clips among those that train, and
    leave it as it is at the end. History and checkpoints of this lie in the run's folder, under refit/. `validated` is
    what it has said of these clips, probabilities [clips, emotions]; None where there are none (protocol all)."""
    last = stages(run.config.training, bool(run.pretrained))[-1].training
    epochs = last.refit_epochs
    # The auxiliaries' heads are not kept; new ones would pull at what the network has learned.
    training = replace(unjudged(last, epochs), auxiliaries={})
    # With the seed that it had, each clip would sound as it did in the first epochs.
    config = with_experiment(replace(run.config, training=training), seed=MAX_SEED - run.config.experiment.seed)
    subsets = with_validation(run.subsets, config)
    say(f"going on with all {len(subsets['train'].clips)} training and validation clips")
    emotion = run.targets["emotion"]
    if validated is not None:
        said_unheard = validated if config.training.crossfit_parts else None
        own = make_targets(config, corpus, run.subsets["validation"], said_unheard)["emotion"]
        emotion = np.concatenate([emotion, own])
    folder = run.folder / runs.REFIT
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    fit(Prepared(config, run.model, (), subsets, {"emotion": emotion}, folder, None), say)
