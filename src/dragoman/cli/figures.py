"""The answers of `dragoman estimate`: as tables for people, or as JSON."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dragoman.cli.output import data, print_json, say

if TYPE_CHECKING:
    from dragoman.estimate.guide import Row
    from dragoman.estimate.hours import Hours
    from dragoman.estimate.measure import Measured
    from dragoman.estimate.memory import Way
    from dragoman.estimate.offers import Option
    from dragoman.estimate.ranking import Ranking
    from dragoman.estimate.refresh import Answer
    from dragoman.estimate.span import Span
    from dragoman.estimate.work import Work

_KNOWN_FROM = {
    "corpus": "exact: the data is prepared",
    "rows": "rows of the data; cleaning leaves fewer, and dragoman prepare tells how many",
    "samples": "if the data has as many as --max-samples",
}
MODELLED = """Times on GPUs are modelled, from a fast to a slow assumption; none was measured. The recipe's are those of
its steps alone, ours have evaluations and saves."""
_WIDTHS = (-17, 12, 12, 11, 6, 9, 9, 12)
"""Of the columns of the table of machines; the first is written from the left."""
_GUIDE_WIDTHS = (5, 9, 12, 9, 10, 12)


def asked(answers: "Iterable[Answer]", as_json: bool) -> "list[Answer]":
    """What each platform said of its prices, as soon as it is known; returns all answers."""
    made: list[Answer] = []
    for answer in answers:
        made.append(answer)
        prices = ", ".join(f"{flavor} {price:g}" for flavor, price in answer.usd_per_hour.items())
        if not as_json:
            words = f"USD per hour: {prices}" if prices else f"not asked or no answer: {answer.why_not}"
            data(f"{answer.platform.title}: {words}")
    return made


def ranking(found: "Ranking", measured: "Measured | None", name: str) -> None:
    """What a run takes, on which machines, and which to take.

    Args:
        found: All of it.
        measured: What was measured on this machine.
        name: The model's.
    """
    _work(found.work, name)
    _store(found.options)
    if found.options:
        data(_line(("machine", "time", "recipe's", "tokens/s", "GiB", "sessions", "days", "USD")))
    for option in found.options:
        data(_line(_cells(option, found)))
    if found.here:
        _here(*found.here, found.work, measured)
    _risks(found.options)
    data(f"{MODELLED} GiB: for the longest pair.")
    _prices(found.options)
    _advice(found)


def _work(work: "Work", name: str) -> None:
    epochs = work.pairs_seen / work.num_pairs
    pairs = f"{_many(work.num_directions, 'direction')}, {work.num_pairs:,} pairs ({_KNOWN_FROM[work.basis]})"
    data(f"{name}: {pairs}, each {epochs:.4g} times")
    tokens = f"{work.target_tokens / 1e6:,.2f} million target tokens"
    assumed = "" if work.basis == "corpus" else f", {work.tokens_per_pair:g} a pair assumed"
    data(f"{work.steps:,} steps of {work.pairs_per_step:,} pairs, {tokens}{assumed}")


def _store(options: "Sequence[Option]") -> None:
    from dragoman import platforms
    from dragoman.estimate.storage import UPLINK_BYTES

    if not options:
        return
    stored = [
        option.hours.storage for option in options if option.is_possible or not any(it.is_possible for it in options)
    ]
    most, quota = max(stored, key=lambda it: it.held.num_bytes), platforms.hub().private_gb
    saves = _ends([it.saves for it in stored])
    share = f"{most.held.num_bytes / 1e9 / quota:.0%} of the {quota:g} GB that a free account of the Hub has"
    data(f"storage: {most.held} ({share})")
    assumed = " (assumed)" if most.uplink == UPLINK_BYTES else ""
    size = f"{most.checkpoint_bytes / 1e9:,.2f} GB"
    upload = f"{most.upload_seconds / 60:.1f} min at {most.uplink / 1e6:g} MB/s{assumed}"
    lost = _ends([round(it.lost_seconds / 60) for it in stored])
    cut = f"a machine that is cut costs {lost} min of training at most"
    data(f"{saves} checkpoints of some {size}: an upload takes {upload}; {cut}")


def _ends(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _line(cells: "Sequence[str]", widths: "Sequence[int]" = _WIDTHS) -> str:
    """One line of a table without frames, which a narrow terminal shows too."""
    pairs = zip(cells, widths, strict=False)  # some tables have fewer columns
    return "".join(f"{cell:>{width}}" if width > 0 else f"{cell:<{-width}}" for cell, width in pairs)


def _cells(option: "Option", found: "Ranking") -> tuple[str, ...]:
    same = [it for it in option.platform.offers if (it.gpu, it.num_gpus) == (option.offer.gpu, option.offer.num_gpus)]
    flavor = f" {option.offer.flavor}" if len(same) > 1 else ""
    name = f"{'*' if option is found.best else ' '} {option.platform.name} {option.gpus}{flavor}"
    gib = f"{option.way.need_bytes / 2**30:.1f}"
    if not option.is_possible:
        why = "the session is too short" if option.way.fits else "does not fit"
        why = why if option.has_ranks else "has not so many GPUs"
        return (name, "", "", "", gib, f"  {why}")
    hours = option.hours
    return (
        name,
        _time(hours.total),
        _time(hours.recipe),
        _speed(hours, found.work),
        gib,
        _span(option.sessions),
        _days(option.days),
        _span(option.usd, money=True),
    )


def _speed(hours: "Hours", work: "Work") -> str:
    low, high = work.target_per_step / hours.step.high, work.target_per_step / hours.step.low
    return f"{low:,.0f}–{high:,.0f}" if high < 1000 else f"{low / 1000:.1f}–{high / 1000:.1f}k"


def _here(way: "Way", hours: "Hours", work: "Work", measured: "Measured | None") -> None:
    fits = "" if way.fits else "; it does not fit"
    how = f"measured in {measured.steps} steps" if measured else "modelled, --measure times it"
    took = _time(hours.total)
    data(f"this machine ({way.machine.name}): {took}, {_speed(hours, work)} tokens/s, {how}{fits}")


def _risks(options: "Sequence[Option]") -> None:
    for title, group in itertools.groupby(sorted(options, key=_title), key=_title):
        risks = dict.fromkeys(risk for option in group if option.is_possible for risk in option.risks)
        if risks:
            data(f"  {title}: {'; '.join(risks)}")
    for hint in dict.fromkeys(f"{_title(option)}: {option.hint}" for option in options if option.hint):
        data(f"  {hint}")


def _title(option: "Option") -> str:
    return option.platform.title


def _prices(options: "Sequence[Option]") -> None:
    days = sorted({option.platform.as_of for option in options})
    if days:
        data(f"Prices and limits as read in {', '.join(days)}; spot prices are not known. --refresh asks again.")


def _advice(found: "Ranking") -> None:
    best, free = found.best, found.free
    if best is None:
        say("nothing to recommend: the run fits on none of these machines; dragoman estimate --memory shows what does")
        return
    data(f"recommended: {_named(best)}: {', '.join(found.reasons(best))}")
    if free and free is not best:
        data(f"without paying: {_named(free)}: {', '.join(found.reasons(free))}")


def _named(option: "Option") -> str:
    figures = f"{_time(option.machine_hours * 3600)} with set-up, {_span(option.usd, money=True)} USD"
    return f"{option.platform.title} {option.offer.flavor} ({option.gpus}), {figures}"


def guide(rows: "Sequence[Row]") -> None:
    """The starting document's table: what it says, and what comes out."""
    epochs = rows[0].work.pairs_seen / rows[0].work.num_pairs
    widths, columns = (
        [*_GUIDE_WIDTHS],
        ["pairs", "samples", "steps, said", "1 epoch", f"{epochs:g} epochs", "hours, said"],
    )
    for title, _ in rows[0].hours:
        widths += [2 + max(12, len(f"recipe, {title}")), 2 + max(12, len(f"ours, {title}")), 7]
        columns += [f"recipe, {title}", f"ours, {title}", "saves"]
    data(_line(columns, widths))
    for row in rows:
        said = row.said
        cells = [f"{said.num_directions}", f"{said.max_samples:,}", f"{said.steps:,}", f"{row.epoch_steps:,}"]
        cells += [f"{row.work.steps:,}", "–".join(f"{hours:g}" for hours in dict.fromkeys(said.hours))]
        for _, hours in row.hours:
            times = [_time(it) for it in (hours.recipe, hours.total)]
            cells += [*times, f"{hours.storage.saves:,}"]
        data(_line(cells, widths))
    per_step, pair = rows[0].work.pairs_per_step, rows[0].work.tokens_per_pair
    data(
        f"{per_step:,} pairs a step, {pair:g} target tokens a pair (assumed). The guide counts the steps of one epoch."
    )
    data(MODELLED)
    say("for a run of yours: dragoman estimate --language-pairs en-fr en-de --max-samples 20000")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _span(span: "Span", *, money: bool = False) -> str:
    low, high = (_figure(value, money) for value in (span.low, span.high))
    return low if low == high else f"{low}–{high}"


def _time(span: "Span") -> str:
    """Seconds in the unit that suits the longer end."""
    unit, name = (1, "s") if span.high < 120 else (60, "min") if span.high < 7200 else (3600, "h")
    return f"{_span(span * (1 / unit))} {name}"


def _days(span: "Span") -> str:
    return "<0.1" if span.high < 0.1 else f"<0.1–{_figure(span.high, False)}" if span.low < 0.1 else _span(span)


def _figure(value: float, money: bool) -> str:
    """A figure with as many digits as it deserves."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.{2 if money or value < 0.095 else 1 if value < 9.95 else 0}f}"


def memory(rows: "Sequence[Way]", all_ways: bool, as_json: bool) -> None:
    """What fits where.

    Args:
        rows: All that was reckoned, those of one GPU and model together.
        all_ways: Show every way to train, and not only the recommended one.
        as_json: Print one JSON object instead.
    """
    if as_json:
        print_json({"schema": 1, "estimates": [row.to_json() for row in rows]})
        return
    # Where nothing fits, the way that needs least says by how much.
    for (machine, model), ways in itertools.groupby(rows, key=lambda row: (row.machine, row.model)):
        found = list(ways)
        if model == rows[0].model:
            data(f"{machine.title}, {machine.memory_bytes / 2**30:,.1f} GiB, {machine.precision}")
        data(f"  {model.rpartition('/')[2]}")
        best = [row for row in found if row.recommended] or [min(found, key=lambda row: row.need_bytes)]
        for row in found if all_ways else best:
            data(_way(row))
    longest = rows[0].longest
    data(f"GiB: needed for the longest pair, {longest:,} tokens. tokens: source and target, of the largest microbatch.")


def _way(row: "Way") -> str:
    regime = row.regime
    name = f"{regime.vocabulary} vocabulary, {regime.optimizer}"
    if regime.adapter == "lora":
        name = f"LoRA of rank {regime.lora_rank}, {regime.vocabulary} vocabulary"
    if regime.gradient_checkpointing:
        name += ", checkpointing"
    if row.parallel:
        name += f", {row.parallel} on {row.team.ranks}"
    sizes = f"{'*' if row.recommended else ' '} {name:47} {row.need_bytes / 2**30:6,.1f} GiB"
    if not row.fits:
        return f"  {sizes}  does not fit"
    if row.tokens < row.longest:
        return f"  {sizes} {row.tokens_alone:8,} tokens, if that is the whole step"
    return f"  {sizes} {row.tokens:8,} tokens{', recommended' if row.recommended else ''}"
