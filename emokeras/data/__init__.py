"""Clips, splits, waveforms, features, and batches of them.

corpora, demo              files to clips; the embedded synthetic corpus
splits                     the subset of each clip, by protocol
audio, variants            waveforms; copies of clips over other channels; both cached
spectrogram, prosody       frames of a waveform: log-mel, MFCC; pitch, level, spectral shape
features                   waveforms to a network's windows, in training, serving and export
augment, augment_features  augmentation of waveforms and of features
speech                     frames of a frozen speech encoder, whose input may be equalized; cached
transcripts, whisper, text speech to text to tokens
pipeline                   all of it as a tf.data.Dataset
"""
