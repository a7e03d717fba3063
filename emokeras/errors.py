"""What can go wrong, said in one line: what is wrong, where, and how to mend it."""


class EmokerasError(Exception):
    """The work failed; the message is one line for a person. A command that meets it ends with `exit_status`."""

    exit_status = 1


class UsageError(EmokerasError):
    """The arguments or the configuration are wrong: nothing was begun."""

    exit_status = 2


class AudioError(EmokerasError):
    """A file cannot be read as sound, or what it holds is no usable sound.

    `trouble` says why in a few words that follow "3 files, ..."; it is empty when the file might open another time.
    """

    def __init__(self, message: str, trouble: str = ""):
        super().__init__(message)
        self.trouble = trouble


class CorpusError(EmokerasError):
    """A corpus, its manifest or its split cannot be used."""


class DownloadError(EmokerasError):
    """An archive could not be fetched, is not the one it should be, or is not safe to unpack."""


class RunError(EmokerasError):
    """A run folder lacks something, or holds what does not fit."""


class ExportError(EmokerasError):
    """An exported model could not be written, or does not give what the model in memory gives."""


def first_line(error: Exception) -> str:
    """Return what an error of a library says, as far as it goes into a line of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:, ")[:200]
