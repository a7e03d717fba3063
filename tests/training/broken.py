"""A training that breaks off after an epoch, as by a kill."""

from emokeras.training import callbacks


class Broken(Exception):
    """Ends a training as a kill would."""


def broken_after(epoch: int, monkeypatch, error: type[BaseException] = Broken) -> None:
    """Raise `error` when an epoch, counted from 1, is done and its state is written."""
    whole = callbacks.Validation.on_epoch_end

    def on_epoch_end(self, number, logs=None):
        whole(self, number, logs)
        if number + 1 == epoch:
            raise error

    monkeypatch.setattr(callbacks.Validation, "on_epoch_end", on_epoch_end)
