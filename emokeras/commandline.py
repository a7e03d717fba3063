"""What every command shares: `--debug`, settings given as text, one line on stderr for an error, and the exit status.

0: done; 1: the work failed; 2: the arguments are wrong; 130: Ctrl-C.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable

from emokeras.errors import ERROR_PREFIX, EmokerasError, UsageError


def make_parser(module_name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for `python -m <module_name>` whose help is the module's docstring."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module_name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parse_settings(pairs: list[str], option: str = "--set") -> dict[str, str]:
    """Return {path: value} of the "section.key=value" given to an option. Raises UsageError for a pair without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"{option} {pair}: write it as section.key=value, for example training.epochs=10")
    return dict(pair.split("=", 1) for pair in pairs)


def parse_numbers(option: str, text: str) -> list[int]:
    """Return the numbers of a "0,1,2" given to an option. Raises UsageError for anything else."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: write whole numbers with commas between, for example 0,1,2") from None


def import_tensorflow() -> None:
    """Import TensorFlow without the lines that its C++ code writes to stderr; they are shown if the import fails.

    It takes seconds: refuse what can be refused before.
    """
    # C++ errors are raised as exceptions too; oneDNN logs messages as errors that are none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Take a GPU's memory as it is needed, so that two processes can share one.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # TensorFlow leaves it off on many processors on which it is 1.5 times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
            tensorflow.get_logger().setLevel("ERROR")  # Its warning that functions are traced again is of no use.
        except BaseException:
            lines.seek(0)
            os.write(stderr, lines.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def run_command(work: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> int:
    """Do the work and return the exit status; an expected error is one line on stderr."""
    try:
        return work(arguments) or 0
    except EmokerasError as error:
        if arguments.debug:
            raise
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # A full disk, or a folder without permission to write.
        if arguments.debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"{ERROR_PREFIX}{error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
