"""How a supervisor starts machines: as `launch` does, for a run that is in its store already."""

from dragoman import platforms
from dragoman.config import RunConfig
from dragoman.errors import InputError
from dragoman.launch import clients, loading
from dragoman.launch.choosing import Place
from dragoman.launch.job import Handle
from dragoman.launch.options import LaunchOptions
from dragoman.launch.supervise import Begin


def begin(config: RunConfig, options: LaunchOptions) -> Begin:
    """Starts machines for a run, in the name of this machine's account at each platform.

    Args:
        config: The run, as its store holds it.
        options: What was said about machines; GPU, number, attempts and limits are the supervisor's.
    """

    def start(place: Place, max_hours: float) -> Handle:
        # One machine, once: that is what the supervisor has reckoned with; it is itself the next attempt.
        ours = {"gpu": place.offer.flavor, "max_hours": max_hours, "attempts": 1, "nodes": 1, "max_usd": None}
        said = options.model_copy(update=ours)
        job = loading.job(config, said, place.platform, continues=config.store.keeps_data)
        plan, client = clients.plan_for(job), clients.client_for(clients.way(place.platform.name))
        client.check(job, plan)
        return client.submit(job, plan)

    return Begin(start, clients.client_for)


def places(words: list[str]) -> list[Place]:
    """The machines that `--on` lists, as PLATFORM or PLATFORM:GPU.

    Raises:
        InputError: One is not known.
    """
    found: list[Place] = []
    for word in words:
        name, _, gpu = word.partition(":")
        platform = platforms.find(name)
        found.append(Place(platform, platform.offer(gpu or None)))
    if not found:
        raise InputError("--on: no platform is named", "--on kaggle runpod:rtx4090")
    return found
