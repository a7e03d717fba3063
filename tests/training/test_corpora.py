"""Trainings on two corpora by the command: what is trained on and tested, and that it is evaluated and continued."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
from broken import Broken, broken_after
from conftest import tiny_arguments

from emokeras import evaluate, runs, train
from emokeras.config import EnsembleConfig, ensemble_of, read_config, to_json, with_experiment
from emokeras.data.audio import load_waveform
from emokeras.data.corpora import join_corpora, load_corpus
from emokeras.data.demo import make_demo_corpus
from emokeras.data.splits import draw_split
from emokeras.data.variants import make_variants
from emokeras.files import home, write_csv, write_text
from emokeras.training.subsets import load_subsets

RATE = 16000
quick = pytest.mark.usefixtures("without_graphs", "without_pictures")
FIGURES = ("accuracy", "balanced_accuracy", "confusion_matrix", "per_emotion", "by_speaker", "by_sex")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return two corpora of three speakers: "a" has a clip of each of 8 emotions by each, "b" has none of "calm"."""
    root = tmp_path_factory.mktemp("corpora")
    for seed, name in enumerate("ab"):
        make_demo_corpus(root / name, num_speakers=3, takes=1, seed=seed)
    with (root / "b" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] != "calm"]
    write_csv(root / "b" / "manifest.csv", list(rows[0]), [list(row.values()) for row in rows])
    return [root / "a", root / "b"]


@pytest.fixture(scope="module")
def source(folders):
    return ",".join(map(str, folders))


@pytest.fixture(scope="module")
def joined(source):
    return load_corpus(source, RATE)


def arguments_of(source, folder, *more) -> list[str]:
    return ["mel-cnn3", "--corpus", source, "--run-dir", str(folder), *tiny_arguments(), "--epochs", "2", *more]


@pytest.fixture(scope="module")
def left_out(source, joined, tmp_path_factory):
    """Return a run that is tested on "a" and trained on "b", and whose figures are kept beside it."""
    root = tmp_path_factory.mktemp("left_out")
    caches = set((home() / "waveforms").iterdir())
    more = ["--protocol", "left-out", "--fold", "0", "--results", str(root / "results")]
    assert train.main(arguments_of(source, root / "run", *more)) == 0
    assert set((home() / "waveforms").iterdir()) == caches  # Both corpora had been decoded, each by itself.
    return root / "run"


def silent(line: str) -> None:
    pass


# A corpus that is left out


def test_no_clip_of_the_tested_corpus_is_trained_on(left_out):
    subsets = {}
    for row in runs.read_split(left_out):
        subsets.setdefault(row["subset"], []).append(row)
    counts = {subset: len(rows) for subset, rows in subsets.items()}
    assert counts == {"test": 21, "unused": 3, "train": 14, "validation": 7}
    assert {row["clip"][:2] for row in subsets["test"] + subsets["unused"]} == {"a/"}
    assert {row["emotion"] for row in subsets["unused"]} == {"calm"}
    assert {row["clip"][:2] for row in subsets["train"] + subsets["validation"]} == {"b/"}
    contents = {subset: {row["content"] for row in rows} for subset, rows in subsets.items()}
    assert not (contents["test"] | contents["unused"]) & (contents["train"] | contents["validation"])
    assert not {row["speaker"] for row in subsets["train"]} & {row["speaker"] for row in subsets["validation"]}


def test_the_metrics_of_a_corpus_that_is_left_out(left_out, joined, folders):
    metrics = runs.read_metrics(left_out)
    assert (metrics["corpus"], metrics["protocol"], metrics["fold"]) == ("a+b", "left-out", 0)
    assert metrics["num_folds"] == 2
    assert (metrics["num_train"], metrics["num_validation"], metrics["num_test"]) == (14, 7, 21)
    # The network has the emotions that it was trained on: the logit of another would be random.
    assert metrics["emotions"] == [emotion for emotion in joined.emotions if emotion != "calm"]
    assert metrics["test"]["by_speaker"].keys() == {"a/01", "a/02", "a/03"}
    assert read_config(left_out / "config.json").experiment.corpora == tuple(map(str, folders))
    kept = left_out.parent / "results" / "a+b" / "left-out" / "mel-cnn3" / "fold-0-seed-0"
    assert read_config(kept / "config.json").experiment.corpora == ("a", "b")


def test_evaluate_reproduces_the_figures_of_the_run_on_its_own_corpora(left_out, folders, tmp_path):
    own = runs.read_metrics(left_out)["test"]
    for corpus in (None, str(folders[0])):  # The tested corpus alone has the same clips.
        scores = evaluate.evaluate(left_out, corpus=corpus, say=silent)
        assert {name: scores[name] for name in FIGURES if name != "by_speaker"} == {
            name: own[name] for name in FIGURES if name != "by_speaker"
        }
        assert scores["cross_entropy"] == pytest.approx(own["cross_entropy"], abs=1e-5)
    assert evaluate.evaluate(left_out, say=silent)["by_speaker"] == own["by_speaker"]
    assert evaluate.main([str(left_out), "--results", str(tmp_path)]) == 0
    row = runs.read_metrics(tmp_path / "a+b" / "left-out" / "mel-cnn3" / "fold-0-seed-0" / "on" / "a+b" / "clean")
    assert (row["num_folds"], row["num_test"]) == (2, 21)


def test_the_corpora_that_trained_a_network_are_no_test_of_it(left_out, folders, capsys):
    assert evaluate.main([str(left_out), "--corpus", str(folders[1])]) == 1
    assert "21 clips of b were used to train or select the model" in capsys.readouterr().err


def test_the_clips_of_joined_corpora_keep_their_waveforms_variants_and_masks(left_out, joined, folders, tmp_path):
    """The corpora differ in "calm"; the split is by speaker, so that both train."""
    config = read_config(left_out / "config.json")
    experiment = {"protocol": "speaker", "fold": 0, "emotions": joined.emotions}
    config = with_experiment(config, **experiment)
    config = replace(config, augment=replace(config.augment, num_variants=1, equalization_decibels=6.0))
    subsets = load_subsets(config, joined, draw_split(joined, config.experiment), tmp_path, silent)
    caches = set((home() / "waveforms").iterdir())
    expected = {}
    for folder in folders:
        clips = load_corpus(folder).clips
        waveforms = [load_waveform(clip.path, RATE) for clip in clips]
        varied = make_variants(1, clips, waveforms, config.augment, RATE)
        expected |= {f"{folder.name}/{clip.name}": pair for clip, *pair in zip(clips, waveforms, varied, strict=True)}
    assert set((home() / "waveforms").iterdir()) == caches  # Those of variants are of each corpus too.
    calm = joined.emotions.index("calm")
    seen = set()
    for subset in subsets.values():
        for clip, waveform, (variant,), label, mask in zip(
            subset.clips, subset.waveforms, subset.variants, subset.labels, subset.masks, strict=True
        ):
            np.testing.assert_array_equal(waveform, expected[clip.name][0])
            np.testing.assert_array_equal(variant, expected[clip.name][1])
            assert joined.emotions[label] == clip.emotion
            assert np.flatnonzero(mask == 0).tolist() == ([calm] if clip.corpus == "b" else [])
            seen.add(clip.name)
    assert seen == {clip.name for clip in joined.clips}


def test_corpora_with_the_same_emotions_need_no_masks(left_out, folders, tmp_path):
    b = load_corpus(folders[1], RATE)
    other = join_corpora([b, load_corpus(shutil.copytree(folders[1], tmp_path / "c"))])
    config = with_experiment(read_config(left_out / "config.json"), protocol="speaker", emotions=other.emotions)
    subsets = load_subsets(config, other, draw_split(other, config.experiment), tmp_path, silent)
    assert {subset.masks for subset in subsets.values()} == {None}


# Emotions that count as others


@quick
def test_with_mapped_emotions_nothing_is_unused_and_evaluate_maps_too(source, tmp_path):
    more = ["--protocol", "left-out", "--fold", "0", "--map", "calm=neutral", "--results", str(tmp_path / "results")]
    assert train.main(arguments_of(source, tmp_path / "run", *more, "--epochs", "1")) == 0
    metrics = runs.read_metrics(tmp_path / "run")
    assert (metrics["corpus"], metrics["num_test"]) == ("a+b,calm=neutral", 24)
    assert metrics["test"]["per_emotion"]["neutral"]["support"] == 6
    assert "calm" not in metrics["emotions"]
    config = read_config(tmp_path / "run" / "config.json")
    assert config.experiment.emotion_map == ("calm=neutral",)
    assert config.experiment.emotions == tuple(metrics["emotions"])
    scores = evaluate.evaluate(tmp_path / "run", say=silent)
    assert {name: scores[name] for name in FIGURES} == {name: metrics["test"][name] for name in FIGURES}
    (kept,) = (tmp_path / "results").glob("*/left-out/mel-cnn3/fold-0-seed-0")
    assert kept.parents[2].name == "a+b-calm=neutral"
    experiment = read_config(kept / "config.json").experiment
    assert (experiment.corpora, experiment.emotion_map) == (("a", "b"), ("calm=neutral",))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--map", "calm"], 2, "--map calm: give two emotions, such as calm=neutral"),
        (["--map", "calm=neutral,boredom=bored"], 2, "--map boredom=bored: give two emotions"),
        (["--protocol", "left-out", "--fold", "2"], 2, "protocol 'left-out' has no fold 2: its folds are 0 to 1"),
        (["--protocol", "speaker-kfold", "--fold", "5"], 2, "no fold 5: its folds are 0 to 4"),
    ],
)
def test_what_does_not_fit_the_corpora_is_refused_in_one_line(source, tmp_path, arguments, status, message, capsys):
    assert train.main(arguments_of(source, tmp_path / "run", *arguments)) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_one_corpus_cannot_be_left_out_and_two_of_one_name_cannot_be_joined(folders, tmp_path, capsys):
    copy = shutil.copytree(folders[0], tmp_path / "copies" / "a")
    for source, message in (
        (str(folders[0]), "protocol 'left-out' needs two corpora or more, and 'a' is one"),
        (f"{folders[0]},{copy}", "two corpora are called a: rename the folder of one"),
    ):
        assert train.main(arguments_of(source, tmp_path / "run", "--protocol", "left-out")) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


# Continued runs and ensembles


@quick
def test_a_broken_run_on_corpora_that_differ_in_emotions_continues_as_unbroken(source, tmp_path, monkeypatch):
    """With mixup across the corpora. It continues where the first corpus has moved to."""
    more = ["--set", "augment.mixup_alpha=0.4", "--set", "augment.mixup_probability=1"]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert train.main(arguments_of(source, unbroken, *more)) == 0
    assert runs.read_metrics(unbroken)["num_folds"] == 1
    with monkeypatch.context() as patch:
        broken_after(1, patch)
        with pytest.raises(Broken):
            train.main(arguments_of(source, broken, *more))
    a, b = source.split(",")
    moved = f"{shutil.copytree(a, tmp_path / 'moved' / 'a')},{b}"
    assert train.main(["--resume", str(broken), "--corpus", moved]) == 0
    assert read_config(broken / "config.json").experiment.source == moved
    found, expected = (runs.read_history(folder / "history.csv") for folder in (broken, unbroken))
    for name in ("epoch", "loss", "accuracy", "val_loss"):
        assert [row[name] for row in found] == [row[name] for row in expected], name
    assert (broken / "predictions.csv").read_bytes() == (unbroken / "predictions.csv").read_bytes()
    assert runs.read_predictions(broken / "predictions.csv").emotions[1] == "calm"


@pytest.mark.slow
def test_the_members_of_an_ensemble_load_the_corpora_in_their_processes(left_out, source, tmp_path):
    network = read_config(left_out / "config.json")
    members = {"one": network, "two": with_experiment(network, seed=1)}
    write_text(tmp_path / "both.json", to_json(ensemble_of("both", members, "mean-logits")))
    arguments = ["--config", str(tmp_path / "both.json"), "--corpus", source, "--map", "calm=neutral"]
    arguments += ["--run-dir", str(tmp_path / "run"), "--epochs", "1", "--members-at-once", "2"]
    assert train.main(arguments) == 0
    metrics = runs.read_metrics(tmp_path / "run")
    assert (metrics["corpus"], metrics["num_folds"], metrics["num_test"]) == ("a+b,calm=neutral", 2, 24)
    assert isinstance(config := read_config(tmp_path / "run" / "config.json"), EnsembleConfig)
    for name in members:
        own = tmp_path / "run" / "members" / name
        assert runs.read_metrics(own)["split_sha256"] == metrics["split_sha256"]
        assert read_config(own / "config.json").experiment.source == config.experiment.source == source
    scores = evaluate.evaluate(tmp_path / "run", say=silent)
    assert scores["confusion_matrix"] == metrics["test"]["confusion_matrix"]
