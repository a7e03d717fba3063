"""What comes in: clips, splits, waveforms, features, batches."""
