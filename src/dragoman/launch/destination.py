"""The store of a run, asked before a machine is paid for: whether it takes the run, and whether there is work left."""

from dragoman.checkpoint.log import RunLog
from dragoman.errors import InputError
from dragoman.launch.job import Job
from dragoman.store.address import HUB, Access, open_store


def check(job: Job) -> None:
    """Look whether a repository on the Hub can take the run; it is made, private unless the run says otherwise.

    Other stores are opened with secrets and packages that this machine may lack, so only the machine asks them.

    Raises:
        InputError: The name is taken by something else, may not be written to, or the run there is finished.
        StoreUnavailable: The Hub does not answer.
    """
    if not job.store.startswith(HUB):
        return
    store = open_store(job.store, Access(public=job.config.store.public))
    store.prepare()
    finished = RunLog(store).finished
    if finished and finished.outcome == "done":
        raise InputError(
            f"{job.store}: this run is finished, at step {finished.step:,}; a machine would have nothing to do",
            "another store for another run; dragoman download brings the model",
        )
