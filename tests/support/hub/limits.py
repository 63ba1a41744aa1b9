"""What an owner may not exceed: bytes of private repositories, commits per hour, requests per five minutes."""

from typing import TYPE_CHECKING

from tests.support.hub.messages import Refused
from tests.support.hub.repository import Repository

if TYPE_CHECKING:
    from tests.support.hub.hub import HubStandIn

WINDOW_SECONDS = 300


def check_quota(hub: "HubStandIn", repository: Repository, more: int) -> None:
    """Refuse an upload that does not fit into the private space of its owner."""
    owner = repository.key.split("/")[1]
    private = [it for it in hub.repositories.values() if it.private and it.key.split("/")[1] == owner]
    for it in private:
        it.free_what_is_due(hub.clock())
    if hub.private_quota_bytes is None or not repository.private or not more:
        return
    if sum(it.held_bytes for it in private) + more > hub.private_quota_bytes:
        reason = "Private repository storage limit reached, please upgrade your plan to increase your private"
        raise Refused(403, f"{reason} storage limit.")


def count_commit(hub: "HubStandIn", repository: Repository) -> None:
    """Refuse a commit that is one too many for this hour; count it otherwise."""
    now = hub.clock()
    repository.commit_times = [it for it in repository.commit_times if it > now - 3600]
    if hub.commits_per_hour is not None and len(repository.commit_times) >= hub.commits_per_hour:
        reason = f"You have exceeded the rate limit for repository commits ({hub.commits_per_hour} per hour)."
        wait = {} if hub.retry_after_seconds is None else {"Retry-After": str(hub.retry_after_seconds)}
        raise Refused(429, f"{reason} You can retry this action in about 1 hour.", headers=wait)
    repository.commit_times.append(now)


def count_request(hub: "HubStandIn", owner: str) -> None:
    """Refuse a request that is one too many for these five minutes; count it otherwise."""
    now = hub.clock()
    window, seen = hub.request_counts.get(owner, (0, 0))
    if window != int(now / WINDOW_SECONDS):
        window, seen = int(now / WINDOW_SECONDS), 0
    limit = hub.requests_per_five_minutes
    if limit is not None and seen >= limit:
        left = int((window + 1) * WINDOW_SECONDS - now) + 1
        headers = {
            "RateLimit": f'"api";r=0;t={left}',
            "RateLimit-Policy": f'"fixed window";"api";q={limit};w={WINDOW_SECONDS}',
        }
        reason = f"We had to rate limit you, you hit the quota of {limit} api requests per 5 minutes period."
        raise Refused(429, reason, headers=headers)
    hub.request_counts[owner] = window, seen + 1
