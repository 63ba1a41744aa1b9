"""The command: words in, an exit code out; every mistake of the user becomes one message.

The verbs stand in files of their own, by what they are for. Nothing heavy is imported
before a verb runs, so that `--help` answers at once.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from cyclopts import CycloptsError
from pydantic import ValidationError

from dragoman import __version__

from dragoman.cli import (  # isort: skip  the order is that of the help
    estimate_verb,  # noqa: F401
    train_verbs,  # noqa: F401
    launch_verbs,  # noqa: F401
    supervise_verb,  # noqa: F401
    look_verbs,  # noqa: F401
    selftest_verb,  # noqa: F401
    use_verbs,  # noqa: F401
    output,
    settings,
)
from dragoman.cli.grammar import app
from dragoman.errors import DragomanError, ExitCode, InputError


def run(words: Sequence[str]) -> int:
    """Run one command; every mistake of the user becomes one message and its exit code."""
    try:
        result: Any = app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
        return int(result) if isinstance(result, ExitCode) else ExitCode.DONE
    except CycloptsError as error:
        return refuse(_in_words(error))
    except DragomanError as error:
        return refuse(error)
    except SystemExit as error:
        return int(error.code or 0)
    except KeyboardInterrupt:
        output.say("interrupted")
        return 130
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            return refuse(
                InputError(f"{error.filename}: {error.strerror}", "another path, or more rights or space there")
            )
        traceback.print_exc()
        output.error(f"this is a bug in dragoman {__version__}", "report it, with all lines above")
        return ExitCode.BUG


def refuse(error: DragomanError) -> int:
    """Show a mistake of the user as one message; returns its exit code."""
    output.error(error.message, error.hint)
    return error.exit_code


def _broken_pipe() -> int:
    # Whoever read our lines has gone; Python would complain once more while closing stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


def _in_words(error: CycloptsError) -> InputError:
    """cyclopts' complaint with our hint; pydantic's in our own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            return settings.in_words(cause)
        cause = cause.__cause__ or cause.__context__
    return settings.usage_error(str(error))


def speak_utf8() -> None:
    """Write what we read: a terminal in another encoding would lose most of NLLB's languages."""
    # File names may be any bytes.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # pyright: ignore[reportAttributeAccessIssue]


def main() -> NoReturn:
    """The `dragoman` command."""
    speak_utf8()
    sys.exit(run(sys.argv[1:]))
