"""A rented container that gives itself back: when its work ends, however that ends, and when its hours are over.

Neither RunPod nor vast.ai has a limit that can be set when a machine is made (RunPod's
`terminateAfter` was accepted and acted on by nothing, and is gone: runpodctl, pull request
330). So the limit is the first process of the container. It needs a shell, `timeout` and
Python, and nothing that could fail to install.
"""

from typing import NamedTuple

LAST_SECONDS = 300
"""Between asking the run to save and stop, and ending it; the run's own deadline comes before."""
_STATE = "$HOME/.dragoman-ends"
"""When this machine ends; written at its first start, so that one that was paused does not begin anew."""
_WORK = "$HOME/dragoman-work.sh"


class Release(NamedTuple):
    """How a container asks its vendor to take it back, with a key that may do little else."""

    base: str
    """The vendor's API, unless `base_variable` says another."""
    base_variable: str
    path: str
    """What is deleted there; `%s` is the machine."""
    id_variable: str
    """The variable in which the container finds what the vendor calls it."""
    key_variable: str
    """The variable in which it finds the key."""
    otherwise: str = "false"
    """A shell command that does the same another way."""


RUNPOD = Release(
    "https://api.runpod.io",
    "RUNPOD_API_BASE_URL",
    "/v2/pods/%s",
    "RUNPOD_POD_ID",
    "RUNPOD_API_KEY",
    'runpodctl remove pod "$RUNPOD_POD_ID"',
)
VAST = Release("https://console.vast.ai", "VAST_URL", "/api/v0/instances/%s/", "CONTAINER_ID", "CONTAINER_API_KEY")

_DELETE = """
import os, urllib.error, urllib.request as web
env = os.environ
url = (env.get("{base_variable}") or "{base}") + "{path}" % env["{id_variable}"]
head = {{"Authorization": "Bearer " + env["{key_variable}"], "User-Agent": "dragoman"}}
try:
    web.urlopen(web.Request(url, method="DELETE", headers=head), timeout=60)
except urllib.error.HTTPError as error:
    if error.code not in (404, 410):
        raise
"""


def guarded(work: str, hours: float, release: Release) -> str:
    """A shell script that does the work for at most so many hours, and then gives the machine back until that is done.

    Args:
        work: A shell script; its exit code is told and otherwise of no concern, because what it made is in the store.
        hours: From the first start of the machine to its end.
        release: How.
    """
    delete = _DELETE.format(**release._asdict()).strip()
    return f"""export PATH="/opt/conda/bin:$PATH"
give_back() {{
python - <<'END-OF-PYTHON'
{delete}
END-OF-PYTHON
}}
cat > "{_WORK}" <<'END-OF-WORK'
{work.rstrip()}
END-OF-WORK
[ -s "{_STATE}" ] || echo $(( $(date +%s) + {int(hours * 3600)} )) > "{_STATE}"
left=$(( $(cat "{_STATE}") - $(date +%s) - {LAST_SECONDS} ))
if [ "$left" -gt 0 ]; then
  timeout --signal=TERM --kill-after={LAST_SECONDS} "$left" bash "{_WORK}"
  echo "dragoman: the work ended with $?"
fi
echo 'dragoman: this machine is given back'
until give_back || {release.otherwise}; do
  echo 'dragoman: it could not be given back, and still costs money; again in a minute'
  sleep 60
done
# A container whose command ends is started again.
exec sleep 3600
"""
