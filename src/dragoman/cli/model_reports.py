"""The answers of the verbs that bring, try and ship a model: as lines for people, or as JSON."""

import shlex
from typing import TYPE_CHECKING

from dragoman.cli.output import data, print_json, say

if TYPE_CHECKING:
    from dragoman.checkpoint.download import Downloaded
    from dragoman.checkpoint.foreign import Foreign
    from dragoman.deploy.export import Exported
    from dragoman.deploy.tryout import Tried, Tryout
    from dragoman.store.record import CheckpointRecord

LEAST_SURE = 0.2
"""Below this nobody wants to read which language a detector takes for the likeliest."""


def passed_over(checkpoint: "CheckpointRecord", why: str) -> None:
    """A checkpoint that cannot be used."""
    say(f"warning: {checkpoint.folder} is not used: {why}")


def downloaded(found: "Downloaded | Foreign", as_json: bool) -> None:
    """Where a model is now, and how to use it."""
    from dragoman.checkpoint.foreign import Foreign

    facts = found.to_json()
    if as_json:
        print_json(facts)
        return
    size = f"{facts['num_files']} files, {facts['num_bytes'] / 1e6:,.1f} MB"
    if isinstance(found, Foreign):
        data(f"the model is in {found.folder} ({size}, each file as the Hub describes it)")
    else:
        data(_of_a_run(found, size))
    data(f'translate with: dragoman translate --model {shlex.quote(str(found.folder))} -p SOURCE-TARGET "TEXT"')


def _of_a_run(found: "Downloaded", size: str) -> str:
    facts = found.to_json()
    chrf = f" (chrF++ {found.chrf:.1f})" if found.chrf is not None else ""
    is_whole, step = facts["whole"], facts["step"]
    what = f"{facts['checkpoint']} with its training state" if is_whole else f"the model of step {step:,}"
    there = "was there already:" if found.was_there else "is in"
    return f"{what}{chrf} {there} {found.folder} ({size}, every byte as recorded)"


def tried(found: "Downloaded | Foreign", tryout: "Tryout", as_json: bool) -> None:
    """What a model makes of each held-out sentence; below that what its base makes of it, and what is known."""
    if as_json:
        print_json(found.to_json() | {"test": tryout.to_json()})
        return
    if tryout.base is None:
        say("its base is not on the Hub: nothing to compare with (--base names a model)")
    for it in tryout.sentences:
        data(f"{it.pair}: {it.source} → {it.translation}")
        data(f"    {it.verdict}, {_language(it)}, {it.seconds:.2f} s")
        if it.base is not None:
            data(f"    base: {it.base}  ({it.base_seconds:.2f} s)")
        data(f"    reference: {it.reference}")


def _language(it: "Tried") -> str:
    if it.language is None or it.language_confidence is None:
        return "language not detected"
    sure = it.language_confidence
    return f"language {it.language} ({sure:.2f})" if sure >= LEAST_SURE else "language not clear"


def exported(done: "Exported", as_json: bool) -> None:
    """What was written, and how much smaller it is."""
    if as_json:
        print_json(done.to_json())
        return
    size = f"{done.num_bytes / 1e6:,.1f} MB, before {done.bytes_before / 1e6:,.1f} MB"
    data(f"{done.folder}: {done.rows:,} rows of {done.rows_before:,}, {size}")
    if done.texts_checked:
        data(f"tokens of {done.texts_checked:,} texts and logits of some are as before")
    folder = shlex.quote(done.folder)
    if done.target == "transformers":
        data(f'translate with: dragoman translate --model {folder} -p SOURCE-TARGET "TEXT"')
