"""Which machine to take, and why: what `estimate` recommends, and `launch auto` takes.

Machines on which the run fits, within the budget, in this order: first those that need
nobody beside them, then the cheaper, then those with fewer risks, then the sooner.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dragoman import gpus
from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.estimate import memory
from dragoman.estimate.hours import Hours, hours_of
from dragoman.estimate.measure import Measured
from dragoman.estimate.memory import Way
from dragoman.estimate.offers import Option, offered, option_of
from dragoman.estimate.team import ALONE, Team, team_of
from dragoman.estimate.work import Work
from dragoman.platforms import Offer, Platform


@dataclass(frozen=True)
class Budget:
    """What may be spent on the whole run; the upper end of an estimate must stay within."""

    max_usd: float | None = None
    max_days: float | None = None
    """Calendar days."""

    def allows(self, option: Option) -> bool:
        """Whether an option stays within, even if it is slow."""
        within_usd = self.max_usd is None or option.usd.high <= self.max_usd
        return within_usd and (self.max_days is None or option.days.high <= self.max_days)

    def __str__(self) -> str:
        parts = [f"--max-usd {self.max_usd:g}"] if self.max_usd is not None else []
        return " ".join([*parts, *([f"--max-days {self.max_days:g}"] if self.max_days is not None else [])])


@dataclass(frozen=True)
class Ranking:
    """All machines for a run."""

    work: Work
    options: tuple[Option, ...]
    """The best first; those that are not possible come last."""
    budget: Budget
    here: tuple[Way, Hours] | None = None
    """This machine, where it was asked for."""

    @property
    def best(self) -> Option | None:
        """The one to take; None when the run fits nowhere, or nowhere within the budget."""
        return next((it for it in self.options if it.is_possible and self.budget.allows(it)), None)

    @property
    def free(self) -> Option | None:
        """The best that costs nothing; None when there is none."""
        within = (it for it in self.options if it.is_possible and self.budget.allows(it))
        return next((it for it in within if it.usd.high == 0), None)

    def chosen(self) -> Option:
        """The one to take.

        Raises:
            InputError: There is none; says what would be needed.
        """
        if self.best:
            return self.best
        possible = [it for it in self.options if it.is_possible]
        if not possible:
            raise InputError(
                _nowhere(self.options), "dragoman estimate --memory: what fits where, trained in which way"
            )
        cheapest = min(possible, key=lambda it: (it.usd.high, it.days.high))
        soonest = min(possible, key=lambda it: (it.days.high, it.usd.high))
        raise InputError(
            f"{self.budget}: too small a budget; the cheapest is {_figures(cheapest)}",
            f"more of it; the soonest is {_figures(soonest)}",
        )

    def reasons(self, option: Option) -> list[str]:
        """Why an option stands where it stands, in words."""
        rivals = [it for it in self.options if it.is_possible and it.needs_nobody == option.needs_nobody]
        said = ["needs nobody beside it" if option.needs_nobody else "a person has to look after it"]
        if option.usd.high == 0:
            said.append("costs nothing")
        elif option is min(rivals, key=lambda it: it.usd.middle):
            said.append("the cheapest of those" if len(rivals) > 1 else "the only one of those")
        ratio = option.hours.recipe.middle / option.hours.training.middle
        said.append(f"its steps take 1/{ratio:.1f} of the recipe's time there")
        slower = [it for it in rivals if it.usd.middle > option.usd.middle and it.days.middle > option.days.middle]
        if slower:
            said.append(f"sooner done and cheaper than {len(slower)} other{'s' * (len(slower) > 1)}")
        return said

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        best = self.best
        found: dict[str, Any] = {"work": self.work.to_json()}
        found["options"] = [it.to_json() | {"within_budget": self.budget.allows(it)} for it in self.options]
        found["recommended"] = (
            {"platform": best.platform.name, "flavor": best.offer.flavor, "reasons": self.reasons(best)}
            if best
            else None
        )
        if self.here:
            way, hours = self.here
            found["here"] = {
                "gpu": way.machine.name,
                "fits": way.fits,
                **hours.to_json(),
                "storage": hours.storage.to_json(),
            }
        return found


def rank(
    config: RunConfig,
    work: Work,
    *,
    platforms: Sequence[str] = (),
    only: Sequence[str] = (),
    budget: Budget = Budget(),
    measured: Measured | None = None,
    here: bool = False,
) -> Ranking:
    """All machines that are known for a run, the best first.

    Args:
        config: The run.
        work: What it has to do (`work_of`).
        platforms: Only these; all without.
        only: Only these GPUs; all without.
        budget: What may be spent.
        measured: What was measured on this machine; counts wherever the same GPU is let.
        here: Reckon with this machine's CPU too.

    Raises:
        InputError: A platform or GPU is not known, none of the platforms has the GPU, or the model is not known.
    """
    names = tuple(gpu for gpu in only if gpu != gpus.CPU)
    for name in names:
        gpus.find(name)
    is_here_alone = bool(only) and not names
    found = [] if is_here_alone else offered(tuple(platforms), names, config.ranks.devices)
    if not names:
        found = [(place, offer) for place, offer in found if memory.can_compute(config, gpus.find(offer.gpu))]
    if not found and not here:
        raise InputError(f"--gpu {' '.join(only)}: no platform lets one", ", ".join(_let()))
    options = [_option(config, work, place, offer, measured) for place, offer in dict.fromkeys(found)]
    ordered = sorted(options, key=_order)
    return Ranking(work, tuple(ordered), budget, _here(config, work, measured) if here or measured else None)


def _order(option: Option) -> tuple[bool, bool, float, int, float]:
    return not option.is_possible, not option.needs_nobody, option.usd.middle, len(option.risks), option.days.middle


def _option(config: RunConfig, work: Work, place: Platform, offer: Offer, measured: Measured | None) -> Option:
    way = _way(config, offer.gpu, work, team_of(config, place, offer))
    is_alike = measured and (measured.machine, measured.ranks) == (offer.gpu, way.team.ranks)
    return option_of(config, work, place, offer, way, measured if is_alike else None)


def _way(config: RunConfig, gpu: str, work: Work, team: Team = ALONE) -> Way:
    return memory.as_configured(config, memory.machine(gpu, config), work.rows, team)


def _here(config: RunConfig, work: Work, measured: Measured | None) -> tuple[Way, Hours] | None:
    """This machine; None when it has a GPU of which nothing is known but its name."""
    name = measured.machine if measured else gpus.CPU
    if name != gpus.CPU and name not in gpus.GPUS:
        return None
    team = Team(measured.ranks) if measured and name != gpus.CPU else ALONE
    way = _way(config, name, work, team)
    return way, hours_of(config, work, way, measured)


def _let() -> list[str]:
    return sorted({offer.gpu for _, offer in offered((), ())})


def _nowhere(options: Sequence[Option]) -> str:
    if not options:
        return "no platform was asked for"
    roomy = max(options, key=lambda it: it.way.machine.memory_bytes)
    need, has = _gib(roomy.way.need_bytes), _gib(roomy.way.machine.memory_bytes)
    return f"the run fits nowhere: on a {roomy.way.machine.title} it needs {need}, and that has {has}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"


def _figures(option: Option) -> str:
    cost = f"{option.usd.low:,.2f} to {option.usd.high:,.2f} USD, {option.days.low:.1f} to {option.days.high:.1f} days"
    return f"{option.platform.title} with {option.offer.gpu}: {cost}"
