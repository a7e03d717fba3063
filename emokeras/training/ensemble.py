"""Combine trained runs into one ensemble: fit the combination on validation, write predictions and metrics."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from emokeras import runs
from emokeras.config import EnsembleConfig
from emokeras.data.corpora import Clip
from emokeras.errors import RunError
from emokeras.files import write_text
from emokeras.models.late import Combination, combine, fit_combination
from emokeras.reporting.metrics import cross_entropy
from emokeras.runs import PREDICTION_FILES
from emokeras.runs.differences import removed_settings
from emokeras.training.outcome import write_outcome

SAME_IN_ALL = ("corpus", "protocol", "fold", "split_seed", "emotions", "split_sha256")


def fuse_runs(
    config: EnsembleConfig,
    members: Mapping[str, Path],
    folder: Path,
    clips: Sequence[Clip] = (),
    say: Callable = print,
) -> dict:
    """Make an ensemble's run from runs that have ended; return the metrics.

    Parameters
    ----------
    members: for each member of the configuration its run folder, or its row under results/.
    folder: the ensemble's run folder, which exists.
    clips: of the corpus, for sex and intensity, which predictions lack; without them there are no figures by these.

    Raises
    ------
    RunError: the members were not trained, validated and tested on the same clips.
    """
    metrics = agreeing_metrics(members)
    answers = {subset: runs.read_stacked(members.values(), file) for subset, file in PREDICTION_FILES.items()}
    labels, probabilities = answers["validation"].labels, answers["validation"].probabilities
    combination = fit_combination(config.method, probabilities, labels, config.weights)
    first = next(iter(metrics.values()))
    of_name = {clip.name: clip for clip in clips}
    subset_clips = {
        subset: [
            of_name.get(name) or Clip(name, Path(), first["emotions"][label], speaker)
            for name, speaker, label in zip(answer.clips, answer.speakers, answer.labels, strict=True)
        ]
        for subset, answer in answers.items()
    }
    combined = {subset: combine(answer.probabilities, combination) for subset, answer in answers.items()}

    # config.json and split.csv again: for `emokeras.ensemble` nobody has written them before.
    removed = {
        f"members.{name}.{path}": value
        for name, member in members.items()
        for path, value in removed_settings(runs.read_json(member / "config.json")).items()
    }
    write_text(folder / "config.json", runs.json_with_removed(config, removed))
    runs.write_json(folder / "ensemble.json", asdict(combination))
    with_split = [member / "split.csv" for member in members.values() if (member / "split.csv").is_file()]
    if with_split:
        shutil.copyfile(with_split[0], folder / "split.csv")
    losses = _validation_losses(probabilities, labels, list(members), combination)
    say(_summary(list(members), combination, losses))
    summed = ("epochs_run", "num_parameters", "train_seconds", "train_cpu_seconds")
    training = {
        "num_train": first["num_train"],
        "split_sha256": first["split_sha256"],
        **{key: first[key] for key in ("num_folds",) if key in first},  # Earlier rows have none.
        "best_epoch": None,  # Each member has its own.
        **{key: _sum([one.get(key) for one in metrics.values()]) for key in summed},
        "ensemble": {
            "method": config.method,
            "weights": dict(zip(members, combination.weights, strict=False)),
            "validation_cross_entropy": losses,
        },
    }
    transcripts = [one["transcripts"] for one in metrics.values() if "transcripts" in one]
    if transcripts:
        training["transcripts"] = transcripts[0]
    return write_outcome(config, first["corpus"], subset_clips, combined, training, folder)


def agreeing_metrics(members: Mapping[str, Path]) -> dict[str, dict]:
    """Return the metrics of these runs. Raises RunError unless they were trained, validated and tested on the same
    clips."""
    metrics = {name: runs.read_metrics(member) for name, member in members.items()}
    for name, of_member in metrics.items():
        if "validation" not in of_member:
            raise RunError(f"{members[name]} was trained on all clips: it has no validation clips to fuse it by")
    (first_name, first), *others = metrics.items()
    for key in SAME_IN_ALL:
        if key not in first:
            raise RunError(f"{members[first_name]} has no {key} in its metrics: train it again")
        for name, other in others:
            if other.get(key) != first[key]:
                what = "split, clip by clip" if key == "split_sha256" else key
                values = "" if key in ("split_sha256", "emotions") else f": {first[key]} and {other.get(key)}"
                raise RunError(
                    f"{members[first_name]} and {members[name]} differ in their {what}{values}; only runs of the same "
                    "split can be fused, else one was trained on the other's test clips"
                )
    return metrics


def _validation_losses(probabilities, labels, names: Sequence[str], combination: Combination) -> dict[str, float]:
    """Return the cross-entropy on validation of each member, of the plain mean of their logits, and of the ensemble."""
    losses = {name: cross_entropy(labels, own) for name, own in zip(names, probabilities, strict=True)}
    losses["mean of the logits"] = cross_entropy(labels, combine(probabilities, Combination("mean-logits")))
    return losses | {combination.method: cross_entropy(labels, combine(probabilities, combination))}


def _summary(names: Sequence[str], combination: Combination, losses: Mapping[str, float]) -> str:
    weights = " · ".join(
        f"{name} {weight:.2f}" for name, weight in zip(names, combination.weights, strict=False)
    ) or ", ".join(names)
    own, mean = losses[combination.method], losses["mean of the logits"]
    against = "" if combination.method == "mean-logits" else f" (the plain mean of the logits: {mean:.4f})"
    return f"{combination.method}: {weights}; cross-entropy on validation {own:.4f}{against}"


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else round(sum(values), 1)
