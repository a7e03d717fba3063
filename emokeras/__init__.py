"""emokeras: speech emotion recognizers in TensorFlow/Keras, trained, tuned, fused, evaluated and exported.

The path of a clip through `python -m emokeras.train`, in the order of the calls:

    recipes, config        the named experiments; the settings of one
    data.corpora           files -> clips (speaker, emotion, content hash), decoded by data.audio; waveforms are cached
    training.run           one run, from here to its metrics:
      training.resolve       complete the configuration from the corpus, pretrained weights and earlier runs
      data.splits            which clips train, validate and test
      models.build           configuration -> keras.Model: encoders -> fusion -> logits
      training.warm_start    weights of earlier runs, where the configuration names some
      training.subsets       waveforms (data.audio), variants of them (data.variants), tokens (data.transcripts,
                             data.text) and frames of a speech encoder (data.speech) of each subset
      data.pipeline          batches of data.features: windows (data.frames) of speech (data.activity); first for the
                             normalization statistics and for validation
      training.fit           stages, callbacks, checkpoints; training batches pass data.augment and augment_features
      training.score         logits -> probabilities -> reporting.metrics
      training.outcome       predictions.csv (a line per clip), metrics.json, plots, model.keras; files by runs

An ensemble: training.run trains the members (training.member in child processes), training.ensemble combines them by
models.late. predict, evaluate, adapt and export load a run or an export by recognizer, which answers recordings of any
length. evaluate scores it by training.evaluation, under data.conditions; adapt fits it to labelled recordings by
training.adapt, predict --adapt to unlabelled ones by recognizer.adapt; recognizer.export writes it. results turns
committed rows into RESULTS.md. tuning, in the checkout, trains by training.run.train_unscored.

Used by all: errors, files, commandline, processes; hub loads models of transformers.
The commands (`python -m emokeras` lists them) are thin functions over these. Importing this package imports none of it.
"""

__version__ = "0.1.0"
