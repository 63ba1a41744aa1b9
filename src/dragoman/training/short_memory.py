"""Out of memory on one of several ranks: nobody can finish the step, so all of them begin again with less.

What is to be smaller is written beside the run, by the first rank, and read at the next
start on this machine. A single process needs none of this: it repeats the step at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman.errors import InputError
from dragoman.journal import OutOfMemory
from dragoman.training import fitting
from dragoman.training.feed import Feed

if TYPE_CHECKING:
    from dragoman.training.session import Session

FILE = "dragoman/memory.json"


def smaller(feed: Feed, step: int, limit: int) -> int:
    """Most tokens of one forward pass when those of a step did not fit; 0 when there was one pair in each already."""
    several = [pairs for pairs in feed.cut(step, limit) if len(pairs) > 1]
    return max((int(feed.loader.lengths(pairs).sum()) // 2 for pairs in several), default=0)


def note(folder: Path, step: int, microbatch_tokens: int) -> None:
    """Write down what the next start has to do with.

    Args:
        folder: The run folder.
        step: The step that did not fit, counted from 1.
        microbatch_tokens: Most source and target tokens in one forward pass from now on; 0 where one pair was too much.
    """
    (folder / FILE).write_text(json.dumps({"step": step, "microbatch_tokens": microbatch_tokens}))


def take_note(run: "Session") -> None:
    """Let a session that begins compute less at once, if an earlier one here has run out of memory.

    Raises:
        InputError: Not even one pair fits.
    """
    if run.ranks is None or not (run.folder / FILE).exists():
        return
    told = json.loads((run.folder / FILE).read_text())
    # From here on the state tells it; another machine's GPUs may be larger, and this one's next note is a new one.
    (run.folder / FILE).unlink()
    state, limit = run.state, int(told["microbatch_tokens"])
    if limit == 0 and (run.forward.checkpointing or run.config.training.gradient_checkpointing != "auto"):
        raise InputError(
            f"out of memory at step {told['step']} with one pair at a time",
            "--parallel fsdp, a smaller model, a shorter --max-tokens, or bigger GPUs",
        )
    if limit == 0:
        state.checkpointing, run.forward = True, fitting.checkpointed(run.forward, True)
    elif limit >= state.microbatch_tokens:
        return
    else:
        state.microbatch_tokens = limit
    state.out_of_memory.append((told["step"], state.microbatch_tokens))
    run.journal.append(OutOfMemory(step=told["step"], microbatch_tokens=state.microbatch_tokens))
