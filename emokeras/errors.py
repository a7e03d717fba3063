"""The errors of this package. The message is one line: what is wrong, where, and how to mend it."""

ERROR_PREFIX = "error: "  # how a command's one line on stderr begins


class EmokerasError(Exception):
    """The work failed. A command ends with `exit_status`."""

    exit_status = 1


class UsageError(EmokerasError):
    """The arguments or the configuration are wrong; nothing was begun."""

    exit_status = 2


class AudioError(EmokerasError):
    """A file cannot be decoded, or its audio cannot be used.

    `trouble` is the reason in a few words that follow "3 files ..."; "" when reading again might succeed.
    """

    def __init__(self, message: str, trouble: str = ""):
        super().__init__(message)
        self.trouble = trouble


class CorpusError(EmokerasError):
    """A corpus, its manifest or its split cannot be used."""


class DownloadError(EmokerasError):
    """An archive cannot be downloaded, is not the expected one, or is not safe to unpack."""


class RunError(EmokerasError):
    """A run folder lacks a file, or has one that does not fit."""


class ExportError(EmokerasError):
    """An exported model cannot be written, or its outputs differ from those of the model in memory."""


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:, ")[:200]
