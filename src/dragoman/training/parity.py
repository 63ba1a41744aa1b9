"""Proof that what a run with adapters publishes is what it trained.

The published model is another set of numbers than the one in memory: adapters are added
to the frozen matrices, written, read. So after the last step the file is read as anybody
would read it, by transformers, and has to give the same loss.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from dragoman.data.loader import Loader
from dragoman.journal import Warned
from dragoman.model import nllb
from dragoman.training import dev
from dragoman.training.forward import Forward
from dragoman.training.optimizer import Arithmetic

if TYPE_CHECKING:
    from dragoman.training.session import Session

TOLERANCE = 1e-4
"""Largest difference of the losses, by their size; rounding in float32 gives some 1e-7."""
MOST_PAIRS = 32
"""Pairs that are computed twice: enough to find a wrong matrix, and few enough for a large model on a CPU."""


def check_merged(run: "Session") -> None:
    """Compare the newest checkpoint's model with the one in training, which is over: its memory is given back.

    In float32, whatever the run's precision. A difference is a warning: nothing that is
    saved gets better by ending the run with an error.
    """
    newest = run.log.newest
    if newest is None or newest.step != run.state.step:
        return
    try:
        trained, merged = _losses(run, newest.folder)
    except torch.OutOfMemoryError:
        run.journal.append(Warned(message="the merged model could not be compared with the trained one: no memory"))
        return
    if not abs(trained - merged) <= TOLERANCE * abs(trained):
        told = f"{newest.folder} gives {merged:.6f} nats per token, the adapters in memory {trained:.6f}"
        words = f"the merged model is not the trained one: {told}; use training/adapter with peft, and report this"
        run.journal.append(Warned(message=words))


def _losses(run: "Session", folder: str) -> tuple[float, float]:
    """Nats per target token of the model in memory, and of the one in the folder."""
    exact = Arithmetic(run.arithmetic.device, "fp32")
    split, rows = ("dev", dev.dev_rows(run)) if dev.dev_rows(run) else ("train", [*run.loader.batch(0)])
    rows = rows[:: max(1, len(rows) // MOST_PAIRS)][:MOST_PAIRS]
    loader, limit = Loader(run.corpus, run.plan, split), run.state.microbatch_tokens
    with run.forward.whole() as forward:
        trained, _ = dev.loss(replace(forward, arithmetic=exact), loader, rows, limit)
    torch.nn.Module.to(run.model, "meta")
    fresh = nllb.to_device(nllb.load(run.folder / folder), exact.device)
    merged, _ = dev.loss(Forward(fresh, exact, packed=False), loader, rows, limit)
    return trained, merged
