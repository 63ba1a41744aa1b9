"""Rented GPUs anywhere through SkyPilot: a task in YAML, which its own executable starts as a managed job.

SkyPilot is never imported and never installed beside this package: it pins an old `click`.
What it would refuse late, in its own words, is refused here first.
"""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from dragoman import __version__, gpus, platforms
from dragoman.config import from_flat
from dragoman.errors import ExitCode, InputError
from dragoman.launch import bundle, credentials, price
from dragoman.launch.carrying import FILES
from dragoman.launch.job import Job, Plan

TASK = "task.yaml"
ENDS = "RUN_ENDS_AT"
"""The variable with the time, in seconds since 1970, at which all attempts are over; set when the job is started."""
ACCELERATORS = {
    "t4": "T4",
    "l4": "L4",
    "a10": "A10",
    "a10g": "A10G",
    "rtx4090": "RTX4090",
    "a100-40": "A100",
    "a100-80": "A100-80GB",
    "h100-80": "H100",
    "h200-141": "H200",
}
"""SkyPilot's names of the GPUs that `dragoman.gpus` knows."""
ANYWHERE = "sky"
"""The platform for which SkyPilot chooses the cloud."""
INFRA = {"runpod": "runpod", "lambda": "lambda", "vast": "vast", ANYWHERE: None}
"""SkyPilot's name of a platform; None: any that the user has set up."""
_APART = ("runpod", "vast")
"""Clouds whose machines SkyPilot does not connect."""
DISK_GB = 100
IDLE_MINUTES = 10
"""After which a machine goes, should SkyPilot's controller have died."""
_HOME = "~/dragoman"
"""Where all of it is on the machine."""
LAST_SECONDS = 300
"""Between asking the run to save and stop, and ending it."""
_TOO_FEW_SECONDS = 1200
"""Left for a machine that would be ended before it has installed much."""


def plan(job: Job) -> Plan:
    """A task that SkyPilot restarts elsewhere when its machine is taken, or when the run asks to be resumed.

    Raises:
        InputError: The platform cannot do that.
    """
    check_possible(job)
    files = {bundle.RUN_FILE: bundle.run_file(job), **job.carries}
    return Plan(
        files={TASK: text(task(job)), **files},
        secrets=credentials.names(job.store),
    )


def check_possible(job: Job) -> None:
    """Raise `InputError` for what SkyPilot or the cloud would refuse later."""
    title = job.platform.title
    if job.platform.name not in INFRA:
        raise InputError(f"{title} is not reached through SkyPilot", f"one of: {', '.join(INFRA)}")
    if job.offer.gpu not in ACCELERATORS:
        gpus.find(job.offer.gpu)
        raise InputError(f"--gpu {job.offer.gpu}: SkyPilot has no name for it", ", ".join(ACCELERATORS))
    job.platform.offer(job.offer.gpu)
    if job.spot and not job.platform.has_spot:
        raise InputError(f"--spot: {title} has no machines that may be taken away", "leave it out")
    if job.num_nodes > 1 and job.platform.name in _APART:
        raise InputError(
            f"--nodes {job.num_nodes}: machines of {title} are not connected", "--nodes 1, or the platform sky"
        )


def task(job: Job) -> dict[str, Any]:
    """The task, as SkyPilot's YAML has it."""
    infra = INFRA[job.platform.name]
    resources: dict[str, Any] = {
        **({"infra": infra} if infra else {}),
        "accelerators": f"{ACCELERATORS[job.offer.gpu]}:{job.offer.num_gpus}",
        "use_spot": job.spot,
        "max_hourly_cost": round(price.most_per_hour(job), 4),
        "disk_size": DISK_GB,
        "autostop": {"idle_minutes": IDLE_MINUTES, "down": True},
        "job_recovery": {
            "strategy": "EAGER_NEXT_REGION",
            "max_restarts_on_errors": job.attempts - 1,
            "recover_on_exit_codes": [int(ExitCode.RESUME_ME)],
        },
    }
    sent = [bundle.RUN_FILE, *job.carries]
    needed = {credentials.HUB_TOKEN, *(name for names in credentials.NEEDED.values() for name in names)}
    return {
        "name": job.name,
        "num_nodes": job.num_nodes,
        "resources": resources,
        "envs": {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        "secrets": dict.fromkeys(name for name in credentials.names(job.store) if name in needed),
        "file_mounts": {f"{_HOME}/{path}": f"./{path}" for path in sent},
        "setup": _setup(job),
        "run": _run(job),
    }


def text(task: Mapping[str, Any], above: str = "") -> bytes:
    """A task as YAML, with its scripts as a person would write them.

    Args:
        task: The task.
        above: Lines of a comment to begin with.
    """
    comment = "".join(f"# {line}".rstrip() + "\n" for line in above.splitlines())
    return (comment + yaml.dump(dict(task), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)).encode()


def recipe() -> Mapping[str, bytes]:
    """Tasks of an example run for a person to start from, by path."""
    return {
        f"cloud/{name}.yaml": text(task(job), _ABOVE.format(name=name) + (_TOGETHER if job.num_nodes > 1 else ""))
        for name, job in _examples().items()
    }


_ABOVE = """A managed job of SkyPilot, to be started beside the files that file_mounts names:

  HF_TOKEN=hf_… sky jobs launch --secret HF_TOKEN {name}.yaml

`dragoman launch sky run.yaml --dry-run` writes all of them for a run file of yours. The wheel alone,
in a checkout of dragoman: pip wheel --no-deps --wheel-dir . .
"""
_TOGETHER = """
The same command starts on both machines. The first one keeps the run folder and speaks with the store. When one is
lost, the job ends with code 75, and SkyPilot starts it on two others, which go on from the store.
"""


def _examples() -> dict[str, Job]:
    wheel = f"dragoman-{__version__}-py3-none-any.whl"
    options = {"language_pairs": ["en-fr"], "max_samples": 20000, "store": "hf://USER/fine-tuned-nllb-600M"}

    def example(platform: str, gpu: str | None = None, **more: Any) -> Job:
        place = platforms.find(platform)
        carried: dict[str, Any] = {"carries": {wheel: b""}, "requires": (wheel,)}
        return Job(name="nllb", config=from_flat(options), platform=place, offer=place.offer(gpu), **(carried | more))

    return {
        "runpod": example("runpod"),
        "lambda": example("lambda"),
        "vast": example("vast", spot=True),
        "two-nodes": example("sky", "a100-80", num_nodes=2),
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _block)


def _setup(job: Job) -> str:
    """Python and torch of our own, because what a machine brings may be too old; torch as its driver allows."""
    package, *more = job.requires
    carried = f"./{package}" if package.partition("[")[0] in job.carries else package
    return f"""set -eu
export PATH="$HOME/.local/bin:$PATH"
command -v uv > /dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
mkdir -p {_HOME}/{FILES}
cd {_HOME}
uv venv --quiet --clear --python 3.12 venv
uv pip install --quiet --python venv/bin/python --torch-backend=auto {shlex.join([carried, *more])}
"""


def _run(job: Job) -> str:
    """Train for what is left of the hours; the exit code says whether to go on elsewhere."""
    hours = int(job.max_hours * job.attempts * 3600)
    return f"""set -eu
cd {_HOME}/{FILES}
ends=${{{ENDS}:-$(( $(date +%s) + {hours} ))}}
left() {{ echo $(( ends - $(date +%s) )); }}
if [ "$(left)" -lt {_TOO_FEW_SECONDS} ]; then
  echo 'the hours of this job are used up'
  exit 1
fi
code=0
timeout --signal=TERM --kill-after={LAST_SECONDS} $(( $(left) - {LAST_SECONDS} )) \\
  {_train(job)} -c ../{bundle.RUN_FILE} || code=$?
# Another machine would be ended before it has installed anything.
if [ "$code" -eq {int(ExitCode.RESUME_ME)} ] && [ "$(left)" -lt {_TOO_FEW_SECONDS} ]; then
  exit 1
fi
exit "$code"
"""


def _train(job: Job) -> str:
    # Which of the machines it is, and where the first one is, `dragoman` reads in SkyPilot's own variables.
    nodes = ' --nodes "$SKYPILOT_NUM_NODES"' if job.num_nodes > 1 else ""
    return f"../venv/bin/python -m dragoman train{nodes}"
