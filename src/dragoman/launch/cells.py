"""What the cells of a notebook call: the command itself, shown live, with its exit code in words.

A notebook that is run again from its first cell goes on where the run is safe, so every
ending other than the good one stops `Run all` with one message, and says what to do.
"""

import codecs
import contextlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from types import FrameType

from dragoman.errors import DragomanError, ExitCode
from dragoman.store.address import HUB

AGAIN = "run all cells again; it goes on where the run is safe"
_WORDS = {
    ExitCode.BUG: "this is a bug in dragoman; the lines above say where",
    ExitCode.BAD_INPUT: "the lines above say what is wrong; correct it, and run all cells again",
    ExitCode.SUPERSEDED: "another machine has taken this run over and trains it",
    ExitCode.CHECK_SAID_NO: "a check did not pass; the lines above say which",
    ExitCode.RESUME_ME: f"it ended before its last step, or before the last upload: {AGAIN}",
}


class Stopped(Exception):
    """Ends `Run all` with one message; IPython asks the error how it wants to be shown."""

    def _render_traceback_(self) -> list[str]:
        return [f"STOPPED: {self}"]


def check_token(hub_model_id: str) -> None:
    """Look whether the token may write to the repository of the run, before anything is downloaded or computed.

    Raises:
        Stopped: It may not, there is none, or the Hub does not answer.
    """
    from dragoman.checkpoint import doctor

    found = doctor.token(f"{HUB}{hub_model_id.removeprefix(HUB)}")
    if found.verdict != "ok":
        raise Stopped(f"{found.finding}; nothing was started.\n  try: {found.hint}")
    show(f"token: {found.finding}\n")


def train(
    *,
    hub_model_id: str,
    language_pairs: str,
    data: str,
    max_samples: int,
    epochs: float,
    batch_size: int,
    model: str,
    more_options: str,
    folder: str,
) -> None:
    """Train with the settings of the notebook, from where the repository has the run.

    Whoever runs the cells wants the run here, so it is taken over at once from a machine
    that may still hold its lease: mostly the last session of the same notebook.

    Args:
        hub_model_id: USER/NAME.
        language_pairs: Separated by spaces.
        data: Names and paths, separated by spaces; a path with spaces in quotes.
        max_samples: Pairs per direction; 0 takes all.
        epochs: Passes.
        batch_size: Times `--gradient-accumulation`: the pairs of a step.
        model: As for `--model`.
        more_options: Words for `dragoman train`.
        folder: The run folder.

    Raises:
        Stopped: It did not come to its end.
    """
    words = ["--language-pairs", *language_pairs.split(), "--data", *shlex.split(data)]
    words += ["--max-samples", str(max_samples)] if max_samples else []
    words += ["--epochs", f"{epochs:g}", "--batch-size", str(batch_size), "--model", model]
    words += ["--hub-model-id", hub_model_id, "--output", folder, "--take-over", *shlex.split(more_options)]
    run("train", *words)


def download_and_test(*, hub_model_id: str, folder: str) -> str:
    """Bring the model of the finished run back from the Hub, and try it on sentences that it has never seen.

    A model that fails, or that brings nothing to be tried on, is said to, and stops nothing: the
    run is done, and more time on this machine changes neither.

    Args:
        hub_model_id: USER/NAME.
        folder: The run folder; the model goes beside it.

    Returns:
        The model's folder.

    Raises:
        Stopped: The run is not at its end, or the model is not here.
    """
    url = f"{HUB}{hub_model_id.removeprefix(HUB)}"
    model = f"{folder.rstrip('/')}-model-{_last_step(url)}"
    code = _shown("download", url, "--output", model, "--test")
    if code in _NOT_FIT:
        show(f"\n{_NOT_FIT[ExitCode(code)]}\n")
    elif code != ExitCode.DONE:
        again = f"the model is not here whole (exit code {code}): run this cell again; it goes on where it stopped"
        raise Stopped(_WORDS[ExitCode.BUG] if code == ExitCode.BUG else again)
    return model


_NOT_FIT = {
    ExitCode.CHECK_SAID_NO: "The run is done and on the Hub, but its model FAILED the test; the lines above say how.",
    ExitCode.BAD_INPUT: "The run is done and on the Hub; its model was NOT TESTED, and the lines above say why.",
}


def _last_step(url: str) -> int:
    """The last step of the run that is kept there.

    Raises:
        Stopped: There is none yet, or the Hub cannot be asked.
    """
    from dragoman.checkpoint.place import open_run
    from dragoman.checkpoint.remote_status import remote_status

    try:
        known = remote_status(open_run(url), time.time())
    except DragomanError as error:
        raise Stopped(f"{error.message}; there is no model to test yet.\n  try: {error.hint or AGAIN}") from None
    if known["state"] == "done":
        return known["step"]
    is_at_work = known["state"] == "running"
    what = "is still being trained" if is_at_work else f"is not finished ({known['state']})"
    todo = "run this cell again when it is done" if is_at_work else AGAIN
    safe = f"step {known['step']:,} is the last that is safe on the Hub"
    raise Stopped(f"the run {what}: {safe}; nothing was tested.\n  try: {todo}")


def run(*words: str) -> None:
    """Run `dragoman WORDS` and show its lines while they come.

    Raises:
        Stopped: It ended otherwise than well.
    """
    if (code := _shown(*words)) != ExitCode.DONE:
        raise Stopped(_in_words(code))


def _shown(*words: str) -> int:
    """Run `dragoman WORDS`, show its lines while they come, and return its exit code."""
    show(f"$ dragoman {shlex.join(words)}\n")
    return _follow([sys.executable, "-m", "dragoman", *words])


def show(text: str) -> None:
    """Show a piece of text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _in_words(code: int) -> str:
    """What an exit code means; a negative one is the signal that ended the process."""
    if code in _WORDS:
        return _WORDS[ExitCode(code)]
    return f"the process was ended by signal {-code}, mostly for want of memory: {AGAIN}" if code < 0 else AGAIN


def _follow(command: Sequence[str]) -> int:
    """Run a command, show what it prints, and return its exit code."""
    text = codecs.getincrementaldecoder("utf-8")("replace")
    with (
        _left_to_the_command(signal.SIGINT),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0) as process,
    ):
        assert process.stdout is not None
        # Not by lines: a bar of the Hub's client goes back within its line.
        while piece := process.stdout.read(65536):
            show(text.decode(piece))
        return process.wait()


@contextlib.contextmanager
def _left_to_the_command(number: signal.Signals) -> Generator[None]:
    """A signal ends the command and not the cell: a notebook's stop button sends it to the whole group of processes.

    The command saves, says so and ends; the cell goes on to show it, and then stops.
    """
    before = signal.signal(number, _nothing)
    try:
        yield
    finally:
        signal.signal(number, before)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which the command would inherit."""
