import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kept_runs import cells_of, keep_run, written

from emokeras import runs
from emokeras.config import from_json, override, to_json
from emokeras.errors import RunError
from emokeras.recipes import RECIPES, configure
from emokeras.reporting import metrics
from emokeras.results import pages, rows


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def test_a_single_run(results):
    keep_run(results, num_correct=32)
    text = written(results)
    cells = cells_of(text, "mel-resnet")
    assert cells["runs"] == "1 seed"
    assert cells["test clips"] == "40"
    assert cells["WA %"] == cells["UA %"] == "80.0"
    assert cells["P %"] == cells["R %"] == cells["F1 %"] == "80.0"
    low, high = metrics.accuracy_interval(np.arange(40) < 32)
    assert cells["pooled WA % [95 %]"] == f"80.0 [{100 * low:.1f}, {100 * high:.1f}]"
    assert cells["parameters"] == "1,234,567"
    assert cells["minutes"] == "10.5"
    assert cells["CPU-minutes"] == "18.5"
    assert cells["report"] == RECIPES["mel-resnet"].reported
    assert f"- `mel-resnet`: {RECIPES['mel-resnet'].source}" in text
    assert "\npython -m emokeras.train mel-resnet --corpus ravdess --protocol random --seed 0\n" in text
    assert "## ravdess" in text
    assert "### random\n\nProtocol: stratified by emotion" in text


def test_folds_and_seeds_are_averaged_and_pooled(results):
    correct = {(fold, seed): 20 + 2 * fold + seed for fold in range(5) for seed in (0, 1)}
    for (fold, seed), count in correct.items():
        keep_run(results, count, "luna", fold=fold, seed=seed)
    text = written(results)
    cells = cells_of(text, "mel-resnet")
    shares = np.array(list(correct.values())) / 40
    assert cells["runs"] == "5 folds × 2 seeds"
    assert cells["test clips"] == "200"
    assert cells["WA %"] == f"{100 * shares.mean():.1f} ± {100 * shares.std(ddof=1):.1f}"
    pooled = np.concatenate([np.arange(40) < count for count in correct.values()])
    clips = [f"{fold}-{index}" for fold, _ in correct for index in range(40)]
    low, high = metrics.accuracy_interval(pooled, clips)
    assert cells["pooled WA % [95 %]"] == f"{100 * shares.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert "--protocol luna --fold 4 --seed 1\n" in text


def test_lacking_folds_are_told(results):
    for fold, seed in ((0, 0), (1, 0), (1, 1)):
        keep_run(results, 30, "luna", fold=fold, seed=seed)
    keep_run(results, 30, "luna", recipe="other", fold=3)
    text = written(results)
    assert cells_of(text, "mel-resnet")["runs"] == "3 runs of 2 of 5 folds × 2 seeds"
    assert cells_of(text, "other")["runs"] == "1 of 5 folds × 1 seed"


def test_splits_are_told_from_seeds(results):
    for split in (0, 1, 2):
        keep_run(results, 30, split_seed=split)
    assert cells_of(written(results), "mel-resnet")["runs"] == "3 splits"
    keep_run(results, 30, seed=1)
    text = written(results)
    assert cells_of(text, "mel-resnet")["runs"] == "4 runs of 3 splits"
    assert "--seed 0 --split-seed 2\n" in text


def test_minutes_are_averaged_and_not_made_up(results):
    keep_run(results, 30, seed=0)
    keep_run(results, 30, seed=1, cpu_seconds={"train_cpu_seconds": 1230.0})
    keep_run(results, 30, recipe="older", seed=0)
    keep_run(results, 30, recipe="older", seed=1, cpu_seconds={})  # trained before anyone counted
    text = written(results)
    assert cells_of(text, "mel-resnet")["CPU-minutes"] == "19.5"
    assert cells_of(text, "older")["CPU-minutes"] == "–"
    assert cells_of(text, "older")["minutes"] == "10.5"


def test_published_figures_stand_under_their_own_protocol_alone(results):
    for protocol in ("random", "luna"):
        keep_run(results, 30, protocol)
        keep_run(results, 30, protocol, corpus="demo")
    ravdess, demo = written(results).split("\n## demo")
    random, luna = ravdess.split("\n### luna")
    assert "| ResLSTM-SA, 10 seeds | UA 62.3 ± 1.2 |" in luna
    assert "ResLSTM" not in random
    assert "student reports | 80 |" in random
    assert "Published" not in demo


FETCHED = {
    "mel-resnet-imagenet": "`imagenet` (`--set model.weights=FILE|DIR`)",
    "text-bert": "`google-bert/bert-base-uncased` (`--set model.weights=FILE|DIR`)",
    "speech-tcn": "`facebook/hubert-base-ls960` (`--set model.pretrained=NAME|DIR`)",
}


def test_recipes_without_a_row_are_named_with_the_reason(results):
    keep_run(results, 30)
    keep_run(results, 30, "luna")
    keep_run(results, 30, corpus="demo")
    text = written(results)
    assert text.count("Recipes without a row:") == 1  # what the seeds measured: RAVDESS, protocol random
    section = text[text.index("### random") : text.index("### luna")]
    lines = section[section.index("Recipes without a row:") :].splitlines()
    for name in RECIPES:
        own = [line for line in lines if f"`{name}`" in line]
        assert len(own) == (name != "mel-resnet"), name
        if own and name in FETCHED:
            needs = f"needs the weights of {FETCHED[name]}"
            assert own[0].startswith(f"- `{name}`: not measured: {needs}, which could not be fetched")
        elif own:
            assert own[0].startswith("- not measured yet: `")


def test_what_a_text_only_recipe_can_show_on_ravdess_is_said(results):
    keep_run(results, 30)
    assert "two fixed sentences" not in written(results)
    keep_run(results, 5, recipe="text-lstm")
    keep_run(results, 6, recipe="text-gru")
    keep_run(results, 6, recipe="text-gru", corpus="demo")
    text = written(results)
    sentence = next(line for line in text.splitlines() if "two fixed sentences" in line)
    assert "chance (about 13 %)" in sentence
    assert sentence.endswith("as `text-gru`, `text-lstm` here.")
    assert text.index("| `text-lstm`") < text.index(sentence) < text.index("```bash")
    assert text.count("two fixed sentences") == 1  # nothing is said of the demo corpus


def test_the_order_of_corpora_protocols_and_recipes(results):
    keep_run(results, 40, "speaker", corpus="demo")
    keep_run(results, 20, "luna")
    keep_run(results, 30, "random", recipe="mel-cnn3")
    keep_run(results, 35, "random", recipe="unheard-of")
    keep_run(results, 35, "random", recipe="mel-resnet")
    text = written(results)
    headings = [line for line in text.splitlines() if line.startswith(("## ", "### "))]
    sources = "## The recipes and their sources"
    assert headings == ["## ravdess", "### random", "### luna", "## demo", "### speaker", sources]
    random = text[text.index("### random") : text.index("### luna")]
    rows = [line.split("`")[1] for line in random.splitlines() if line.startswith("| `")]
    assert rows == ["mel-resnet", "unheard-of", "mel-cnn3"]
    assert cells_of(text, "unheard-of")["report"] == "–"
    demo = text[text.index("## demo") :]
    assert "report" not in cells_of(demo, "mel-resnet")  # the seeds measured on RAVDESS


def test_the_text_is_the_same_each_time(results):
    keep_run(results, 30, seed=1)
    keep_run(results, 33, seed=0)
    assert written(results) == written(results)


def test_the_command_names_what_is_not_the_recipes(results):
    changes = {"training.epochs": 3, "encoder.filters": [8, 8, 8], "experiment.corpus": "/a/folder"}
    keep_run(results, 30, split_seed=2, **changes)
    command = (
        "python -m emokeras.train mel-resnet --corpus ravdess --protocol random --seed 0 --split-seed 2 "
        "--set 'encoders.spectrogram.filters=[8, 8, 8]' --set training.epochs=3"
    )
    assert command in written(results).splitlines()
    values = {"encoders.spectrogram.filters": "[8, 8, 8]", "training.epochs": "3"}  # `--set` reads them so
    again = override(RECIPES["mel-resnet"].config, values)
    kept = from_json((results / "ravdess/random/mel-resnet/split-2-seed-0/config.json").read_text())
    assert replace(again, experiment=kept.experiment) == kept


@pytest.mark.parametrize("recipe", ["flagship", "mel-resnet"])
def test_one_more_branch_of_a_speech_model_is_asked_for_by_its_name(recipe):
    config = configure(RECIPES[recipe].config, {"model.pretrained": "facebook/hubert-base-ls960"})
    figures = {"recipe": recipe, "corpus": "ravdess", "protocol": "random", "seed": 0, "split_seed": 0}
    run = rows.Run(Path("x"), figures, json.loads(to_json(config)), {}, [], np.zeros(0), np.zeros(0))
    (command,) = pages.commands([run])
    assert command == (
        f"python -m emokeras.train {recipe} --corpus ravdess --protocol random --seed 0 "
        "--set model.pretrained=facebook/hubert-base-ls960"
    )


def test_runs_of_one_row_share_their_settings(results):
    keep_run(results, 30, seed=0, **{"training.epochs": 120})
    keep_run(results, 30, seed=1, **{"training.epochs": 3})
    with pytest.raises(RunError, match=r"split-0-seed-1: training.epochs is 3, in split-0-seed-0 beside it 120"):
        written(results)


def test_a_setting_that_an_older_run_lacks_counts_as_its_default(results):
    folder = keep_run(results, 30, seed=0)
    tree = json.loads((folder / "config.json").read_text())
    del tree["augment"]["style_mixing_probability"]
    (folder / "config.json").write_text(json.dumps(tree))
    keep_run(results, 30, seed=1)
    written(results)
    keep_run(results, 30, seed=2, **{"augment.style_mixing_probability": 0.5})
    with pytest.raises(RunError, match=r"split-0-seed-2: augment.style_mixing_probability is 0.5, .* beside it 0"):
        written(results)


@pytest.mark.parametrize("name", runs.RESULT_FILES)
def test_a_run_that_lacks_a_file_is_named(results, name):
    folder = keep_run(results, 30)
    (folder / name).unlink()
    with pytest.raises(RunError, match=f"split-0-seed-0 lacks {name}"):
        written(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["test"].update(accuracy=0.95), r"accuracy of test is 0.95 .* but 0.75 by predictions.csv"),
        (lambda value: value["test"].update(f1_weighted=0.7501), "f1_weighted of test is 0.7501"),
        (lambda value: value["test"].update(accuracy="75 %"), "accuracy of test is 75 %"),
        (lambda value: value["validation"].update(accuracy=0.95), r"but 0.75 by validation_predictions.csv"),
        (lambda value: value["test"]["confusion_matrix"][0].reverse(), "confusion_matrix of test"),
        (lambda value: value.update(num_test=41), "num_test of test is 41"),
        (lambda value: value["emotions"].reverse(), "emotions of test"),
        (lambda value: value["test"].pop("balanced_accuracy"), r"does not hold the figures of test.*balanced_accuracy"),
        (lambda value: value.update(test=None), "does not hold the figures of test"),
        (lambda value: value.update(seed=4), "belongs in .*split-0-seed-4"),
        (lambda value: value.pop("corpus"), "lacks 'corpus'"),
    ],
)
def test_figures_written_by_hand_are_refused(results, change, message):
    folder = keep_run(results, 30)
    value = runs.read_metrics(folder)
    change(value)
    runs.write_json(folder / "metrics.json", value)
    with pytest.raises(RunError, match=message) as caught:
        written(results)
    assert "\n" not in str(caught.value)
    assert not (results.parent / "RESULTS.md").exists()


def test_files_of_two_runs_are_refused(results):
    folder = keep_run(results, 30, seed=0)
    other = keep_run(results, 30, seed=1)
    shutil.copy(other / "config.json", folder)
    with pytest.raises(RunError, match=r"seed is 0 in metrics.json, 1 in config.json"):
        written(results)


def test_a_clip_named_twice_is_refused(results):
    folder = keep_run(results, 30)
    path = folder / "predictions.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(RunError, match="names a clip twice"):
        written(results)


def test_no_run_at_all(results):
    with pytest.raises(RunError, match="holds no run: train with --results"):
        written(results)


def test_the_command_line(results, capsys):
    keep_run(results, 30)
    output = results.parent / "R.md"
    assert pages.main(["--results", str(results), "--output", str(output)]) == 0
    assert output.read_text().startswith("<!-- Written by")
    shutil.rmtree(results)
    assert pages.main(["--results", str(results), "--output", str(output)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_what_is_no_recipe_stands_beside_its_recipe_on_the_same_folds_and_seeds(results):
    for fold in range(5):
        keep_run(results, 20, "luna", fold=fold)
    for seed, (default, found) in enumerate([(24, 30), (26, 32)], start=1):
        keep_run(results, default, "luna", seed=seed)
        keep_run(results, found, "luna", recipe="mel-resnet-tuned", seed=seed, **{"encoder.dropout": 0.4})
        keep_run(results, 22, "luna", recipe="mel-resnet-tuned-earlier", seed=seed, **{"encoder.dropout": 0.6})
    section = written(results)
    section = section[section.index("#### Other settings") : section.index("```bash")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "| `" in line]
    names = ["`mel-resnet`", "`mel-resnet-tuned`", "`mel-resnet-tuned-earlier`"]
    changes = ["", "encoders.spectrogram.dropout 0.4", "encoders.spectrogram.dropout 0.6"]
    assert [row[:4] for row in rows] == [[*pair, "fold 0", "1, 2"] for pair in zip(names, changes, strict=True)]
    assert rows[0][4] == rows[0][6] == "62.5 ± 3.5"  # 24 and 26 of 40, on validation and on test
    assert rows[1][4] == rows[1][6] == "77.5 ± 3.5"
    assert rows[2][4] == rows[2][6] == "55.0 ± 0.0"


def test_a_fold_that_was_run_more_often_does_not_weigh_more(results):
    for fold in range(5):
        keep_run(results, 20, "luna", fold=fold)
    keep_run(results, 40, "luna", fold=0, seed=1)
    line = next(line for line in written(results).splitlines() if line.startswith("| `mel-resnet`"))
    assert "5 folds × 1 seed" in line
    assert "50.0 ± 0.0" in line


def test_what_is_no_recipe_is_trained_from_its_configuration(results):
    keep_run(results, 20, "luna", recipe="mel-resnet-tuned", fold=3)
    (command,) = [line for line in written(results).splitlines() if line.startswith("python -m emokeras.train")]
    words = shlex.split(command)
    path = Path(words[words.index("--config") + 1])
    assert path.name == "config.json"
    assert path.parent.name == "fold-3-seed-0"
    assert from_json(path.read_text()).recipe == "mel-resnet-tuned"
    assert words[words.index("--fold") + 1] == "3"
