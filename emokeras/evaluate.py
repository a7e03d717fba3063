"""Measure a run or an exported model on corpora, clean or under conditions; clips it was trained on are no test.

python -m emokeras.evaluate runs/mel-resnet/ravdess-random-split-0-seed-0 --corpus ~/ravdess
python -m emokeras.evaluate speech --corpus ~/emovo,~/nemo --conditions telephone,babble-10
"""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emokeras import commandline
from emokeras.errors import UsageError
from emokeras.runs import SHIPPED, find_model

DECIMALS = 4  # of the probabilities in rows under results/


def evaluate(
    model: Path, *, corpus: str | None = None, subset: str = "test", output: Path | None = None, say=print
) -> dict:
    """Score a model on one subset of its own corpus, or on all clips of another; return the metrics.

    Parameters and errors are those of `evaluate_conditions`, of which this is the clean one.
    """
    (scores,) = evaluate_conditions(model, corpora=[corpus], subset=subset, output=output, say=say).values()
    return scores["clean"]


def evaluate_conditions(
    model: Path,
    *,
    corpora: Sequence[str | None] = (None,),
    conditions: Sequence[str] = ("clean",),
    subset: str = "test",
    output: Path | None = None,
    results: Path | None = None,
    say=print,
) -> dict[str, dict[str, dict]]:
    """Score a model on corpora under conditions; return {corpus: {condition: metrics}}, with clean always first.

    Parameters
    ----------
    model: a run folder or an exported model.
    corpora: each as for `train`; None is the one the model was trained on. Clips are recognized by content, wherever
        the files are. Clips of emotions that the model does not have are left out with a warning.
    conditions: names of `data.conditions.CONDITIONS`, or "all". Babble is of neutral clips of the model's training
        speakers; where there are none on this machine it is left out with a line.
    subset: "train", "validation" or "test" of the model's own split; of a corpus that the model was not trained on see
        `training.evaluation.choose_clips`.
    output: a folder for metrics.json, predictions.csv and confusion_matrix.png, with a folder for each corpus where
        there are several. metrics.json has the metrics of conditions too, their predictions are in
        CONDITION/predictions.csv.
    results: the folder of rows (`runs.keep_condition`). Probabilities are rounded to 4 decimals before they are scored,
        so that rows are small and agree with their figures.
    say: called with each line to print.

    The metrics are those of `training.evaluation.ScoredClips.score`.

    Raises
    ------
    UsageError: there is no such condition, the model takes no audio, two corpora have one name, or `results` is asked
        for another subset than test.
    CorpusError: a corpus has clips that trained or validated the model and none of the subset, or none of an emotion
        that the model has.
    """
    conditions = check_conditions(conditions)
    if results and subset != "test":
        raise UsageError(f"--results keeps figures of the test subset only: use --output for --subset {subset}")
    commandline.import_tensorflow()
    from emokeras import runs
    from emokeras.data.conditions import BABBLE
    from emokeras.data.corpora import load_corpus, map_emotions
    from emokeras.recognizer import load_recognizer
    from emokeras.training.evaluation import ScoredClips, find_voices

    recognizer = load_recognizer(model)
    if len(conditions) > 1 and not recognizer.config.takes_audio:
        raise UsageError(f"{model} takes no audio: no condition changes what it takes")
    experiment = recognizer.config.experiment
    loaded = [load_corpus(source or experiment.source, recognizer.config.decode_rate_hz) for source in corpora]
    loaded = [replace(map_emotions(corpus, experiment.emotion_map), name=corpus.name) for corpus in loaded]
    names = [corpus.name for corpus in loaded]
    if len(set(names)) < len(names):
        raise UsageError(f"--corpus has two corpora of the name {max(names, key=names.count)}: evaluate one at a time")
    voices = []
    if set(BABBLE) & set(conditions):
        voices = find_voices(recognizer, loaded, say)
        conditions = [name for name in conditions if voices or name not in BABBLE]
    run = _run_keys(recognizer, Path(model)) if results else {}
    scores = {}
    for corpus in loaded:
        for note in corpus.notes:
            say(f"  {note}")
        test = ScoredClips(recognizer, corpus, subset, say)
        folder = output and (output / runs.file_name_of(corpus.name) if len(loaded) > 1 else output)
        scores[corpus.name] = {}
        for condition in conditions:
            metrics, probabilities = test.score(condition, voices, DECIMALS if results else None)
            scores[corpus.name][condition] = metrics
            if folder:
                own_folder = folder if condition == "clean" else folder / condition
                own_folder.mkdir(parents=True, exist_ok=True)
                runs.write_predictions(own_folder / "predictions.csv", test.clips, recognizer.emotions, probabilities)
            if results:
                row = run | {
                    "test_corpus": corpus.name,
                    "subset": subset,
                    "condition": condition,
                    "num_test": len(test.clips),
                    "emotions": list(recognizer.emotions),
                    "corpus_emotions": test.corpus_emotions,
                    "test": metrics,
                }
                runs.keep_condition(row, test.clips, recognizer.emotions, probabilities, results)
        if folder:
            title = f"{recognizer.config.recipe} on {corpus.name}"
            _write_metrics(folder, scores[corpus.name], recognizer.emotions, title)
    return scores


def check_conditions(names: Sequence[str]) -> list[str]:
    """Return the conditions of these names, clean first and each once; all of them for "all".

    Raises UsageError for a name that there is not.
    """
    from emokeras.data.conditions import CONDITIONS

    for name in names:
        if name not in (*CONDITIONS, "all"):
            near = difflib.get_close_matches(name, CONDITIONS, 1, 0.0)[0]
            raise UsageError(
                f"there is no condition '{name}'; did you mean '{near}'? There are all, {', '.join(CONDITIONS)}"
            )
    return list(dict.fromkeys(["clean", *(CONDITIONS if "all" in names else names)]))


def _run_keys(recognizer, model: Path) -> dict[str, Any]:
    """Return what a row says of the model: the keys that name its folder under results/."""
    from emokeras import runs

    config = recognizer.config
    # An export has the name of its corpus in its configuration, a run perhaps a path.
    metrics = runs.read_metrics(model) if (model / "metrics.json").is_file() else {}
    corpus = metrics["corpus"] if metrics else runs.corpus_name_of(config.experiment)
    keys = {key: getattr(config.experiment, key) for key in ("protocol", "fold", "seed", "split_seed")}
    keys |= {"num_folds": metrics["num_folds"]} if "num_folds" in metrics else {}
    return {"recipe": config.recipe, "corpus": corpus} | keys


def _write_metrics(folder: Path, scores: dict[str, dict], emotions: Sequence[str], title: str) -> None:
    from emokeras import runs
    from emokeras.reporting import plots

    clean, *others = scores
    conditions = {"conditions": {name: scores[name] for name in others}} if others else {}
    runs.write_json(folder / "metrics.json", scores[clean] | conditions)
    title = f"{title}: {scores[clean]['accuracy']:.1%}"
    plots.save(
        plots.confusion_matrix(scores[clean]["confusion_matrix"], emotions, title), folder / "confusion_matrix.png"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = commandline.make_parser("emokeras.evaluate", __doc__)
    parser.add_argument(
        "model",
        metavar="RUN|EXPORT|NAME",
        help=f"a run, an export, or {' or '.join(SHIPPED)}, which come with emokeras",
    )
    parser.add_argument(
        "--corpus",
        metavar="C[,C…]",
        help="ravdess, emodb, demo, or a folder, zip or manifest.csv; several with commas (default: its own)",
    )
    parser.add_argument("--subset", choices=("train", "validation", "test"), default="test")
    parser.add_argument(
        "--conditions", metavar="NAME[,NAME…]", help="all, or names of conditions, such as telephone,babble-10"
    )
    parser.add_argument("--output", type=Path, metavar="D", help="write metrics, predictions and confusion matrix to D")
    parser.add_argument("--results", type=Path, metavar="D", help="keep a row for each corpus and condition under D")
    return commandline.run_command(_work, parser.parse_args(argv))


def _work(arguments: argparse.Namespace) -> None:
    from emokeras.data.corpora import split_source
    from emokeras.reporting import screen

    scores = evaluate_conditions(
        find_model(arguments.model),
        corpora=split_source(arguments.corpus) if arguments.corpus else [None],
        conditions=[name.strip() for name in arguments.conditions.split(",")] if arguments.conditions else (),
        subset=arguments.subset,
        output=arguments.output,
        results=arguments.results,
    )
    for corpus, of_condition in scores.items():
        if arguments.conditions:
            screen.print_conditions(f"{arguments.model} on {corpus}, {arguments.subset}", of_condition)
        else:
            screen.print_metrics({arguments.subset: of_condition["clean"]}, arguments.subset)


if __name__ == "__main__":
    raise SystemExit(main())
