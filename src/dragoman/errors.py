"""What can go wrong, sorted by what to do about it.

Four answers exist: fix the input, try again, stop and resume elsewhere, or it is a
bug. Everything a user can cause derives from `DragomanError` and is shown as one
message with a way out, never as a traceback.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit code of every `dragoman` command means."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 2
    SUPERSEDED = 3
    CHECK_SAID_NO = 4
    RESUME_ME = 75
    RANK_LOST = 76
    """Of one rank, for whoever started it; `dragoman` itself starts the ranks again, or ends with 75."""


class DragomanError(Exception):
    """Base of all errors that are shown to the user as one message.

    Args:
        message: What is wrong and where: the file, line or flag.
        hint: What to try; shown on a line of its own.
    """

    exit_code = ExitCode.BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.hint}" if self.hint else self.message


# --- fix the input ---------------------------------------------------------------


class InputError(DragomanError):
    """Something the user gave is wrong; nothing was changed."""

    exit_code = ExitCode.BAD_INPUT


class UnknownLanguageError(InputError):
    """A language tag does not name exactly one NLLB language.

    Args:
        message: What is wrong with the tag.
        candidates: NLLB codes that it may mean; empty when NLLB lacks the language.
        hint: What to try.
    """

    def __init__(self, message: str, candidates: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint)
        self.candidates = candidates


class DataError(InputError):
    """A file of pairs cannot be read; the message names the file and the line."""


class ModelError(InputError):
    """A model or tokenizer is not a usable NLLB checkpoint."""


class ConfigMismatch(InputError):
    """The run folder holds a run with another configuration."""


class Diverged(InputError):
    """The loss stayed non-finite after a roll-back: other settings are needed."""


class CheckSaidNo(DragomanError):
    """A check that the user asked for did not pass."""

    exit_code = ExitCode.CHECK_SAID_NO


# --- try again -------------------------------------------------------------------


class StoreUnavailable(DragomanError):
    """The store failed. A record in flight is absent, or visible and complete.

    Args:
        message: Which store, what was asked of it, and what it answered.
        hint: What a person can do; empty where waiting is all.
        retry_after: Seconds after which the store wants to be asked again; 0 when it did not say.
    """

    exit_code = ExitCode.RESUME_ME

    def __init__(self, message: str, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class WorkerLost(DragomanError):
    """The system has ended a process that worked for this one, mostly for want of memory; what it had done is kept."""

    exit_code = ExitCode.RESUME_ME


# --- stop and resume -------------------------------------------------------------


class RankLost(DragomanError):
    """Another rank of this session is gone, or cannot go on; what is recorded is safe."""

    exit_code = ExitCode.RANK_LOST


class Superseded(DragomanError):
    """Another machine has taken over this run; this one must not publish any more."""

    exit_code = ExitCode.SUPERSEDED


class Damaged(DragomanError):
    """Stored bytes are not the bytes that were recorded, or are missing."""

    exit_code = ExitCode.BAD_INPUT
