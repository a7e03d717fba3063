"""Check that a refactoring computes what the code computed before: tiny trainings of every body and every fusion.

    cd CHECKOUT && python .ci/golden.py make FOLDER          # trains with the package in this checkout
    python .ci/golden.py compare FOLDER OTHER                # largest differences; exit status 1 above 1e-6

It uses the commands alone, so that it runs on any commit: make one folder with the earlier commit (38efb2b) and one
with the present code, on the same machine (`git worktree add`). Issue 35 only: it leaves with that issue.
"""

import csv
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

TOLERANCE = 1e-6
TINY = {
    "audio.window_seconds": 1.28,
    "audio.num_windows": 2,
    "spectrogram.hop_seconds": 0.02,
    "spectrogram.num_bands": 20,
    "model.hidden_units": [16],
    "training.warmup_epochs": 1,
    "training.batch_size": 8,
}
MEL_16K = {
    "audio.sample_rate_hz": 16000,
    "spectrogram.frame_seconds": 0.032,
    "spectrogram.fft_size": 1024,
    "spectrogram.high_hz": 8000.0,
}
RESNET = {"encoder.filters": [4, 8, 8]}
TCN = {"encoder.filters": 8, "encoder.dilations": [1, 4]}
REFIT = {"training.refit_epochs": 2}
MEL_AND_MFCC = {
    "encoders.spectrogram.filters": [4, 8, 8],
    "encoders.mfcc.filters": 8,
    "encoders.mfcc.dilations": [1, 4],
}
ATTENTION = {"model.attention_units": 8, "model.attention_heads": 2}


def trainings(folder: Path, runs: Path) -> dict[str, tuple[str, dict, list[str]]]:
    """Return for each name a recipe, its settings and further arguments. Runs named by earlier ones are their input."""
    bert, speech, resnet50 = folder / "bert", folder / "hubert", folder / "resnet50.weights.h5"
    branches = f"{runs / 'resnet'},{runs / 'tcn'}"
    return {
        "cnn": ("mel-cnn3", {"encoder.filters": [4, 8, 16]}, []),
        "cnn-flatten": ("mel-cnn2", {"encoder.filters": [4, 8], "model.pooling": "flatten"}, []),
        "cnn-leveled": ("mel-cnn3", {"encoder.filters": [4, 8], "encoder.leveled": True, "encoder.deltas": 1}, []),
        "cnn-sgd": (
            "mel-cnn3",
            {"encoder.filters": [4, 8], "training.optimizer": "sgd", "training.accumulated_batches": 2}
            | {"training.patience_epochs": 1, "model.pooling": "mean-max", "model.batch_normalization": True},
            ["--protocol", "random", "--split-seed", "1", "--seed", "3"],
        ),
        "cnn-all": ("mel-cnn3", {"encoder.filters": [4, 8]}, ["--protocol", "all"]),
        "cnn-48k": ("mel-cnn6-plus", {"encoder.filters": [4, 8, 8]}, []),
        "crnn": ("mel-crnn-attention", {"encoder.filters": [4, 8], "encoder.recurrent_units": [6]}, []),
        "resnet": ("mel-resnet", RESNET, []),
        "resnet-muon": ("mel-resnet-muon", RESNET | REFIT, []),
        "mfcc-resnet-long": ("mfcc-resnet-muon", RESNET | REFIT | {"audio.trim_decibels": 55.0}, []),
        "transformer": (
            "mel-ast",
            {"encoder.patch_frames": 8, "encoder.patch_bands": 10, "encoder.units": 8}
            | {"encoder.num_heads": 2, "encoder.num_blocks": 1},
            [],
        ),
        "imagenet": (
            "mel-resnet-imagenet",
            {"spectrogram.num_bands": 32, "model.weights": str(resnet50), "training.frozen_epochs": 1},
            [],
        ),
        "tcn": ("mfcc-tcn", TCN, []),
        "tcn-variants": (
            "mfcc-tcn",
            TCN
            | {"augment.variants": ["pitch-up", "noise"], "augment.crop_share": 0.3, "augment.vocal_tract_change": 0.1},
            [],
        ),
        "tcn-centered": (
            "mfcc-delta-tcn",
            TCN
            | {"encoder.centered": True, "augment.style_mixing_probability": 0.5, "augment.equalisation_decibels": 6.0}
            | {"augment.reverberation_probability": 0.5},
            [],
        ),
        "delta-tcn-long": ("mfcc-delta-tcn-muon-long", TCN | REFIT, []),
        "prosody": ("prosody-tcn-muon", TCN | REFIT, []),
        "recurrent": ("text-bilstm2", {"encoder.units": [6, 6]}, []),
        "recurrent-gru": ("text-bigru", {"encoder.units": [6]}, []),
        "bert": ("text-bert", {"model.weights": str(bert), "training.frozen_epochs": 1}, []),
        "speech": ("speech-tcn", TCN | {"model.pretrained": str(speech)}, []),
        "early-prosody": (
            "early-mel-prosody",
            {
                "encoders.spectrogram.filters": [4, 8],
                "encoders.prosody.filters": 8,
                "encoders.prosody.dilations": [1, 4],
            },
            [],
        ),
        "early-text": (
            "early-mel-text",
            MEL_16K | {"encoders.spectrogram.filters": [4, 8], "encoders.tokens.units": [6]},
            [],
        ),
        "early-branches": ("early-mel-mfcc", {"model.branches": branches, "training.frozen_epochs": 1}, []),
        "hybrid-branches": (
            "hybrid-mel-mfcc-text",
            {
                "model.branches": f"{branches},{runs / 'recurrent-gru'}",
                "training.frozen_epochs": 1,
                "model.hidden_units": [],
            },
            [],
        ),
        "hybrid": ("hybrid-mel-mfcc-text", MEL_AND_MFCC | {"model.branches": [], "encoders.tokens.units": [6]}, []),
        "attention": ("attention-mel-mfcc", MEL_AND_MFCC | ATTENTION | {"model.branches": []}, []),
        "attention-text": (
            "attention-mel-text",
            ATTENTION | {"encoders.spectrogram.filters": [4, 8], "encoders.tokens.units": [6]},
            [],
        ),
        "start": ("mel-cnn3", {"model.start_from": str(runs / "cnn"), "training.frozen_epochs": 1}, []),
        "weighted": (
            "weighted-mel-mfcc",
            {"members.mel-resnet.encoder.filters": [4, 8, 8], "members.mfcc-tcn.encoder.filters": 8},
            ["--members-at-once", "1"],
        ),
    }


def make(folder: Path) -> None:
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "EMOKERAS_HOME": str(folder / "home")}
    sys.path.insert(0, os.getcwd())
    from emokeras import ensemble, prepare, train
    from emokeras.commandline import import_tensorflow

    import_tensorflow()
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    assert prepare.main(["--corpus", "demo"]) == 0
    (manifest,) = (folder / "home" / "corpora").glob("demo-*/manifest.csv")
    values = {"demo": _digest(manifest.parent)}
    corpus = _small_corpus(manifest, folder / "corpus")
    _make_weights(folder)

    from emokeras.config import AugmentConfig

    renames = hasattr(AugmentConfig, "equalization_decibels")
    runs = folder / "runs"
    only = os.environ.get("GOLDEN_ONLY", "").split(",") if os.environ.get("GOLDEN_ONLY") else None
    for name, (recipe, settings, arguments) in trainings(folder, runs).items():
        if only and name not in only:
            continue
        shutil.rmtree(runs / name, ignore_errors=True)
        tiny = {key: value for key, value in TINY.items() if not (key == "model.hidden_units" and "branches" in name)}
        if recipe == "weighted-mel-mfcc" or name in ("resnet", "tcn", "recurrent-gru"):
            tiny["model.hidden_units"] = []
        if renames:
            settings = {key.replace("equalisation", "equalization"): value for key, value in settings.items()}
        words = [recipe, "--corpus", str(corpus), "--run-dir", str(runs / name), "--epochs", "2", *arguments]
        for key, value in (tiny | settings).items():
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        status = train.main(words)
        keras.backend.clear_session()
        if status:
            raise SystemExit(f"{name}: exit status {status}")
        values[name] = _values(runs / name)
    for method in ("stacking", "vote", "mean-logits", "mean-probabilities", "weighted"):
        if only:
            break
        shutil.rmtree(runs / method, ignore_errors=True)
        words = [str(runs / name) for name in ("cnn", "tcn", "recurrent")]
        if ensemble.main([*words, "--method", method, "--run-dir", str(runs / method)]):
            raise SystemExit(f"{method} failed")
        values[f"fused-{method}"] = _values(runs / method)
    (folder / "golden.json").write_text(json.dumps(values, indent=1))
    print(f"{len(values)} entries in {folder / 'golden.json'}")


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _small_corpus(manifest: Path, folder: Path) -> Path:
    """Copy one take of each sentence's emotion of five speakers."""
    if (folder / "manifest.csv").is_file():
        return folder
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    speakers = sorted({row["speaker"] for row in rows})[:5]
    taken, kept = set(), []
    for row in rows:
        key = row["speaker"], row["emotion"]
        if row["speaker"] in speakers and key not in taken:
            taken.add(key)
            kept.append(row)
    for row in kept:
        (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest.parent / row["path"], folder / row["path"])
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return folder


def _make_weights(folder: Path) -> None:
    """Save a tiny random BERT and HuBERT with transformers' own classes, and a random ResNet50."""
    import keras
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import (
        BertConfig,
        BertModel,
        BertTokenizerFast,
        HubertConfig,
        HubertModel,
        Wav2Vec2FeatureExtractor,
    )

    if (folder / "hubert").is_dir():  # The trainer's vocabulary is not the same each time: copy these folders.
        return
    keras.utils.set_random_seed(0)
    resnet = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 32, 3))
    resnet.save_weights(folder / "resnet50.weights.h5")
    torch.manual_seed(0)
    trainer = BertWordPieceTokenizer()
    trainer.train_from_iterator(["kids are talking by the door", "the table stands"], vocab_size=60)
    tokenizer = BertTokenizerFast(tokenizer_object=trainer._tokenizer)
    tokenizer.save_pretrained(folder / "bert")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "bert")
    hubert = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    HubertModel(HubertConfig(**sizes | {"num_hidden_layers": 2} | hubert)).save_pretrained(folder / "hubert")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "hubert")


def _values(run: Path) -> dict[str, list]:
    """Return the numbers of a run's histories and predictions, members' and refits' too."""
    values = {}
    for path in sorted(run.rglob("*.csv")):
        if path.name in ("history.csv", "predictions.csv", "validation_predictions.csv"):
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            keep = [
                index
                for index, name in enumerate(header)
                if name not in ("clip", "speaker", "emotion", "seconds", "cpu_seconds")
            ]
            values[path.relative_to(run).as_posix()] = [[float(row[index]) for index in keep] for row in rows]
    metrics = json.loads((run / "metrics.json").read_text())
    values["metrics"] = [[metrics["num_parameters"], metrics["epochs_run"], metrics["num_train"]]]
    if (run / "ensemble.json").is_file():
        values["ensemble"] = [json.loads((run / "ensemble.json").read_text())["weights"]]
    return values


def compare(folder: Path, other: Path) -> int:
    one, two = (json.loads((path / "golden.json").read_text()) for path in (folder, other))
    failed = 0
    for name in two if len(two) < len(one) else one:
        if name not in one or name not in two:
            print(f"{name}: only in one of them")
            failed += 1
            continue
        if name == "demo":
            same = one[name] == two[name]
            print(f"demo corpus: {'the same bytes' if same else 'OTHER BYTES'}")
            failed += not same
            continue
        largest, where = 0.0, ""
        for key in one[name].keys() | two[name].keys():
            a, b = one[name].get(key), two[name].get(key)
            if a is None or b is None or [len(row) for row in a] != [len(row) for row in b]:
                largest, where = float("inf"), key
                continue
            for row, second in zip(a, b, strict=True):
                for x, y in zip(row, second, strict=True):
                    difference = 0.0 if x == y or (x != x and y != y) else abs(x - y)
                    if not difference <= largest:
                        largest, where = difference, key
        wrong = not largest <= TOLERANCE
        failed += wrong
        print(f"{name:20s} {largest:.1e} {where}{'   DIFFERS' if wrong else ''}")
    print("the golden file holds" if not failed else f"{failed} entries differ")
    return int(failed > 0)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder]:
            path = Path(folder).absolute()
            path.mkdir(parents=True, exist_ok=True)
            make(path)
        case ["compare", folder, other]:
            raise SystemExit(compare(Path(folder), Path(other)))
        case _:
            raise SystemExit(__doc__)
