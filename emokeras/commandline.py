"""What every command shares: `--debug`, one line on stderr for what went wrong, and the exit status.

0: done; 1: the work failed; 2: the arguments are wrong; 130: Ctrl-C.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable

from emokeras.errors import EmokerasError, UsageError


def make_parser(module_name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for `python -m <module_name>` whose help is the module's docstring."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module_name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parse_settings(pairs: list[str], option: str = "--set") -> dict[str, str]:
    """Turn ["section.key=value", ...], given to an option, into a dict. Raises UsageError for a pair without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"{option} {pair}: write it as section.key=value, for example training.epochs=10")
    return dict(pair.split("=", 1) for pair in pairs)


def parse_numbers(option: str, text: str) -> list[int]:
    """Turn "0,1,2", given to an option, into a list. Raises UsageError for what is none."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: write whole numbers with commas between, for example 0,1,2") from None


def import_tensorflow() -> None:
    """Import TensorFlow without the lines its C++ side writes to stderr before anyone can tell it not to.

    It takes seconds, so what can be refused before should not wait for it. Should the import fail, the lines are shown.
    """
    # What goes wrong in C++ comes as an exception too; oneDNN calls errors what it merely does another way.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A GPU's memory is taken as it is needed, so that two processes can share one.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # TensorFlow leaves it off on many processors that it makes half as fast again.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
            tensorflow.get_logger().setLevel("ERROR")  # One network after another is traced anew, as it must be.
        except BaseException:
            lines.seek(0)
            os.write(stderr, lines.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def run_command(work: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> int:
    """Do the work; tell an expected error in one line on stderr. Returns the exit status."""
    try:
        return work(arguments) or 0
    except EmokerasError as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # A full disk, a folder that may not be written: no fault of the program's.
        if arguments.debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
