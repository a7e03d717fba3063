"""`evaluate` on several corpora and under conditions: the clips that are scored, babble, rows, clips without answer."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from emokeras import evaluate, runs
from emokeras.data.audio import load_waveform, load_waveforms
from emokeras.data.conditions import CONDITIONS, apply_condition, make_voices
from emokeras.data.corpora import Clip, Corpus, load_corpus
from emokeras.errors import CorpusError, RunError
from emokeras.recognizer import load_recognizer
from emokeras.reporting import metrics
from emokeras.results.generalization import read_conditions
from emokeras.training.evaluation import ScoredClips, choose_clips, find_voices

SOME = "telephone,babble-5,clipping"


@pytest.fixture(scope="module")
def model(trained_run):
    return load_recognizer(trained_run)


@pytest.fixture(scope="module")
def foreign_folder(tmp_path_factory):
    """Return a corpus "emovo": its two development speakers and another two, without "calm", noise in bursts."""
    folder = tmp_path_factory.mktemp("foreign") / "emovo"
    folder.mkdir()
    lines = ["path,emotion,speaker,sex"]
    for number, (speaker, sex) in enumerate({"f1": "female", "m1": "male", "f2": "female", "m2": "male"}.items()):
        for index, emotion in enumerate(("neutral", "happy", "sad", "angry", "boredom")):
            bursts = np.sin(np.linspace(0, (3 + index) * np.pi, 16000)) ** 2
            noise = np.random.default_rng([number, index]).normal(scale=0.1, size=16000)
            soundfile.write(folder / f"{speaker}-{emotion}.wav", noise * bursts, 16000)
            lines.append(f"{speaker}-{emotion}.wav,{emotion},{speaker},{sex}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_every_condition_of_every_corpus_is_in_one_table_and_one_row(
    trained_run, demo_folder, foreign_folder, tmp_path, capsys
):
    results, output = tmp_path / "results", tmp_path / "output"
    arguments = [str(trained_run), "--corpus", f"{demo_folder},{foreign_folder}", "--conditions", SOME]
    assert evaluate.main([*arguments, "--results", str(results), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "emovo: speakers f2, m2; f1, m1 are kept for choosing recipes" in printed
    assert "warning: 2 clips of 'boredom' are left out" in printed
    own, foreign = printed.split(" on emovo, test")
    for name in ("clean", *SOME.split(",")):
        for table, clips in ((own, "8"), (foreign, "8")):
            (line,) = (line.split() for line in table.splitlines() if line.startswith(f"{name} "))
            assert line[1] == clips
    assert "UA common" not in own
    assert "UA common" in foreign
    rows = read_conditions(results)
    assert {corpus: len(group) for corpus, group in rows.items()} == {demo_folder.name: 4, "emovo": 4}
    trained = runs.read_metrics(trained_run)
    for row in rows["emovo"]:
        assert {key: row.metrics[key] for key in ("recipe", "protocol", "fold", "seed", "subset")} == {
            "recipe": "mel-cnn3",
            "protocol": trained["protocol"],
            "fold": 0,
            "seed": 0,
            "subset": "test",
        }
        written = runs.read_metrics(output / "emovo")
        condition = row.metrics["condition"]
        same = written if condition == "clean" else written["conditions"][condition]
        assert row.metrics["test"].items() <= same.items()
        assert row.speakers == ["f2"] * 4 + ["m2"] * 4
        assert {*same["by_sex"]} == {"female", "male"}
    folder = output / "emovo" / "telephone"
    np.testing.assert_array_equal(
        runs.read_predictions(folder / "predictions.csv").probabilities,
        runs.read_predictions(
            runs.condition_folder(rows["emovo"][3].metrics, results, "") / "predictions.csv"
        ).probabilities,
    )


def test_answers_under_a_condition_are_those_for_the_changed_waveforms(model, demo_corpus, foreign_folder):
    corpus = load_corpus(foreign_folder)
    test = ScoredClips(model, corpus, "test", lambda line: None)
    assert [clip.speaker for clip in test.clips] == ["f2"] * 4 + ["m2"] * 4
    voices = find_voices(model, [demo_corpus], lambda line: None)
    clean, clean_probabilities = test.score()
    scores, probabilities = test.score("babble-5", voices, decimals=4)
    waveforms = [
        apply_condition("babble-5", load_waveform(clip.path, 16000), 16000, clip.content, voices) for clip in test.clips
    ]
    expected = model.predict(waveforms)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_array_equal(probabilities, probabilities.round(4))
    labels = [model.emotions.index(clip.emotion) for clip in test.clips]
    assert scores["accuracy"] == np.mean(expected.argmax(axis=1) == labels)
    assert scores["same_as_clean"] == np.mean(expected.argmax(axis=1) == clean_probabilities.argmax(axis=1))
    assert clean["same_as_clean"] == 1
    kept = [model.emotions.index(name) for name in ("neutral", "happy", "sad", "angry")]
    best = np.array(kept)[np.argmax(probabilities[:, kept], axis=1)]
    four = scores["among_common_emotions"]
    assert four["balanced_accuracy"] == metrics.balanced_accuracy(np.array(labels), best)
    assert {sex: own["support"] for sex, own in four["by_sex"].items()} == {"female": 4, "male": 4}
    assert scores["among_corpus_emotions"]["per_emotion"].keys() == {"neutral", "happy", "sad", "angry"}


def test_babble_is_of_neutral_clips_that_trained_the_model(model, trained_run, demo_corpus, tmp_path):
    voices = find_voices(model, [demo_corpus], lambda line: None)
    used = {row["clip"]: row for row in runs.read_split(trained_run)}
    train = [clip for clip in demo_corpus.clips if used[clip.name]["subset"] == "train" and clip.emotion == "neutral"]
    by_speaker = {clip.speaker: load_waveforms([clip], 16000) for clip in train}
    assert len(by_speaker) == 3
    for voice, expected in zip(voices, make_voices(by_speaker, 16000), strict=True):
        np.testing.assert_allclose(voice, expected)


def test_babble_is_left_out_where_the_training_clips_are_not(model, trained_run, foreign_folder, capsys):
    moved = replace(model.config.experiment, corpora=("/no/longer/there",))
    calls = []
    elsewhere = replace(model, config=replace(model.config, experiment=moved))
    assert find_voices(elsewhere, [load_corpus(foreign_folder)], calls.append) == []
    assert calls[0].startswith("babble is left out: it is made of neutral clips of 3 or more speakers who trained")
    assert calls[0].endswith("add the corpus that the model was trained on, /no/longer/there, to --corpus")
    assert "\n" not in calls[0]


def test_a_clip_without_an_answer_counts_with_uniform_probabilities(model, foreign_folder):
    def predict_batch(**inputs):
        answers = model.predict_batch(**inputs)
        silent = tf.reduce_max(tf.abs(inputs["waveform"]), axis=1, keepdims=True) == 0
        nan = tf.constant(np.nan, tf.float32)
        return answers | {"probabilities": tf.where(silent, nan, answers["probabilities"])}

    calls = []
    test = ScoredClips(replace(model, predict_batch=predict_batch), load_corpus(foreign_folder), "test", calls.append)
    test.waveforms[2] = np.zeros(16000, np.float32)
    scores, probabilities = test.score()
    assert calls[-1] == "clean: 1 clips without an answer count with uniform probabilities"
    np.testing.assert_allclose(probabilities[2], 1 / len(model.emotions))
    assert scores["num_unanswered"] == 1
    assert test.score("level-plus-20")[0]["same_as_clean"] >= 1 / 8  # none twice is the same answer
    test.waveforms[:] = [np.zeros(16000, np.float32)] * 8
    with pytest.raises(RunError, match="answers no clip of emovo"):
        test.score()


def test_development_speakers_validate_and_the_others_test():
    clips = [Clip(speaker, None, "sad", speaker, content=speaker) for speaker in ("EB0", "KD0", "KS0", "WR0")]
    corpus = Corpus("nemo", tuple(clips), ("sad",))

    def speakers(corpus, subset, used=()):
        return [clip.speaker for clip in choose_clips(corpus, used, subset, lambda line: None)]

    assert speakers(corpus, "validation") == ["EB0", "KS0"]
    assert speakers(corpus, "test") == ["KD0", "WR0"]
    assert speakers(replace(corpus, name="other"), "test") == ["EB0", "KD0", "KS0", "WR0"]
    assert speakers(corpus, "test", [{"content": "EB0", "subset": "test"}]) == ["EB0"]  # a model's own split
    with pytest.raises(CorpusError, match="1 clips of nemo were used"):
        speakers(corpus, "test", [{"content": "EB0", "subset": "train"}])
    # A clip that a protocol left unused is as one that the model never saw.
    unused = [{"content": "EB0", "subset": "unused"}, {"content": "KD0", "subset": "unused"}]
    assert speakers(corpus, "test", unused) == ["KD0", "WR0"]
    assert speakers(corpus, "test", [*unused, {"content": "WR0", "subset": "test"}]) == ["WR0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--conditions", "telefone"], "there is no condition 'telefone'; did you mean 'telephone'?"),
        (["--conditions", "mp3,babble-15"], "did you mean 'babble-"),
        (["--results", "r", "--subset", "validation"], "--results keeps figures of the test subset only"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, message, capsys, monkeypatch):
    monkeypatch.setattr(evaluate.commandline, "import_tensorflow", lambda: pytest.fail("it takes seconds"))
    assert evaluate.main(["no/model", *options]) == 2
    assert message in capsys.readouterr().err


def test_conditions_do_not_apply_to_transcripts(text_run, demo_folder, capsys):
    assert evaluate.main([str(text_run), "--corpus", str(demo_folder), "--conditions", "mp3"]) == 2
    assert "takes no audio: no condition changes what it takes" in capsys.readouterr().err


def test_all_conditions_begin_with_clean():
    assert evaluate.check_conditions(["all"]) == list(CONDITIONS)
    assert evaluate.check_conditions(["opus", "mp3", "opus"]) == ["clean", "opus", "mp3"]
    assert evaluate.check_conditions([]) == ["clean"]
