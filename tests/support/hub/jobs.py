"""Jobs: what was asked for is kept, and nothing is run.

What a request may hold, and how it is answered: `huggingface_hub` 1.5 to 2.4 (`_jobs_api.py`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.hub.messages import Answer, Refused, Request
from tests.support.hub.reading import timestamp

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

KNOWN = {
    *("command", "arguments", "environment", "secrets", "flavor", "timeoutSeconds", "attempts", "labels"),
    *("dockerImage", "spaceId", "volumes", "expose", "ssh", "network", "resourceGroupId"),
}
MOST_LABEL_CHARACTERS = 63


@dataclass
class Job:
    """One job."""

    id: str
    owner: str
    asked: dict[str, Any]
    """The request that started it, secrets and all."""
    created: float
    stage: str = "SCHEDULING"
    """Tests change it."""

    def answer(self, hub: "HubStandIn") -> dict[str, Any]:
        """The job as the Hub tells of it: of secrets only the names."""
        told = {name: value for name, value in self.asked.items() if name not in ("timeoutSeconds", "secrets")}
        return told | {
            "id": self.id,
            "createdAt": timestamp(self.created),
            "secrets": dict.fromkeys(self.asked.get("secrets", {}), ""),
            "status": {"stage": self.stage, "message": None},
            "owner": {"id": f"{self.owner}-id", "name": self.owner, "type": "user"},
        }


def job_start(hub: "HubStandIn", request: Request) -> Answer:
    """Note a job."""
    asked, owner = request.json(), allowed(request)
    if not hub.has_credit:
        raise Refused(402, "Payment required: add credits to start a job")
    if unknown := asked.keys() - KNOWN:
        raise Refused(400, f"Unknown keys: {', '.join(sorted(unknown))}")
    if asked["flavor"] not in hub.job_prices:
        raise Refused(400, f"Invalid flavor: {asked['flavor']}")
    if any(len(str(value)) > MOST_LABEL_CHARACTERS for value in asked.get("labels", {}).values()):
        raise Refused(400, "A label is too long")
    job = Job(f"{len(hub.jobs) + 1:024x}", owner, asked, hub.clock())
    hub.jobs[job.id] = job
    return Answer.json(job.answer(hub))


def job_list(hub: "HubStandIn", request: Request) -> Answer:
    """All jobs of an account."""
    owner = allowed(request)
    return Answer.json([job.answer(hub) for job in hub.jobs.values() if job.owner == owner])


def job_look(hub: "HubStandIn", request: Request) -> Answer:
    """One job."""
    return Answer.json(find(hub, request).answer(hub))


def job_cancel(hub: "HubStandIn", request: Request) -> Answer:
    """End a job."""
    job = find(hub, request)
    if job.stage not in ("SCHEDULING", "RUNNING"):
        raise Refused(400, "This job has ended")
    job.stage = "CANCELED"
    return Answer.json(job.answer(hub))


def job_hardware(hub: "HubStandIn", request: Request) -> Answer:
    """Which machines there are, and what a minute costs."""
    return Answer.json(
        [
            {
                "name": name,
                "prettyName": name,
                "cpu": "8 vCPU",
                "ram": "30 GB",
                "accelerator": None,
                "unitCostMicroUSD": round(usd / 60 * 1e6),
                "unitCostUSD": usd / 60,
                "unitLabel": "minute",
            }
            for name, usd in hub.job_prices.items()
        ]
    )


def allowed(request: Request) -> str:
    """The account that pays, if the token may spend its money."""
    owner = request.rest[0]
    if request.token is None:
        raise Refused(401, "Invalid username or password.")
    if not request.token.may_run_jobs(owner):
        raise Refused(403, "Forbidden: you need the permission job.write")
    return owner


def find(hub: "HubStandIn", request: Request) -> Job:
    """The job that a request names."""
    owner = allowed(request)
    job = hub.jobs.get(request.rest[1])
    if job is None or job.owner != owner:
        raise Refused(404, "Job not found")
    return job
