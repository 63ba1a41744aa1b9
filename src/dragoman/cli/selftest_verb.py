"""The verb that cuts a tiny run in the middle, and proves that it goes on."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dragoman.cli import launch_reports, launch_verbs, output, reports
from dragoman.cli.grammar import LOOK, AsJson, app, verb
from dragoman.errors import InputError
from dragoman.launch.options import LaunchOptions

if TYPE_CHECKING:
    from dragoman.checkpoint.doctor import Check

HERE_STEPS, THERE_STEPS = 1500, 20_000
HERE_LOOK_SECONDS, THERE_LOOK_SECONDS = 0.1, 10.0
HERE_PATIENCE_SECONDS = 600.0
QUEUE_SECONDS = 900.0
"""A platform may take so long until a machine is there."""


@verb(app, LOOK)
def selftest(
    platform: Annotated[
        str | None, Parameter(help="Try it there, as `launch` names it; left out: with processes of this machine.")
    ] = None,
    /,
    *,
    gpu: Annotated[str | None, Parameter(help="GPU, or the platform's name of a machine; left out: cheapest.")] = None,
    store: Annotated[
        str | None,
        Parameter(help="A new store is made below this one; left out: a folder, or a private repository on the Hub."),
    ] = None,
    max_usd: Annotated[float, Parameter(help="Most that both machines together may cost, in USD.")] = 1.0,
    max_hours: Annotated[float, Parameter(help="Hours after which the platform ends each machine.")] = 0.5,
    steps: Annotated[int | None, Parameter(help="Steps of the tiny run; left out: some minutes' worth.")] = None,
    yes: Annotated[bool, Parameter(help="Do not ask before money is spent.")] = False,
    json: AsJson = False,
) -> None:
    """Train a tiny run, kill it in the middle, let it go on from its store, and check that nothing was lost.

    Here that takes a minute and spends nothing. On a platform it takes two machines, one after the other: the first is
    taken away as soon as a checkpoint is safe. Both are released, however it ends. Exit 4 when a check says no.

    Examples:

        dragoman selftest

        dragoman selftest --store s3://BUCKET/tries

        dragoman selftest jobs --gpu t4-small --max-usd 1
    """
    from dragoman.checkpoint.doctor import refuse_problems
    from dragoman.launch.selftest import complained

    with tempfile.TemporaryDirectory(prefix="dragoman-selftest-") as folder:
        if platform is None:
            if gpu:
                raise InputError(f"--gpu {gpu}: on which platform?", f"dragoman selftest jobs --gpu {gpu}")
            checks = _here(Path(folder), store, HERE_STEPS if steps is None else steps)
        else:
            said = LaunchOptions(gpu=gpu, max_hours=max_hours)
            checks = _there(Path(folder), platform, said, store, THERE_STEPS if steps is None else steps, max_usd, yes)
        with contextlib.closing(complained(checks)) as made:
            refuse_problems(reports.checks(made, as_json=json), "selftest")


def _here(folder: Path, store: str | None, steps: int) -> "Iterator[Check]":
    from dragoman.launch import selftest, selftest_here

    where = selftest.fresh_store(store, "here", time.time()) if store else f"file://{folder / 'store'}"
    output.say(f"trains {steps:,} steps here, into {where}")
    pace = selftest.Pace(HERE_LOOK_SECONDS, HERE_PATIENCE_SECONDS, time.monotonic, time.sleep)
    return selftest_here.run(folder, where, steps, pace)


def _there(
    folder: Path, name: str, said: LaunchOptions, store: str | None, steps: int, max_usd: float, yes: bool
) -> "Iterator[Check]":
    from dragoman import platforms
    from dragoman.launch import bundle, selftest, selftest_there
    from dragoman.launch.hub_account import Account
    from dragoman.launch.preview import Preview
    from dragoman.store.address import HUB

    platform = platforms.find(name)
    selftest_there.refuse_by_hand(platform)
    now = time.time()
    url = selftest.fresh_store(store, name, now) if store else selftest_there.usual_store(platform, now)
    if not url.startswith(HUB):
        said = said.model_copy(update={"bundle": f"{Account().user}/{bundle.DATA_SET}"})
    config = selftest.tiny_run(selftest.write_pairs(folder / "pairs.tsv"), url, steps)
    job, plan = launch_verbs.planned(config, said, name)
    selftest_there.refuse_dear(job, max_usd)
    preview = Preview(job, plan)
    launch_verbs.refuse_secrets(preview)
    launch_reports.preview(preview)
    output.say("this twice: one machine that is taken away, and one that goes on")
    launch_verbs.confirm(preview, yes, selftest_there.MACHINES)
    patience = QUEUE_SECONDS + job.max_hours * 3600
    pace = selftest.Pace(THERE_LOOK_SECONDS, patience, time.monotonic, time.sleep)
    hands = selftest_there.Hands(launch_verbs.start, pace, time.time)
    return selftest_there.run(job, plan, folder, steps, hands)
