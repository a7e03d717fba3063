"""emokeras: speech emotion recognizers in TensorFlow/Keras, trained, tuned, fused, evaluated and exported.

A clip from file to metrics, in the order in which `python -m emokeras.train` calls these modules:

    config, recipes        the settings of an experiment; the named experiments
    data.corpora           files -> clips: who speaks, which emotion; each file is decoded once
    training.run           the course of one run, from here to its metrics:
      training.resolve       a configuration, as asked for -> the whole configuration that is trained
      data.splits            which clips train, validate and test
      models.build           configuration -> keras.Model: encoders -> fusion -> logits
      training.subsets       the clips, waveforms and labels of each subset
        data.audio             file -> waveform (cached)
        data.transcripts,      speech -> text -> tokens
        data.text
        data.speech            waveform -> frames of a frozen speech encoder (cached)
      training.fit           stages of training; data.pipeline feeds it:
        data.augment           waveform -> augmented waveform
        data.features          waveform -> log-mel, MFCC and prosody frames
      training.outcome       predictions -> metrics, pictures, model.keras in the run folder
    training.ensemble      several runs -> one ensemble, by models.late
    runs                   the run folder: create, read, write, provenance
    reporting              metrics, plots, tables on the screen
    results                committed rows -> RESULTS.md and results/<protocol>.md
    recognizer             a run or an export -> waveform and transcript in, probabilities out

Below all of these: errors, files, commandline, processes (child processes), hub (models of transformers).
The commands (`python -m emokeras` lists them) are thin functions over these. Importing this package imports none of it.
"""

__version__ = "0.1.0"
