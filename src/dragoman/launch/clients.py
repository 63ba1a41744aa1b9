"""Which module renders for which platform and talks to it; a client's library is imported when it is used."""

from collections.abc import Callable

from dragoman.errors import InputError
from dragoman.launch.job import Client, Job, Plan

Connect = Callable[[str], Client]
"""Gives the client of a platform, by its name."""


def plan_for(job: Job) -> Plan:
    """The plan of a job on its platform.

    Raises:
        InputError: The platform cannot do that, or nothing renders for it.
    """
    match way(job.platform.name):
        case "jobs":
            from dragoman.launch import jobs as renderer
        case "sky":
            from dragoman.launch import sky as renderer
        case "runpod":
            from dragoman.launch import runpod as renderer
        case "vast":
            from dragoman.launch import vast as renderer
        case "colab":
            from dragoman.launch import colab as renderer
        case "kaggle":
            from dragoman.launch import kaggle as renderer
        case "space":
            from dragoman.launch import space as renderer
        case name:
            raise InputError(f"{name}: nothing is started there", "another platform")
    return renderer.plan(job)


def way(platform: str) -> str:
    """By which platform's client machines of a platform are started: its own, or SkyPilot's where that is installed.

    A machine is found again by the client that started it, which its handle names.
    """
    from dragoman.launch import sky_client

    through_sky = platform == "lambda" or (platform in ("runpod", "vast") and sky_client.is_there())
    return "sky" if through_sky else platform


def client_for(platform: str) -> Client:
    """The client of a platform, for the account of this machine.

    Raises:
        InputError: Its package is not installed, or there is no client.
    """
    match platform:
        case "jobs":
            from dragoman.launch import jobs as talks
        case "sky" | "lambda":
            from dragoman.launch import sky_client as talks
        case "runpod":
            from dragoman.launch import runpod as talks
        case "vast":
            from dragoman.launch import vast as talks
        case "colab":
            from dragoman.launch import colab as talks
        case "kaggle":
            from dragoman.launch import kaggle as talks
        case "space":
            from dragoman.launch import space as talks
        case name:
            raise InputError(f"{name}: nothing is started there", "another platform")
    return talks.connect()
