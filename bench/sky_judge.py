"""What SkyPilot itself makes of tasks; runs in the environment of `bench/sky.py`, reads and prints JSON.

stdin    {"tasks": {NAME: YAML}}
stdout   {"versions": {...}, "tasks": {NAME: {"parsed": bool, "found": [...], "said": str, ...}}}
"""

import json
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import Any

import sky
import yaml
from sky import Task, clouds
from sky.jobs import recovery_strategy
from sky.utils import registry

CLOUDS = (clouds.RunPod, clouds.Lambda, clouds.Vast)


def judge(text: str) -> dict[str, Any]:
    """Whether SkyPilot can read a task, and which machines of the catalogue would do."""
    try:
        task = Task.from_yaml_config(yaml.safe_load(text))
        found, said = [], []
        for wanted in task.resources:
            wanted.validate()
            for cloud in [wanted.cloud] if wanted.cloud else [kind() for kind in CLOUDS]:
                feasible = cloud.get_feasible_launchable_resources(wanted, task.num_nodes)
                found += [f"{one.cloud} {one.instance_type}" for one in feasible.resources_list]
                said += [str(feasible.hint)] if feasible.hint else []
                said += [f"did you mean {feasible.fuzzy_candidate_list}"] if feasible.fuzzy_candidate_list else []
    except Exception as error:  # whatever SkyPilot raises is what is asked for
        return {"parsed": False, "found": [], "said": f"{type(error).__name__}: {error}"}
    [first, *_] = task.resources
    recovery = first.job_recovery or {}
    return {
        "parsed": True,
        "found": found,
        "said": " ".join(" ".join(said).split()),
        "down": bool(first.autostop_config and first.autostop_config.down),
        "exit_codes": recovery.get("recover_on_exit_codes"),
        "strategy_known": _is_strategy(str(recovery.get("strategy"))),
        "nodes": task.num_nodes,
    }


def _is_strategy(name: str) -> bool:
    assert recovery_strategy  # importing it registers the strategies
    try:
        return registry.JOBS_RECOVERY_STRATEGY_REGISTRY.from_str(name) is not None
    except ValueError:
        return False


def main() -> None:
    with redirect_stdout(sys.stderr):
        tasks = {name: judge(text) for name, text in json.load(sys.stdin)["tasks"].items()}
    print(json.dumps({"versions": {"skypilot": sky.__version__, "click": version("click")}, "tasks": tasks}))


if __name__ == "__main__":
    main()
