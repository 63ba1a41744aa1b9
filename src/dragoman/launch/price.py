"""What a machine may cost in an hour: as much as its user has agreed to, and not more."""

from dragoman.errors import InputError
from dragoman.launch.job import Job


def most_per_hour(job: Job) -> float:
    """Highest price of one machine, in USD per hour: what `--max-usd` leaves for each, else what was shown."""
    if job.max_usd is None:
        return job.offer.usd_per_hour or 0.0
    return job.max_usd / (job.num_nodes * job.attempts * job.max_hours)


def check(job: Job, usd_per_hour: float, what: str) -> None:
    """Raise `InputError` if a machine costs more than that now.

    Args:
        job: Whose it would be.
        usd_per_hour: What the vendor asks.
        what: The machine, in words.
    """
    most = most_per_hour(job)
    if usd_per_hour > most * 1.001:
        whole = usd_per_hour * job.num_nodes * job.attempts * job.max_hours
        raise InputError(
            f"{what} costs ${usd_per_hour:.2f} an hour now, more than the ${most:.2f} that were agreed to",
            f"--max-usd {whole:.2f} --max-hours {job.max_hours:g}, if that is worth it",
        )
