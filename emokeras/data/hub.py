"""How transformers and the hub that it loads from are kept quiet, wherever a model of theirs is used."""

import contextlib
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the hints of transformers and its hub off the screen; on a terminal the bar of a download stays."""
    logging.disable(logging.WARNING)
    try:
        from huggingface_hub.utils import enable_progress_bars
        from transformers.utils import logging as their_logging

        had_bars = their_logging.is_progress_bar_enabled()
        their_logging.disable_progress_bar()
        if sys.stderr.isatty():
            enable_progress_bars()  # The hub's own, which go with transformers'.
        try:
            yield
        finally:
            if had_bars:
                their_logging.enable_progress_bar()
    finally:
        logging.disable(logging.NOTSET)
