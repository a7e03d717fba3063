"""emokeras: speech emotion recognisers in TensorFlow/Keras, trained, tuned, fused, evaluated and shipped.

A clip's way from file to emotion, and where each step stands:

    data.corpus      which clips there are, who speaks, which emotion
    data.splits      which of them train, validate and test
    data.audio       file -> waveform
    data.augment     what happens to a training waveform
    data.features    waveform -> log-mel, MFCC and prosody frames
    data.transcripts speech -> text
    data.text        text -> tokens
    data.pipeline    all of it as a tf.data.Dataset
    models.build     config -> keras.Model: features in, logits out; models.fusion joins its branches
    models.late      what several networks say -> one answer
    training.fit     one config -> one run folder
    training.members what a run is made of, found or trained first
    reporting        metrics, pictures, tables
    training.jobs    many configs, one after another
    recognizer       a trained run -> waveform and transcript in, probabilities out

The commands (`python -m emokeras` lists them) are thin functions over these. Importing this package imports none of it.
"""

__version__ = "0.1.0"
