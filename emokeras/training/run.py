"""Train one configuration in one run folder: resolve it, draw the split, train its members, train it, test it once.

train            a configuration in a new folder
continue_run     a run that was begun, after its last whole epoch
train_unscored   a training for a search: validation only, the test subset is not read
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emokeras import runs
from emokeras.config import (
    AnyConfig,
    Config,
    EnsembleConfig,
    InputName,
    read_config_to_train,
    to_json,
    with_experiment,
)
from emokeras.data.corpora import Corpus
from emokeras.data.speech import frame_statistics
from emokeras.data.splits import SUBSETS, Split, draw_split, missing_emotions
from emokeras.errors import CorpusError, RunError
from emokeras.files import replacing, write_text
from emokeras.models.build import build_model
from emokeras.models.normalization import set_statistics
from emokeras.models.pretrained import load_pretrained, pretrained_layers
from emokeras.processes import num_cores, python, run_side_by_side
from emokeras.reporting import plots
from emokeras.runs.differences import differing_settings
from emokeras.training.checkpoints import STATE
from emokeras.training.ensemble import fuse_runs
from emokeras.training.fit import Setup, fit, refit
from emokeras.training.optimizer import has_gpu, set_precision
from emokeras.training.outcome import write_network_outcome
from emokeras.training.pictures import draw_attention
from emokeras.training.resolve import Resolved, read_resolved, resolve, start_folder
from emokeras.training.score import predict_logits, to_probabilities
from emokeras.training.subsets import Subset, check_vocabulary, evaluation_inputs, load_subsets, predict_subset
from emokeras.training.tensorboard import TensorBoardPage
from emokeras.training.warm_start import (
    branch_layers,
    check_branches,
    check_start,
    inputs_of,
    keep_vocabulary,
    load_branches,
    load_start,
    started_layers,
)

# The files of a member's run that an ensemble needs: its configuration, its predictions, and what serves it.
MEMBER_FILES = (
    *("config.json", "split.csv", "metrics.json", "history.csv", "predictions.csv", "validation_predictions.csv"),
    *("model.keras", "vocabulary.txt", "tokenizer", *runs.EARLIER_FILES),
)


def train(
    config: AnyConfig, corpus: Corpus, folder: Path, say: Callable = print, members_at_once: int | None = None
) -> dict:
    """Train a network, or the networks of an ensemble, on one split; score it once on the test subset.

    Parameters
    ----------
    config: a recipe's, overridden.
    folder: where the run goes; it must hold none yet.
    say: gets lines for the reader.
    members_at_once: networks that are trained at the same time; by default one per core, or one where there is a GPU.

    Returns
    -------
    The metrics, as in metrics.json; under the protocol "all" they have no subset's.

    Raises
    ------
    CorpusError, UsageError, RunError: what cannot be trained, before anything is written.
    """
    runs.check_run(folder)
    resolved = resolve(config, corpus, folder)
    split = draw_split(corpus, resolved.config.experiment)
    _check(resolved, corpus, split)
    return _train(resolved, corpus, split, Path(folder), say, members_at_once)


def continue_run(
    folder: Path, corpus: Corpus, source: str, say: Callable = print, members_at_once: int | None = None
) -> dict:
    """Continue a run after its last whole epoch; return the metrics. `source` is where its corpus is now. Raises
    RunError, before anything is written, when the run was begun on other clips or another split."""
    runs.check_run(folder, resume=True)
    resolved = read_resolved(folder, corpus, source)
    split = draw_split(corpus, resolved.config.experiment)
    # An ensemble that an earlier version began has the split in its members only.
    for each in (Path(folder), *(Path(folder) / "members" / name for name in resolved.members)):
        _check_same_split(each, corpus, split)
    return _train(resolved, corpus, split, Path(folder), say, members_at_once)


def train_unscored(config: Config, corpus: Corpus, folder: Path, stop_epoch: int) -> Setup:
    """Train a network until an epoch is done, or continue it from where the folder's run is; do not read the test
    subset. Returns the training, whose network has its best weights."""

    def silent(line: str) -> None:
        pass

    folder = Path(folder)
    begun = (folder / "config.json").is_file()
    runs.check_run(folder, resume=begun)
    resolved = read_resolved(folder, corpus, config.experiment.source) if begun else resolve(config, corpus, folder)
    split = draw_split(corpus, resolved.config.experiment)
    if begun:
        _check_same_split(folder, corpus, split)
    else:
        _check(resolved, corpus, split)
    branches = [Path(branch) for branch in resolved.config.model.branches]
    setup = _set_up(resolved.config, corpus, split, folder, branches, silent)
    # The graph and pictures of each of many trials take time, and nobody looks at them.
    fit(replace(setup, board=None), silent, stop_epoch)
    return setup


# Checks


def _check(resolved: Resolved, corpus: Corpus, split: Split) -> None:
    """Raise where the corpus cannot be trained on with this split, or what a network starts from was trained on clips
    that are to validate or test it."""
    if len(resolved.config.experiment.emotions) < 2:
        raise CorpusError(
            f"corpus {corpus.name} has one emotion only, {', '.join(resolved.config.experiment.emotions)}: "
            "there is nothing to tell apart; see what was left out of it"
        )
    for subset in SUBSETS:
        if not len(split.indices(subset)) and resolved.config.experiment.protocol != "all":
            raise CorpusError(f"corpus {corpus.name}: its {subset} subset is empty; take another --protocol")
    for network in {**resolved.config.networks, **resolved.members}.values():
        if network.takes_transcripts and network.tokens.tokenizer == "words":
            check_vocabulary(network, corpus, split)
        if network.model.start_from:
            check_start(network, corpus, split)
        given = [Path(branch) for branch in network.model.branches if branch not in resolved.members]
        check_branches([branch for branch in given if (branch / "metrics.json").is_file()], split.digest)
    for member in resolved.members.values():  # A network without members is built before its folder is made.
        build_model(member)
        keras.backend.clear_session()


def _check_same_split(folder: Path, corpus: Corpus, split: Split) -> None:
    if not (Path(folder) / "split.csv").exists():
        return
    begun = [tuple(row[key] for key in ("clip", "content", "emotion", "subset")) for row in runs.read_split(folder)]
    pairs = zip(corpus.clips, split.subsets, strict=True)
    if begun != [(clip.name, clip.content, clip.emotion, str(subset)) for clip, subset in pairs]:
        raise RunError(f"{folder} was begun on other clips or another split: give it the corpus it was begun on")


# Training


def _train(
    resolved: Resolved, corpus: Corpus, split: Split, folder: Path, say: Callable, members_at_once: int | None
) -> dict:
    for line in (*resolved.notes, *(f"warning: {line}" for line in missing_emotions(corpus, split.subsets))):
        say(line)
    config, members = resolved.config, {}
    if resolved.members:
        _write_start(config, corpus, split, folder)
        members = _train_members(resolved.members, corpus, split, folder, say, members_at_once)
    if isinstance(config, EnsembleConfig):
        return fuse_runs(config, members, folder, corpus.clips, say)
    branches = [members.get(branch, Path(branch)) for branch in config.model.branches]
    return _train_network(config, corpus, split, folder, branches, say)


def _write_start(config: AnyConfig, corpus: Corpus, split: Split, folder: Path) -> None:
    """Make a run's folder with config.json and split.csv; repeating it changes nothing. Members are started before
    their processes, which continue them."""
    runs.create_run(folder, resume=(folder / "config.json").is_file())
    write_text(folder / "config.json", to_json(config))
    runs.write_split(folder, corpus.clips, split.subsets)


def _train_network(
    config: Config, corpus: Corpus, split: Split, folder: Path, branches: Sequence[Path], say: Callable
) -> dict:
    setup = _set_up(config, corpus, split, folder, branches, say)
    best_epoch = fit(setup, say)
    probabilities = {}
    if setup.validation_inputs:
        probabilities["validation"] = to_probabilities(predict_logits(setup.model, setup.validation_inputs))
    # Validation comes before the refit, which trains on its clips: an ensemble's weights are fitted on these figures.
    if config.training.refit_epochs:
        refit(setup, say)
    if setup.subsets["test"].clips:
        probabilities["test"] = to_probabilities(predict_subset(setup.model, setup.subsets["test"], config))
    if config.model.fusion == "attention" and len(config.encoders) > 1:
        _draw_attention(setup, best_epoch)
    return write_network_outcome(setup, corpus, split, probabilities, best_epoch)


def _draw_attention(setup: Setup, best_epoch: int) -> None:
    clips = setup.subsets["validation" if setup.validation_inputs else "train"]
    first = clips.take(np.array([0]))
    window = {name: value[0] for name, value in evaluation_inputs(first, setup.config).inputs.items()}
    title = f"{first.clips[0].name}, {first.clips[0].emotion}"
    picture = draw_attention(setup.model, setup.config, window, title, setup.folder)
    plots.save(picture, setup.folder / "attention.png")
    setup.board.write_figure("attention", picture, best_epoch)


def _set_up(
    config: Config, corpus: Corpus, split: Split, folder: Path, branches: Sequence[Path], say: Callable
) -> Setup:
    """Build the network, begin its run's folder or continue it, and take the clips of its subsets; train nothing."""
    set_precision(config.training, say)
    is_new = not (folder / "checkpoints" / STATE).exists()
    model = make_network(config, is_new, branches)  # Before the folder: weights may be out of reach.
    _write_start(config, corpus, split, folder)
    if is_new:
        started = [start_folder(Path(config.model.start_from))] if config.model.start_from else []
        _keep_earlier_splits(branches, started, folder)
        keep_vocabulary([*branches, *started], folder)
    (folder / "checkpoints").mkdir(exist_ok=True)
    subsets = load_subsets(config, corpus, split, folder, say)
    if is_new and not config.model.start_from:  # A continued or started network has the statistics of its weights.
        trained = inputs_of(branches)
        adapt_normalization(model, config, subsets["train"], [name for name in config.encoders if name not in trained])
    say(f"{config.recipe}: {model.count_params():,} parameters")
    pretrained = [
        *pretrained_layers(model),
        *branch_layers(model, config, branches),
        *started_layers(model, config),
    ]
    return Setup(
        config,
        model,
        pretrained,
        subsets,
        evaluation_inputs(subsets["validation"], config),
        folder,
        TensorBoardPage(folder, config.experiment.emotions),
    )


def _keep_earlier_splits(branches: Sequence[Path], started: Sequence[Path], folder: Path) -> None:
    """Keep in a run's folder how clips were used by what its network starts from: branches, which have its own split,
    and the model that it `started` from."""
    if (folder / runs.EARLIER_FILE).exists():
        return
    rows = [*runs.read_earlier_splits(branches), *(row for source in started for row in runs.clips_used(source))]
    if rows:
        runs.write_earlier_splits(folder, rows)


def make_network(config: Config, is_new: bool, branches: Sequence[Path] = ()) -> keras.Model:
    """Build a network with weights drawn from the seed; where it `is_new`, pretrained parts get their weights."""
    keras.utils.set_random_seed(config.experiment.seed)
    model = build_model(config)
    if is_new:
        if config.model.start_from:
            load_start(model, config)
        else:
            load_pretrained(model, config)
            load_branches(model, config, branches)
    return model


def adapt_normalization(model: keras.Model, config: Config, train: Subset, names: Sequence[InputName]) -> None:
    """Give the normalization of each of these branches the mean and variance of the training clips' valid frames."""
    if "speech" in names:
        _, mean, variance = frame_statistics(own[0] for own in train.speech)
        set_statistics(model.get_layer("speech_normalization"), mean, variance)
    names = [name for name in names if name in config.audio_inputs]
    if not names:
        return
    inputs = evaluation_inputs(train, replace(config, encoders={name: config.encoders[name] for name in names})).inputs
    for name in names:
        valid_frames = inputs[name][inputs[f"{name}_mask"] > 0]  # [all frames, features]
        model.get_layer(f"{name}_normalization").adapt(valid_frames[np.newaxis])


# Members


def default_members_at_once() -> int:
    """Return how many networks are trained at the same time: one per core, or one where there is a GPU, whose memory
    they would have to share."""
    return 1 if has_gpu() else num_cores()


def _train_members(
    members: Mapping[str, Config],
    corpus: Corpus,
    split: Split,
    folder: Path,
    say: Callable,
    members_at_once: int | None,
) -> dict[str, Path]:
    """Return the folders of the members' runs, folder/members/NAME. A member that has been trained there, or with the
    same settings in the folder that `train` and `benchmark` give it beside this run, is not trained again."""
    folders = {name: folder / "members" / name for name in members}
    missing = []
    for name, member_folder in folders.items():
        earlier = folder.absolute().parent.parent / members[name].recipe / folder.name
        if (member_folder / "metrics.json").is_file():
            say(f"member {name}: trained already")
        elif not member_folder.exists() and _is_run_of(earlier, members[name], split):
            copy_member(earlier, member_folder)
            say(f"member {name}: taken from {earlier}")
        else:
            missing.append(name)
            config = members[name]
            if (member_folder / "config.json").is_file():  # As it was begun; the corpus may have moved.
                config = read_config_to_train(member_folder / "config.json")
                config = with_experiment(config, corpora=members[name].experiment.corpora)
            _write_start(config, corpus, split, member_folder)
    at_once = members_at_once or default_members_at_once()
    if not all(members[name].experiment.corpora for name in missing):
        at_once = 1  # A corpus that was made in Python cannot be loaded by another process.
    if min(at_once, len(missing)) > 1:
        commands = {name: python("emokeras.training.member", str(folders[name])) for name in missing}
        run_side_by_side(commands, at_once, say)
        return folders
    for name in missing:
        say(f"member {name}: training in {folders[name]}")
        resolved = read_resolved(folders[name], corpus, members[name].experiment.source)
        _train(resolved, corpus, split, folders[name], lambda line: say(f"  {line}"), members_at_once)
        keras.backend.clear_session()  # One network after another would fill the memory.
    return folders


def _is_run_of(folder: Path, config: Config, split: Split) -> bool:
    """Return whether a run with these settings, on this split, has ended in a folder."""
    if not (folder / "metrics.json").is_file() or not (folder / "model.keras").is_file():
        return False
    metrics = runs.read_metrics(folder)
    same = metrics.get("split_sha256") == split.digest and metrics["seed"] == config.experiment.seed
    return same and not differing_settings(runs.read_json(folder / "config.json"), config)


def copy_member(run: Path, target: Path) -> None:
    """Copy the files of a run that an ensemble needs, in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.mkdir()
        for name in MEMBER_FILES:
            if (run / name).is_dir():
                shutil.copytree(run / name, temporary / name)
            elif (run / name).is_file():
                shutil.copyfile(run / name, temporary / name)
