"""Trained networks as one recognizer: waveforms and transcripts in, probabilities of emotions and remarks out.

`answers` cuts recordings into blocks and pools the answers (NumPy). `model` loads a run or an export, and has the graph
of one batch; `adapt` moves its normalization to recordings, `export` writes it. `predict`, `evaluate`, `adapt` and
`export` use them.
"""

from emokeras.recognizer.model import Recognizer, load_recognizer

__all__ = ["Recognizer", "load_recognizer"]
