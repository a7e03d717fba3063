"""Runs that are made of others: their parts are found, or trained first, then they themselves."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import keras

from emokeras import recipes
from emokeras.config import AnyConfig, Config, EnsembleConfig, read_config, to_json, with_experiment, with_lasting_paths
from emokeras.data.corpus import Corpus
from emokeras.errors import UsageError
from emokeras.files import replacing, write_text
from emokeras.models.pretrained import with_pretrained_sizes
from emokeras.reporting import runs
from emokeras.reporting.differences import differing_settings
from emokeras.training.branches import check_splits, with_branches
from emokeras.training.crossfit import SAID, teller_folder, tellers_of
from emokeras.training.ensembling import fuse_runs
from emokeras.training.fit import prepare, train_run
from emokeras.training.side_by_side import Training, default_at_once, train_side_by_side
from emokeras.training.subsets import corpus_digest, split_corpus
from emokeras.training.targets import check_targets, with_teacher

# What of a member's run an ensemble keeps: what it is, what it said, and all it needs to be served.
MEMBER_FILES = (
    *("config.json", "split.csv", "metrics.json", "history.csv", "predictions.csv", "validation_predictions.csv"),
    *("model.keras", "vocabulary.txt", "tokenizer", runs.HEARD_FILE),
)


def train_with_members(
    config: AnyConfig,
    corpus: Corpus,
    folder: Path,
    resume: bool = False,
    say: Callable = print,
    at_once: int | None = None,
) -> dict:
    """Train a network, or all that an ensemble or a network that starts from others is made of, and it; return the
    metrics. Arguments as for `fit.train_run`; so many members are trained `at_once`, by default as
    `side_by_side.default_at_once` says.

    A member that has been trained already, in the run's own folder or with the same settings in the folder that
    `benchmark` and `train` would have given it beside this one, is not trained again.
    """
    runs.check_run(folder, resume)
    config = with_experiment(config, emotions=corpus.emotions)
    if isinstance(config, EnsembleConfig):
        return _train_ensemble(config, corpus, folder, resume, say, at_once)
    if config.model.branches:
        return _train_from_branches(config, corpus, folder, resume, say, at_once)
    return train_run(config, corpus, folder, resume, say)


def _train_ensemble(
    config: EnsembleConfig, corpus: Corpus, folder: Path, resume: bool, say: Callable, at_once: int | None
) -> dict:
    if config.experiment.protocol == "all":
        raise UsageError(
            f"protocol all leaves no validation clip by which to fuse the members of {config.recipe}: train one "
            "network, which training.teacher may teach what the ensemble knows"
        )
    if not resume:
        settled = {name: _settled(member, corpus, folder) for name, member in config.members.items()}
        config = replace(config, members=settled)
    runs.create_run(folder, resume)
    write_text(folder / "config.json", to_json(config))
    members = take_members(config.members, corpus, folder, say, at_once)
    # As they were trained: what is pretrained has told its sizes.
    config = replace(config, members={name: read_config(run / "config.json") for name, run in members.items()})
    write_text(folder / "config.json", to_json(config))
    return fuse_runs(config, members, folder, corpus.clips, say)


def _train_from_branches(
    config: Config, corpus: Corpus, folder: Path, resume: bool, say: Callable, at_once: int | None
) -> dict:
    # Refused while nothing is begun: what is neither a run nor a recipe, those that do not fit, weights out of reach.
    given = [Path(branch).absolute() for branch in config.model.branches if _is_run(branch)]
    with_branches(config, [(branch, _config_of(branch, config)) for branch in config.model.branches])
    check_splits(given, corpus_digest(corpus, config.experiment))
    for branch in config.model.branches:
        refits = not _is_run(branch) and recipes.RECIPES[branch].config.training.refit_epochs
        if refits and config.experiment.protocol != "all":
            raise UsageError(
                f"model.branches: {branch} trains on the validation clips too in the end: train it with "
                "training.refit_epochs=0 and give its run"
            )
    if not resume:
        config = with_pretrained_sizes(_settled(config, corpus, folder))
        runs.create_run(folder)
        write_text(folder / "config.json", to_json(config))
    named = {branch: _as_member(branch, config) for branch in config.model.branches if not _is_run(branch)}
    members = take_members(named, corpus, folder, say, at_once)
    branches = [members.get(branch, Path(branch)) for branch in config.model.branches]
    return train_run(config, corpus, folder, True, say, branches)


def _settled(config: Config, corpus: Corpus, folder: Path) -> Config:
    """Return a network's configuration with whole paths for what it names: a teacher named by its recipe lies beside
    the run in `folder`, which the network may be a member of. Raises UsageError where it cannot be taught so."""
    config = with_teacher(with_lasting_paths(config), folder)
    check_targets(config, corpus.clips, split_corpus(corpus, config.experiment))
    return config


def take_members(
    configs: Mapping[str, Config], corpus: Corpus, folder: Path, say: Callable, at_once: int | None = None
) -> dict[str, Path]:
    """Return the folders of the members' runs, folder/members/NAME each: as it lies there, else copied from beside the
    run that it is a member of, else trained, so many `at_once`."""
    members = {name: folder / "members" / name for name in configs}
    missing = {}
    for name, own in members.items():
        beside = folder.parent.parent / configs[name].recipe / folder.name
        if not own.exists() and _is_of(beside, configs[name], corpus):
            copy_member(beside, own)
            say(f"member {name}: taken from {beside}")
        elif (own / "metrics.json").is_file():
            say(f"member {name}: trained already")
        else:
            missing[name] = _training(configs[name], own)
    share_tellers({name: configs[name] for name in missing}, members, corpus, folder, say, at_once)
    _train_all(train_with_members, "trains", missing, corpus, say, at_once)
    return members


def share_tellers(
    configs: Mapping[str, Config],
    runs_of: Mapping[str, Path],
    corpus: Corpus,
    folder: Path,
    say: Callable,
    at_once: int | None = None,
) -> None:
    """Let the networks that tell members of clips (`training.crossfit_by`) be trained once for all of them, so many
    `at_once`, in a folder, and give what they say to the members' runs."""
    tellers: dict[str, Config] = {}
    asked = []
    for name, config in configs.items():
        for recipe, teller in tellers_of(config).items():
            said = teller_folder(runs_of[name], recipe) / SAID
            # A member that asks for other parts or epochs than the first has tellers of its own.
            if tellers.setdefault(recipe, teller) == teller and not said.exists():
                asked.append((recipe, said))
    shared = {recipe: teller_folder(folder, recipe) for recipe, _ in asked}
    untold = {recipe: _training(tellers[recipe], own) for recipe, own in shared.items() if not (own / SAID).exists()}
    _train_all(prepare, "tells of clips", untold, corpus, say, at_once)
    for recipe, said in asked:
        said.parent.mkdir(parents=True, exist_ok=True)
        with replacing(said) as temporary:
            shutil.copyfile(shared[recipe] / SAID, temporary)


def _training(config: Config, folder: Path) -> Training:
    return Training(config, folder, resume=(folder / "config.json").is_file())


def _train_all(
    train: Callable, does: str, trainings: Mapping[str, Training], corpus: Corpus, say: Callable, at_once: int | None
) -> None:
    """Call `train(config, corpus, folder, resume)`, which `does` something, for each, so many `at_once`."""
    at_once = min(at_once or default_at_once(), len(trainings)) if len(trainings) > 1 else 1
    for name, training in trainings.items():
        say(f"{name}: {does} in {training.folder}{', beside the others' if at_once > 1 else ''}")
        if at_once == 1:
            train(training.config, corpus, training.folder, training.resume, lambda line: say(f"  {line}"))
            keras.backend.clear_session()  # One network after another would fill the memory.
    if at_once > 1:
        train_side_by_side(train, trainings, corpus, at_once, say)


def copy_member(run: Path, target: Path) -> None:
    """Copy what an ensemble needs of a run, in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.mkdir()
        for name in MEMBER_FILES:
            if (run / name).is_dir():
                shutil.copytree(run / name, temporary / name)
            elif (run / name).is_file():
                shutil.copyfile(run / name, temporary / name)


def _is_run(branch: str) -> bool:
    """Say whether a branch is named by its run's folder; else by its recipe. Raises UsageError when it is neither."""
    if not (Path(branch) / "metrics.json").is_file() and branch not in recipes.RECIPES:
        raise UsageError(f"model.branches: {branch} is no run that has ended, and no recipe")
    return (Path(branch) / "metrics.json").is_file()


def _config_of(branch: str, config: Config) -> AnyConfig:
    return read_config(Path(branch) / "config.json") if _is_run(branch) else _as_member(branch, config)


def _as_member(recipe: str, config: Config) -> Config:
    member = replace(recipes.RECIPES[recipe].config, experiment=config.experiment)
    if member.hears_pretrained and config.model.pretrained:
        member = replace(member, model=replace(member.model, pretrained=config.model.pretrained))
    return member


def _is_of(folder: Path, config: Config, corpus: Corpus) -> bool:
    """Say whether a run with these settings, on this split of this corpus, has ended in a folder."""
    if not (folder / "metrics.json").is_file() or not (folder / "model.keras").is_file():
        return False
    metrics, settings = runs.read_metrics(folder), runs.read_json(folder / "config.json")
    same = (
        metrics.get("split_sha256") == corpus_digest(corpus, config.experiment)
        and metrics["seed"] == config.experiment.seed
    )
    return same and not differing_settings(settings, config)
