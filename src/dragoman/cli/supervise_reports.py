"""What one look at a run found, did and will do next."""

import time
from typing import TYPE_CHECKING, Any

from dragoman.cli.output import data, duration, error, print_json, say
from dragoman.errors import ExitCode

if TYPE_CHECKING:
    from dragoman.launch.supervise import Look


def look(found: "Look", as_json: bool) -> ExitCode | None:
    """Say it; returns how the command ends, or None when the run goes on."""
    from dragoman.launch.choosing import Done, GiveUp, Start

    now, decision = time.time(), found.decision
    usd, hours = sum(one.usd(now) for one in found.machines), sum(one.hours(now) for one in found.machines)
    why = getattr(decision, "why", "")
    ending = {Done: ExitCode.DONE, GiveUp: ExitCode.CHECK_SAID_NO}.get(type(decision))
    for done in found.did:
        say(done)
    if as_json:
        facts: dict[str, Any] = {"decision": type(decision).__name__.lower(), "why": why, "did": list(found.did)}
        again = None if ending is not None else round(found.seconds)
        print_json({**facts, "machines": len(found.machines), "usd": usd, "hours": hours, "look_again_seconds": again})
        return ending
    spent = f"{len(found.machines)} machines so far, {hours:.1f} h, ${usd:.2f}"
    if isinstance(decision, GiveUp):
        error(f"{why} ({spent})", decision.hint)
    elif isinstance(decision, Done):
        data(f"the run is done ({spent})")
    elif isinstance(decision, Start):
        data(f"one machine was asked for ({spent})")
    else:
        data(f"{why}; look again in {duration(found.seconds)} ({spent})")
    return ending
