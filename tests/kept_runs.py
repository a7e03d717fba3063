"""Runs under results/ with known figures, and the pages that are written from them."""

from dataclasses import dataclass, replace

import numpy as np

from emokeras import runs
from emokeras.config import override, to_json
from emokeras.data.splits import PROTOCOLS
from emokeras.files import write_text
from emokeras.recipes import RECIPES
from emokeras.reporting import metrics
from emokeras.results import pages

EMOTIONS = ("neutral", "calm", "happy", "sad")
FLOAT32 = np.float32


@dataclass(frozen=True)
class Clip:
    name: str
    speaker: str
    emotion: str
    content: str = ""


def predictions(num_clips, num_correct):
    """Labels in turn; the first `num_correct` clips get their own emotion, the others the next one."""
    labels = np.arange(num_clips) % len(EMOTIONS)
    predicted = np.where(np.arange(num_clips) < num_correct, labels, (labels + 1) % len(EMOTIONS))
    probabilities = np.full([num_clips, len(EMOTIONS)], 0.1, dtype=FLOAT32)
    probabilities[np.arange(num_clips), predicted] = 0.7
    return labels, probabilities


def keep_run(results, num_correct, protocol="random", recipe="mel-resnet", corpus="ravdess", num_clips=40, **changes):
    """Put a run under results/ as training does: `changes` are fold, seed, split_seed, num_folds, or settings by dotted
    path."""
    cpu_seconds = changes.pop("cpu_seconds", {"train_cpu_seconds": 1110.0})
    folds = {"num_folds": changes.pop("num_folds")} if "num_folds" in changes else {}
    numbers = {key: changes.pop(key, 0) for key in ("fold", "seed", "split_seed")}
    folder = results.parent / "run"
    folder.mkdir(exist_ok=True)
    values = {f"experiment.{key}": value for key, value in numbers.items()}
    config = replace(RECIPES[recipe if recipe.startswith("text-") else "mel-resnet"].config, recipe=recipe)
    config = override(config, values | {"experiment.protocol": protocol} | changes)
    write_text(folder / "config.json", to_json(config))
    scores = {}
    for subset, file in (("test", "predictions.csv"), ("validation", "validation_predictions.csv")):
        labels, probabilities = predictions(num_clips, num_correct)
        first = numbers["fold"] * num_clips
        speakers = [f"fold-{numbers['fold']}-speaker-{index // 4 % 5}" for index in range(num_clips)]
        clips = [
            Clip(f"{subset}-{first + index}", speakers[index], EMOTIONS[label]) for index, label in enumerate(labels)
        ]
        runs.write_predictions(folder / file, clips, EMOTIONS, probabilities)
        whole_speakers = PROTOCOLS[protocol].whole_speakers
        scores[subset] = metrics.score(labels, probabilities, EMOTIONS, speakers, whole_speakers=whole_speakers)
    counts = {"num_train": 99, "num_validation": num_clips, "num_test": num_clips}
    trained = {"epochs_run": 5, "best_epoch": 4, "num_parameters": 1234567, "train_seconds": 630.0} | cpu_seconds
    runs.write_json(
        folder / "metrics.json",
        {"recipe": recipe, "corpus": corpus, "protocol": protocol, **numbers, **counts, **folds}
        | {"emotions": list(EMOTIONS), **scores, **trained},
    )
    return runs.keep_results(folder, results)


def keep_row(
    results, num_correct, condition="clean", test_corpus="emovo", recipe="mel-resnet", num_clips=40, **changes
):
    """Put a row of another corpus, which lacks "calm" and has the common four, or of a condition under results/."""
    num_clips, numbers = 40, {key: changes.pop(key, 0) for key in ("fold", "seed", "split_seed")}
    emotions = ("neutral", "calm", "happy", "sad", "angry")
    corpus_emotions = tuple(name for name in emotions if name != "calm")
    labels = np.array([emotions.index(corpus_emotions[index % 4]) for index in range(num_clips)])
    predicted = np.where(np.arange(num_clips) < num_correct, labels, 1)  # The others get "calm", and then their own.
    probabilities = np.full([num_clips, len(emotions)], 0.1, dtype=FLOAT32)
    probabilities[np.arange(num_clips), labels] = 0.2
    probabilities[np.arange(num_clips), predicted] += FLOAT32(0.4)
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).round(4)
    clips = [Clip(f"clip-{index}", f"speaker-{index % 5}", emotions[label]) for index, label in enumerate(labels)]
    test = metrics.score(labels, probabilities, emotions, [clip.speaker for clip in clips])
    for key in ("among_corpus_emotions", "among_common_emotions"):
        test[key] = metrics.score(*metrics.among(labels, probabilities, emotions, corpus_emotions)[1:], corpus_emotions)
    row = {"recipe": recipe, "corpus": "ravdess", "protocol": changes.pop("protocol", "luna")} | numbers
    row |= {"test_corpus": test_corpus, "subset": "test", "condition": condition, "num_test": num_clips}
    row |= {"emotions": list(emotions), "corpus_emotions": list(corpus_emotions), "test": test} | changes
    return runs.keep_condition(row, clips, emotions, probabilities, results)


def written(results, protocol=""):
    """Write the pages; return the text of RESULTS.md, or of a protocol's page."""
    path = results.parent / "RESULTS.md"
    pages.write_results(results, path)
    return (results / f"{protocol}.md" if protocol else path).read_text(encoding="utf-8")


def cells_of(text, recipe):
    """The cells of a recipe's row by the names of the columns."""
    lines = text.splitlines()
    row = next(index for index, line in enumerate(lines) if line.startswith(f"| `{recipe}`"))
    header = max(index for index, line in enumerate(lines[:row]) if line.startswith("| recipe"))
    split = [[cell.strip() for cell in lines[index].strip("|").split(" | ")] for index in (header, row)]
    return dict(zip(*split, strict=True))
