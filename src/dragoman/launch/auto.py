"""`launch auto`: of machines in order of preference, the first that can be started for the money."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.launch import clients, loading
from dragoman.launch.job import Job, Plan
from dragoman.launch.options import LaunchOptions
from dragoman.platforms import Offer, Platform


@dataclass(frozen=True)
class Candidate:
    """A machine, and what speaks for or against it."""

    platform: Platform
    offer: Offer
    why: str
    """In one sentence."""
    is_possible: bool = True
    """Whether the run would come to its end there."""

    def to_json(self) -> dict[str, object]:
        """What a program may read."""
        names = {"platform": self.platform.name, "flavor": self.offer.flavor, "gpu": self.offer.gpu}
        return {**names, "why": self.why, "possible": self.is_possible}


@dataclass(frozen=True)
class Choice:
    """The machine that was taken, and what was said of all."""

    job: Job
    plan: Plan
    chosen: Candidate
    candidates: Sequence[Candidate]
    """All, in order of preference; those that were passed over say why."""


def choose(config: RunConfig, options: LaunchOptions, ranked: Iterable[Candidate]) -> Choice:
    """Take the first machine that can be started within the budget.

    Args:
        config: The run.
        options: What was said about the machine; `--max-usd` must be among it.
        ranked: Machines, the best first.

    Raises:
        InputError: There is no budget, or none can be started; the message says why, one by one.
    """
    if options.max_usd is None:
        raise InputError("launch auto: nobody said what it may cost", "--max-usd 5")
    chosen: tuple[Job, Plan, Candidate] | None = None
    seen: list[Candidate] = []
    for candidate in ranked:
        if chosen is None and candidate.is_possible:
            try:
                machine = {"gpu": candidate.offer.flavor, "num_gpus": candidate.offer.num_gpus}
                job = loading.job(config, options.model_copy(update=machine), candidate.platform)
                chosen = job, clients.plan_for(job), candidate
            except InputError as error:
                candidate = replace(candidate, why=error.message, is_possible=False)
        seen.append(candidate)
    if chosen is None:
        said = "\n".join(f"  {one.platform.name} {one.offer.flavor}: {one.why}" for one in seen)
        raise InputError(f"no machine can do this for ${options.max_usd:g}:\n{said}", "a higher --max-usd")
    return Choice(*chosen, seen)
