"""From a run file to a job: the run as a machine elsewhere can do it, and the machine within its limits.

Everything that can be known without asking anybody is refused here: no store that
outlives the machine, data or a model that only lies here, a GPU that the platform has
not, a budget that is too small.
"""

import re
from pathlib import Path

from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.languages import parse_pairs
from dragoman.launch import wheel
from dragoman.launch.carrying import FILES, Carried, carry, catalogue_packages, extras
from dragoman.launch.job import Job
from dragoman.launch.options import LaunchOptions
from dragoman.platforms import Offer, Platform
from dragoman.store.address import FILE, normal

USUAL_HOURS = 24.0
LEAST_HOURS = 0.5
"""Less is mostly spent on installing."""
START_MINUTES = 10.0
"""What a machine may take until training starts; the run's own deadline is so much before the platform's."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")


def job(config: RunConfig, options: LaunchOptions, platform: Platform, *, continues: bool = False) -> Job:
    """The run, as it will be on a machine of this platform.

    Args:
        config: The run.
        options: What was said about the machine.
        platform: Where it will be.
        continues: The run is in its store already, with its data: only the package travels.

    Raises:
        InputError: It cannot be done there; the message says why, and what can.
    """
    _check_pairs(config)
    if not continues:
        _check_model(config)
    store = _store(config)
    offer = _offer(options, platform)
    if (devices := config.ranks.devices or 1) > offer.num_gpus:
        raise InputError(f"--devices {devices}: this machine has {offer.num_gpus} GPUs", f"--num-gpus {devices}")
    max_hours = _hours(options, platform, offer)
    carried = Carried(config.data, {}) if continues else carry(config.data)
    name, data = wheel.contents()
    wanted = ",".join(extras(config))
    return Job(
        name=_name(options.name, store),
        config=_there(config.model_copy(update={"data": carried.data}), store, max_hours, continues),
        platform=platform,
        offer=offer,
        num_nodes=options.nodes,
        spot=options.spot,
        max_hours=max_hours,
        attempts=options.attempts,
        carries={name: data, **{f"{FILES}/{path}": content for path, content in carried.files.items()}},
        requires=(f"{name}[{wanted}]" if wanted else name, *(() if continues else catalogue_packages(config.data))),
        max_usd=options.max_usd,
        bundle=options.bundle,
    )


def _there(config: RunConfig, store: str, max_hours: float, continues: bool) -> RunConfig:
    """The run's own options: what belongs to this machine's session is left out."""
    before = (START_MINUTES + config.store.drain_minutes) / 60
    session = round(max(max_hours / 2, max_hours - before), 2)
    hours = min(session, config.training.max_hours or session)
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"max_hours": hours}),
            "save": config.save.model_copy(update={"output": None, "resume": "auto"}),
            "ranks": config.ranks.model_copy(update={"nodes": 1, "node_rank": None, "main_address": None}),
            "store": config.store.model_copy(
                update={
                    "store": store,
                    "hub_model_id": None,
                    "resume_from_checkpoint": store if continues else None,
                    "take_over": False,
                }
            ),
        }
    )


def _check_pairs(config: RunConfig) -> None:
    if not config.data.language_pairs:
        raise InputError("the run file has no language_pairs", "language_pairs: [en-fr]")
    for text in config.data.language_pairs:
        parse_pairs(text, config.data.new_codes)


def _check_model(config: RunConfig) -> None:
    model = config.model.model
    if not model.startswith("scratch:") and Path(model).expanduser().exists():
        raise InputError(
            f"--model {model}: a folder of this machine is not there on another one",
            f"upload it to the Hub, and name it: hf upload USER/NAME {model}",
        )


def _store(config: RunConfig) -> str:
    hint = "store: hf://USER/REPO (or s3://BUCKET/PATH, gs://…, az://…)"
    if config.store.url is None:
        raise InputError("the run file names no store, and nothing that it makes would outlive its machine", hint)
    url = normal(config.store.url)
    if url.startswith(FILE):
        raise InputError(f"--store {config.store.url}: no other machine reaches a folder of this one", hint)
    return url


def _name(asked: str | None, store: str) -> str:
    if asked is None:
        words = re.sub(r"[^a-z0-9]+", "-", store.rpartition("/")[2].lower()).strip("-")
        return words[:40].strip("-") or "run"
    if not _NAME.fullmatch(asked):
        raise InputError(
            f"--name {asked}: not a name that every platform takes",
            "at most 42 lower-case letters, digits and dashes, such as nllb-en-fr",
        )
    return asked


def _offer(options: LaunchOptions, platform: Platform) -> Offer:
    offer = platform.offer(options.gpu)
    wanted = options.num_gpus or offer.num_gpus
    found = platform.with_gpus(offer, wanted)
    if found is None:
        raise InputError(
            f"--num-gpus {wanted}: {platform.title} has no machine with so many {offer.gpu}",
            f"--num-gpus {offer.num_gpus}",
        )
    offer = found
    if options.spot and not platform.has_spot:
        raise InputError(f"--spot: {platform.title} has no machines that may be taken away", "leave it out")
    return offer


def _hours(options: LaunchOptions, platform: Platform, offer: Offer) -> float:
    """When the platform ends the machine: as asked, or as long as platform and budget allow."""
    limit = platform.limit_hours(offer)
    if options.max_hours and limit and options.max_hours > limit:
        raise InputError(
            f"--max-hours {options.max_hours:g}: {platform.title} ends a session after {limit:g} hours",
            f"--max-hours {limit:g}; the next session continues from the store",
        )
    hours = options.max_hours or min(USUAL_HOURS, limit or USUAL_HOURS)
    usd = (offer.usd_per_hour or 0.0) * options.nodes * options.attempts
    if options.max_usd is None or usd * hours <= options.max_usd:
        return hours
    affordable = int(options.max_usd / usd * 60) / 60
    times = " in all" if options.nodes * options.attempts > 1 else ""
    machine = f"{offer.flavor} at {platform.title}, ${usd:.2f} an hour{times}"
    if options.max_hours:
        raise InputError(
            f"--max-usd {options.max_usd:g}: {hours:g} hours may cost ${usd * hours:.2f} ({machine})",
            f"--max-usd {usd * hours:.2f}, or --max-hours {affordable:.2f}",
        )
    if affordable < LEAST_HOURS:
        raise InputError(
            f"--max-usd {options.max_usd:g}: buys {affordable * 60:.0f} minutes ({machine}), too few to get anywhere",
            f"--max-usd {usd * LEAST_HOURS:.2f} or more, or a cheaper machine: dragoman launch auto",
        )
    return affordable
