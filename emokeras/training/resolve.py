"""Complete a configuration before training. Reads files, trains and writes nothing.

In this order: the corpus's emotions; absolute paths; the network of `model.start_from`, or the sizes of pretrained
weights; the branches of `model.branches`; the epochs of the protocol "all".
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from emokeras import hub, runs
from emokeras.config import (
    AnyConfig,
    Config,
    EnsembleConfig,
    ExperimentConfig,
    InputName,
    changed,
    read_config,
    read_config_to_train,
    settings,
    with_experiment,
)
from emokeras.data.corpora import Corpus, split_source
from emokeras.data.splits import trained_emotions
from emokeras.errors import UsageError
from emokeras.recipes import RECIPES
from emokeras.runs.differences import differing_settings

INPUT_SECTIONS = ("audio", "spectrogram", "mfcc", "prosody", "speech", "tokens")


@dataclass(frozen=True)
class Resolved:
    """What is trained: `config`, and first its `members`, which are an ensemble's networks or the recipes that branches
    start from. `notes` are lines for the reader."""

    config: AnyConfig
    members: Mapping[str, Config] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def resolve(config: AnyConfig, corpus: Corpus, folder: Path) -> Resolved:
    """Return the whole configuration of a run in `folder`, and of what has to be trained before it.

    Raises
    ------
    UsageError: a setting that does not fit the corpus, or names what is not there.
    """
    config = with_experiment(config, emotions=trained_emotions(corpus, config.experiment))
    if isinstance(config, EnsembleConfig):
        return _resolve_ensemble(config, corpus, Path(folder))
    config = with_absolute_paths(config)
    config = with_start(config) if config.model.start_from else _with_pretrained_sizes(config)
    members, notes = {}, []
    for branch in config.model.branches:
        if not _is_run(branch):
            member = resolve(_member(branch, config), corpus, Path(folder) / "members" / branch)
            members[branch] = member.config
            notes += [f"{branch}: {note}" for note in member.notes]
    before = settings(config)
    config = with_branches(
        config, {branch: members.get(branch) or _config_of(Path(branch)) for branch in config.model.branches}
    )
    if taken := [path for path, own in settings(config).items() if before.get(path) != own]:
        notes.append(f"settings taken from the trained branches instead of those given: {', '.join(taken)}")
    if config.experiment.protocol == "all":
        config, note = _with_epochs_of_runs(config, corpus.name, Path(folder))
        notes += note
    return Resolved(config, members, tuple(notes))


def _resolve_ensemble(config: EnsembleConfig, corpus: Corpus, folder: Path) -> Resolved:
    if config.experiment.protocol == "all":
        raise UsageError(
            f"protocol all leaves no validation clips to fuse the members of {config.recipe} by: train one network"
        )
    members, notes = {}, []
    for name, member in config.members.items():
        resolved = resolve(member, corpus, folder / "members" / name)
        members[name] = resolved.config
        notes += [f"{name}: {note}" for note in resolved.notes]
    return Resolved(replace(config, members=members), members, tuple(notes))


def with_absolute_paths(config: Config) -> Config:
    """Return the configuration with absolute paths for what it names by file or folder."""
    weights, pretrained, start_from = (
        str(Path(path).absolute()) if path and Path(path).exists() else path
        for path in (config.model.weights, config.model.pretrained, config.model.start_from)
    )
    branches = tuple(str(Path(branch).absolute()) if _is_run(branch) else branch for branch in config.model.branches)
    model = replace(config.model, weights=weights, pretrained=pretrained, start_from=start_from, branches=branches)
    return replace(config, model=model)


def _with_pretrained_sizes(config: Config) -> Config:
    """Return the configuration with the sizes of the BERT in `model.weights` and of the speech encoder in
    `model.pretrained`, where it has one."""
    encoders = {
        name: replace(encoder, **hub.bert_sizes(config.model.weights)) if encoder.kind == "bert" else encoder
        for name, encoder in config.encoders.items()
    }
    speech = config.speech
    if config.has_speech_encoder:
        speech = replace(speech, **hub.speech_settings(config.model.pretrained))
    return replace(config, encoders=encoders, speech=speech)


# A whole network to start from


def start_folder(path: Path) -> Path:
    """Return the folder with the network to start from: a run's, or an export's assets.extra. Raises UsageError when it
    holds no single network."""
    exported = runs.newest_version(path)
    folder = exported / "assets.extra" if exported else path
    if not (folder / "model.keras").is_file():
        raise UsageError(f"model.start_from: {path} is no run of one network that has ended, and no export of one")
    return folder


def config_of_start(path: Path) -> Config:
    """Return the configuration of the network to start from, without its experiment and what it started from itself."""
    own = read_config(start_folder(path) / "config.json")
    model = replace(own.model, start_from="", branches=(), weights="")
    return replace(own, experiment=ExperimentConfig(), model=model)


def with_start(config: Config) -> Config:
    """Return the configuration with the network and the features of the model that it starts from; what concerns
    training stays its own, with dropout and L2. Raises UsageError where the two do not fit."""
    own = read_config(start_folder(Path(config.model.start_from)) / "config.json")
    model = replace(
        own.model, start_from=config.model.start_from, branches=(), weights="", dropout=config.model.dropout
    )
    encoders = {
        name: replace(encoder, dropout=config.encoders[name].dropout, l2=config.encoders[name].l2)
        if name in config.encoders
        else encoder
        for name, encoder in own.encoders.items()
    }
    sections = {name: getattr(own, name) for name in INPUT_SECTIONS}
    return changed(config, "model.start_from", model=model, encoders=encoders, **sections)


# Branches to start from


def with_branches(config: Config, branches: Mapping[str, AnyConfig]) -> Config:
    """Return the configuration with the features, encoders and pooling of these branches, {run or recipe: its
    configuration}.

    Raises UsageError when one is no single network, has an input that this network lacks or another branch has, or has
    other windows than the others.
    """
    taken: dict[InputName, str] = {}
    for branch, own in branches.items():
        if not isinstance(own, Config):
            raise UsageError(f"model.branches: {branch} is an ensemble: give runs of single networks")
        for name, encoder in own.encoders.items():
            if name not in config.encoders or name in taken:
                why = f"{taken[name]} has one too" if name in taken else "this network has none"
                raise UsageError(f"model.branches: {branch} has a {name} branch, {why}: give one run for each branch")
            encoder = replace(
                encoder, pooling=own.pooling_of(name), embedding_units=config.encoders[name].embedding_units
            )
            changes = {name: getattr(own, name), "encoders": config.encoders | {name: encoder}}
            if own.has_speech_encoder:
                changes["model"] = replace(config.model, pretrained=own.model.pretrained)
            if own.audio_inputs:
                others = [other for other in taken if other not in ("speech", "tokens")]
                if others and own.audio != config.audio:
                    raise UsageError(
                        f"model.branches: {branch} and {taken[others[0]]} have other audio settings: one network takes "
                        "one window"
                    )
                changes["audio"] = own.audio
            config = changed(config, "model.branches", **changes)
            taken[name] = branch
    return config


def _is_run(branch: str) -> bool:
    """Return whether a branch is the folder of a run that has ended; else it is a recipe. Raises UsageError."""
    is_run = (Path(branch) / "metrics.json").is_file()
    if not is_run and branch not in RECIPES:
        raise UsageError(f"model.branches: {branch} is no run that has ended, and no recipe")
    return is_run


def _config_of(run: Path) -> AnyConfig:
    return read_config(run / "config.json")


def _member(recipe: str, config: Config) -> AnyConfig:
    """Return the configuration of a recipe that a branch of this network starts from. Raises UsageError where its
    weights would be refitted on validation clips of this network."""
    member = replace(RECIPES[recipe].config, experiment=config.experiment)
    if isinstance(member, EnsembleConfig):
        raise UsageError(f"model.branches: {recipe} is an ensemble: give runs of single networks")
    if member.training.refit_epochs and config.experiment.protocol != "all":
        raise UsageError(
            f"model.branches: {recipe} is refitted on the validation clips: train it with training.refit_epochs=0 and "
            "give its run"
        )
    if member.has_speech_encoder and config.model.pretrained:
        member = replace(member, model=replace(member.model, pretrained=config.model.pretrained))
    return member


# Training on all clips


def _with_epochs_of_runs(config: Config, corpus_name: str, folder: Path) -> tuple[Config, list[str]]:
    """Return the configuration of a network that trains on all clips, with a note: there is nothing to select an epoch
    by, so it keeps the last. Its number of epochs is the median best epoch of the measured runs of the same settings
    beside its folder."""
    epochs, best_epochs, notes = config.training.epochs, [], []
    for path in sorted(folder.absolute().parent.glob("*/predictions.csv")):  # A run on all clips has none.
        run = path.parent
        if not all((run / name).is_file() for name in runs.RESULT_FILES):
            continue
        metrics, own = runs.read_metrics(run), runs.read_json(run / "config.json")
        is_same = (metrics.get("recipe"), metrics.get("corpus")) == (config.recipe, corpus_name)
        if is_same and not differing_settings(own, config):
            best_epochs.append(metrics["best_epoch"])
    if best_epochs:
        epochs = round(statistics.median(best_epochs))
        notes.append(f"epochs: {epochs}, the median best epoch of {len(best_epochs)} runs beside it")
    elif config.training.select_by != "last":
        notes.append(f"warning: all {epochs} epochs: no measured run of these settings is beside it to choose them by")
    return replace(config, training=replace(config.training, epochs=epochs, select_by="last")), notes


# A run to continue


def read_resolved(folder: Path, corpus: Corpus, source: str) -> Resolved:
    """Return what the run in a folder trains, as it was resolved when it began; its corpus is at `source` now. Raises
    UsageError where it needs a setting of an earlier version."""
    corpora = split_source(source) if source else ()
    config = with_experiment(read_config_to_train(Path(folder) / "config.json"), corpora=corpora)
    if isinstance(config, EnsembleConfig):
        return Resolved(config, config.members)
    members = {}
    for branch in config.model.branches:
        if not _is_run(branch):
            begun = Path(folder) / "members" / branch
            if (begun / "config.json").is_file():
                members[branch] = with_experiment(read_config_to_train(begun / "config.json"), corpora=corpora)
            else:
                members[branch] = resolve(_member(branch, config), corpus, begun).config
    return Resolved(config, members)
