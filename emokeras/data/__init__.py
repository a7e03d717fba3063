"""Data: corpora, splits, waveforms, features and batches."""
