"""The rows of the table: what goes wrong, for both sides alike."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench import faults_lost, faults_ranks, faults_two
from bench.faults_play import Lab, Outcome, play
from bench.faults_sides import TOKEN, Side
from bench.faults_strikes import (
    SAVE_BYTES,
    UPLOADS,
    Strike,
    four_saves_fit,
    from_then_on,
    nothing,
    num_lost,
    one_500,
    resumed_without_complaint,
    revoke_after_next_commit,
    root_ahead,
    seven_commits_an_hour,
    slow_commits,
    slow_uplink,
    storage_full,
)


@dataclass(frozen=True)
class Row:
    """One fault."""

    key: str
    title: str
    before: str
    """What was measured of the recipe before."""
    holds: Callable[[Outcome], object]
    """Whether that is so; may say in words how."""
    play: Callable[[Lab, Side], Outcome]
    sides: Sequence[str] = ("recipe", "dragoman")
    ranks: int = 1
    """Processes that train together; what is learned of one is of no use to several."""


def fault(
    key: str,
    title: str,
    before: str,
    holds: Callable[[Outcome], object],
    strike: Strike = nothing,
    *,
    recipe: Mapping[str, object] | None = None,
    dragoman: Mapping[str, object] | None = None,
    heals: bool = False,
    limit: float = 60.0,
    without_xet: bool = False,
    sides: Sequence[str] = ("recipe", "dragoman"),
) -> list[Row]:
    """A row for both sides, and one more for the recipe without hf-xet."""
    options = {"recipe": recipe or {}, "dragoman": dragoman or {}}

    def both(lab: Lab, side: Side) -> Outcome:
        return play(lab, key, side, strike, options[side.name], limit=limit, heals=heals)

    def by_lfs(lab: Lab, side: Side) -> Outcome:
        environment = {"HF_HUB_DISABLE_XET": "1"}
        return play(lab, f"{key}-lfs", side, strike, options[side.name], limit=limit, environment=environment)

    more = [Row(f"{key}-lfs", f"… without hf-xet: {title}", before, holds, by_lfs, ["recipe"])] if without_xet else []
    return [Row(key, title, before, holds, both, sides), *more]


SHORT_DRAIN = {"drain_minutes": 0.1}

ROWS = [
    *fault(
        "none-every-save",
        "none, `every_save` (the default)",
        "weights only: not resumable",
        lambda o: not o.durable,
        recipe={"strategy": "every_save"},
        sides=["recipe"],
    ),
    *fault(
        "none",
        "none, `checkpoint`",
        "two commits per save; overwritten versions keep eating quota",
        lambda o: o.commits > 2 * len(o.durable) and o.held_bytes > 4 * SAVE_BYTES,
    ),
    *fault(
        "slow-commits",
        "a commit takes 2.5 s, saves every 1.7 s",
        "6 of 8 saves never pushed, the last one included",
        lambda o: num_lost(o) >= 3 and "30" not in o.durable,
        slow_commits,
    ),
    *fault(
        "one-500",
        "one HTTP 500 on a commit",
        "root weights one save ahead of the checkpoint",
        root_ahead,
        one_500,
        without_xet=True,
    ),
    *fault(
        "500-on",
        "500 from then on",
        "3–4 of 6 saves lost",
        lambda o: num_lost(o) >= 3,
        from_then_on(route="commit", status=500, times=None),
        dragoman=SHORT_DRAIN,
        heals=True,
        without_xet=True,
    ),
    *fault(
        "429",
        "429, the limit of commits per hour (here 7)",
        "4 of 6 lost",
        lambda o: num_lost(o) >= 3,
        seven_commits_an_hour,
        dragoman=SHORT_DRAIN,
        heals=True,
    ),
    *fault(
        "cut",
        "every upload cut",
        "3 of 4 lost, or hangs for ever",
        lambda o: num_lost(o) >= 4,
        from_then_on(route=UPLOADS, times=None, cut_upload_at=100_000),
        dragoman={"drain_minutes": 0.5},
        heals=True,
        without_xet=True,
    ),
    *fault(
        "revoked",
        "token revoked in the middle",
        "root at step 10, checkpoint at 5; silent",
        lambda o: o.torn_at_end,
        revoke_after_next_commit,
        dragoman=SHORT_DRAIN,
        heals=True,
    ),
    *fault(
        "quota",
        "quota 403 in the middle: not a byte more fits",
        "2 of 4 lost; silent",
        lambda o: num_lost(o) >= 2,
        storage_full,
        dragoman=SHORT_DRAIN,
        heals=True,
    ),
    *fault(
        "quota-of-four",
        "the quota holds four saves (new)",
        "(new)",
        lambda o: num_lost(o) >= 1,
        four_saves_fit,
    ),
    *fault(
        "unanswered",
        "one commit is never answered",
        "`train()` never returns",
        lambda o: o.ended.startswith("hangs"),
        from_then_on(route="commit", hold=True),
    ),
    *fault(
        "lost-answer",
        "answer lost after the commit",
        "duplicate commit, next save skipped",
        lambda o: num_lost(o) >= 1 and o.duplicates,
        from_then_on(route="commit", drop=True, after_effect=True),
        without_xet=True,
    ),
    *fault(
        "slow-uplink",
        "`save_total_limit=1` / `--keep 1`, slow uplink",
        "no resumable checkpoint ever arrives",
        lambda o: not o.durable,
        slow_uplink,
        recipe={"save_total_limit": 1},
        dragoman={"keep": 1, "drain_minutes": 0.5},
    ),
    Row(
        "two-trainers",
        "two trainers, one repository",
        "last writer wins",
        lambda o: o.silent == "silent",
        faults_two.two_trainers,
    ),
    Row(
        "two-trainers-take-over",
        "a second machine with `--take-over`",
        "(has no such thing)",
        lambda o: False,
        faults_two.take_over,
        ["dragoman"],
    ),
    Row(
        "two-trainers-first-lost",
        "two machines, the first is lost, the spare one goes on",
        "(has no such thing)",
        lambda o: False,
        faults_two.first_is_lost,
        ["dragoman"],
    ),
    Row(
        "killed-between",
        "kill -9 between the two commits / before ours",
        "weights 15, checkpoint 10: torn",
        lambda o: o.torn_at_end,
        faults_lost.killed_between_commits,
    ),
    Row(
        "resume-from-repo",
        "`--resume_from_checkpoint USER/REPO` on an empty machine",
        "`ValueError`: only local paths work",
        lambda o: o.resumed and "ValueError" in o.resumed.note,
        faults_lost.resume_from_repository,
    ),
    Row(
        "flipped-bit",
        "a flipped bit in the weights",
        "resumes without complaint",
        resumed_without_complaint,
        faults_lost.flipped_bit,
    ),
    Row(
        "missing-optimizer",
        "a missing optimizer file",
        "resumes without complaint",
        resumed_without_complaint,
        faults_lost.missing_optimizer,
    ),
    Row(
        "killed-in-save",
        "kill -9 in the middle of a save, then the same again",
        "crash loop",
        lambda o: o.resumed and o.resumed.exit_code,
        faults_lost.killed_in_save,
    ),
    Row(
        "batch-4-to-8",
        "batch 4 → 8 at resume",
        "20 samples silently never trained",
        lambda o: o.remarks[0] + (", but a line warns of the other batch size" if o.said else ""),
        faults_lost.other_batch_size,
    ),
    *fault(
        "hub-token",
        "`hub_token=` given",
        "the token lies in clear in `training_args.bin`, which is uploaded",
        lambda o: any(path.startswith("uploaded") for path in o.leaked),
        recipe={"hub_token": TOKEN},
    ),
    Row(
        "two-ranks",
        "none; two ranks, the same pairs per step",
        "loss and gradient multiplied by the number of ranks",
        lambda o: re.search(r": ×(1\.9|2\.0)\d and ×(1\.9|2\.0)", o.remarks[0]),
        faults_ranks.two_ranks,
        ranks=2,
    ),
    Row(
        "rank-killed",
        "kill -9 of one of two ranks, one restart allowed",
        "(new)",
        lambda o: True,
        faults_ranks.killed,
        ranks=2,
    ),
    Row(
        "rank-killed-apart",
        "… with `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`",
        "(new)",
        lambda o: True,
        faults_ranks.killed_apart,
        ["recipe"],
        ranks=2,
    ),
    Row(
        "rank-sigterm",
        "SIGTERM to the launcher of two ranks",
        "(new)",
        lambda o: True,
        faults_ranks.told_to_end,
        ranks=2,
    ),
    Row(
        "rank-sigterm-jit",
        "… with `enable_jit_checkpoint=True`",
        "(new)",
        lambda o: True,
        faults_ranks.told_to_end_jit,
        ["recipe"],
        ranks=2,
    ),
]
