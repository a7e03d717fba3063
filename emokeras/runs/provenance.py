"""Where a run comes from: the clips that made it, and its configuration without paths of this machine."""

import functools
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emokeras.config import AnyConfig, Config, EnsembleConfig, override, read_config, to_json, upgrade, with_experiment
from emokeras.data.splits import SUBSETS, UNUSED
from emokeras.files import write_csv
from emokeras.runs.content import SPLIT_COLUMNS, read_json, read_metrics, read_split

EARLIER_FILE = "earlier_splits.csv"
EARLIER_FILES = (EARLIER_FILE, "heard_before.csv")  # the second is its name in earlier versions


def write_earlier_splits(folder: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write how clips were used by the models that a network started from: rows as of split.csv."""
    write_csv(Path(folder) / EARLIER_FILE, SPLIT_COLUMNS, [[row[key] for key in SPLIT_COLUMNS] for row in rows])


def read_earlier_splits(folders: Iterable[Path]) -> list[dict[str, str]]:
    """Read how clips were used before the own training of the networks in these folders, if at all. Of a clip that one
    network trained on and another did not, the row with "train" comes last."""
    rows = [
        row
        for folder in folders
        for file in EARLIER_FILES
        if (Path(folder) / file).is_file()
        for row in read_split(folder, file)
    ]
    return sorted(rows, key=lambda row: (*SUBSETS, UNUSED).index(row["subset"]), reverse=True)


def clips_used(folder: Path) -> list[dict[str, str]]:
    """Read how clips were used to make a run or an export: rows as of split.csv.

    Its own rows come after those of what it started from, so that the last row of a clip is the valid one; but a clip
    that it did not use itself counts as what it started from used it. Validation clips that it was refitted on count as
    training clips.
    """
    own = read_split(folder)
    if was_refit(folder):
        own = [row | {"subset": "train"} if row["subset"] == "validation" else row for row in own]
    earlier = read_earlier_splits([folder, *sorted(Path(folder).glob("members/*"))])
    return [
        *(row for row in own if row["subset"] == UNUSED),
        *earlier,
        *(row for row in own if row["subset"] != UNUSED),
    ]


def was_refit(folder: Path) -> bool:
    """Return whether the network of a run or an export, or one of its members, was trained on its validation clips."""
    networks = read_config(Path(folder) / "config.json").networks
    return any(network.training.refit_epochs for network in networks.values())


def shareable_config(run_folder: Path) -> AnyConfig:
    """Return a run's configuration with names in place of paths, for the corpus and for what the network started from.
    The path of a speech encoder stays where an export is not served without it."""
    config = read_config(Path(run_folder) / "config.json")
    if isinstance(config, EnsembleConfig):
        members = {name: _without_paths(member) for name, member in config.members.items()}
        config = replace(config, members=members)
    else:
        config = _without_paths(config)
    corpora, emotion_map = config.experiment.corpora, config.experiment.emotion_map
    name = read_metrics(run_folder)["corpus"].removesuffix("".join(f",{pair}" for pair in emotion_map))
    return with_experiment(config, corpora=name.split("+") if len(corpora) > 1 else [name])


def shareable_json(run_folder: Path, license: str = "") -> str:
    """Return `shareable_config` as JSON, with the settings of an earlier version that the run used and this version has
    removed, so that tables can name them, and the license of the weights, if one is given."""
    _, removed = upgrade(read_json(Path(run_folder) / "config.json"))
    config = shareable_config(run_folder)
    return json_with_removed(override(config, {"model.license": license}) if license else config, removed)


def json_with_removed(config: AnyConfig, removed: Mapping[str, Any]) -> str:
    """Return a configuration as JSON with settings of an earlier version, {dotted path: value}, in their places."""
    text = to_json(config)
    if not removed:
        return text
    tree = json.loads(text)
    for path, value in removed.items():
        *sections, key = path.split(".")
        functools.reduce(operator.getitem, sections, tree)[key] = value
    return json.dumps(tree, indent=2) + "\n"


def _without_paths(config: Config) -> Config:
    model = config.model
    changes = {name: shareable_name(getattr(model, name)) for name in ("weights", "start_from")}
    if config.speech.family == "whisper":
        changes["pretrained"] = shareable_name(model.pretrained)
    branches = tuple(map(shareable_name, model.branches))
    return replace(config, model=replace(model, branches=branches, **changes))


def shareable_name(path: str) -> str:
    """Return a name that identifies a run, file or folder on any machine: of a run its recipe, of a version of a model
    its name and number, else the last part of the path. What is no path, such as a recipe's name, stays."""
    if not path or not (Path(path).exists() or Path(path).is_absolute()):
        return path
    if (Path(path) / "config.json").is_file() and (Path(path) / "split.csv").is_file():
        return read_config(Path(path) / "config.json").recipe
    *_, parent, name = ("", *Path(path).parts)
    return f"{parent}/{name}" if name.isdigit() else name
