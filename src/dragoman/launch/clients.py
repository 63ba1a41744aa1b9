"""Which module renders for which platform and talks to it; a client's library is imported when it is used."""

from dragoman.errors import InputError
from dragoman.launch.job import Client, Job, Plan


def plan_for(job: Job) -> Plan:
    """The plan of a job on its platform.

    Raises:
        InputError: The platform cannot do that, or nothing renders for it.
    """
    match job.platform.name:
        case "jobs":
            from dragoman.launch import jobs as renderer
        case "colab":
            from dragoman.launch import colab as renderer
        case "kaggle":
            from dragoman.launch import kaggle as renderer
        # Here each other platform gets its case: space, runpod, vast, lambda and sky.
        case name:
            raise _not_yet(name)
    return renderer.plan(job)


def client_for(platform: str) -> Client:
    """The client of a platform, for the account of this machine.

    Raises:
        InputError: Its package is not installed, or there is no client.
    """
    match platform:
        case "jobs":
            from dragoman.launch import jobs as talks
        case "colab":
            from dragoman.launch import colab as talks
        case "kaggle":
            from dragoman.launch import kaggle as talks
        # Here too.
        case name:
            raise _not_yet(name)
    return talks.connect()


def _not_yet(name: str) -> InputError:
    return InputError(f"{name}: nothing is started there yet", "dragoman launch jobs RUN.yaml")
