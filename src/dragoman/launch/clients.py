"""Which module renders for which platform and talks to it; a client's library is imported when it is used."""

from collections.abc import Callable
from typing import Any

from dragoman.errors import InputError
from dragoman.launch.job import Client, Job, Plan

Connect = Callable[[str], Client]
"""Gives the client of a platform, by its name."""


def plan_for(job: Job) -> Plan:
    """The plan of a job on its platform.

    Raises:
        InputError: The platform cannot do that, or nothing renders for it.
    """
    return _module(way(job.platform.name)).plan(job)


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
    if platform in ("sky", "lambda"):
        from dragoman.launch import sky_client

        return sky_client.connect()
    return _module(platform).connect()


def _module(platform: str) -> Any:
    """The module that has `plan` and `connect` of a platform."""
    match platform:
        case "space":
            from dragoman.launch import space as module
        case "jobs":
            from dragoman.launch import jobs as module
        case "colab":
            from dragoman.launch import colab as module
        case "kaggle":
            from dragoman.launch import kaggle as module
        case "runpod":
            from dragoman.launch import runpod as module
        case "vast":
            from dragoman.launch import vast as module
        case "sky":
            from dragoman.launch import sky as module
        case name:
            raise InputError(f"{name}: nothing is started there", "another platform")
    return module
