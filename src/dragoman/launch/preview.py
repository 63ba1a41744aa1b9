"""What a plan comes to, before anything is sent: cost, end, storage, files, steps; and the plan as files to look at."""

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman import platforms
from dragoman.errors import InputError
from dragoman.launch.job import Job, Plan
from dragoman.model.held import HeldAtMost, held_at_most
from dragoman.model.regime import regime_of
from dragoman.model.sizes import KNOWN

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Preview:
    """All that a person decides by."""

    job: Job
    plan: Plan

    @property
    def usd_per_hour(self) -> float:
        """Of all machines together."""
        return (self.job.offer.usd_per_hour or 0.0) * self.job.num_nodes

    @property
    def costs(self) -> bool:
        """Whether starting it is paid for."""
        return self.usd_per_hour > 0

    @property
    def held(self) -> HeldAtMost | None:
        """What the store holds at most; None for a model whose size is not known here."""
        config = self.job.config
        sizes = KNOWN.get(config.model.model)
        return held_at_most(sizes, regime_of(config, "cuda", "fp32"), config.save.keep) if sizes else None

    def to_json(self) -> dict[str, Any]:
        """What a program may read."""
        job, plan = self.job, self.plan
        return {
            "schema": 1,
            "platform": job.platform.name,
            "name": job.name,
            "flavor": job.offer.flavor,
            "gpu": job.offer.gpu,
            "num_gpus": job.offer.num_gpus,
            "nodes": job.num_nodes,
            "spot": job.spot,
            "attempts": job.attempts,
            "usd_per_hour": self.usd_per_hour,
            "usd_per_month": job.offer.usd_per_month,
            "most_usd": round(job.most_usd, 2),
            "prices_of": platforms.as_of(),
            "max_hours": job.max_hours,
            "session_hours": job.config.training.max_hours,
            "store": job.store,
            "storage_bytes": self.held.num_bytes if self.held else None,
            "command": list(plan.command),
            "environment": dict(plan.environment),
            "secrets": list(plan.secrets),
            "files": {path: len(data) for path, data in sorted(plan.files.items())},
            "steps": list(plan.steps),
        }


def write(preview: Preview, folder: Path) -> None:
    """Write all files of the plan, and the plan itself, into a folder of its own; an earlier one there goes.

    Raises:
        InputError: The folder holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / PLAN_FILE).is_file():
            raise InputError(
                f"--output {folder}: there are other files in it", "an empty folder, or one that is not there"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in preview.plan.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / PLAN_FILE).write_text(json.dumps(preview.to_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")


def check(plan: Plan, secrets: Iterable[str]) -> None:
    """Look whether what would be sent is whole, and holds no secret of this machine.

    Raises:
        InputError: A secret stands where others read it.
        AssertionError: A wheel or a script is not what it must be; that is a bug.
    """
    said = [*plan.command, *plan.environment.values(), *plan.steps]
    for secret in secrets:
        for place, data in (*plan.files.items(), *((f"`{text[:20]}…`", text.encode()) for text in said)):
            if secret.encode() in data:
                raise InputError(
                    f"{place}: a secret of this machine stands in it",
                    "take it out of the run file and its data; the platform gets it as a secret",
                )
    for name, data in plan.files.items():
        if name.endswith(".whl"):
            _check_wheel(data)
        if name.rpartition("/")[2] == "SHA256SUMS":
            _check_sums(plan, data.decode())
    if plan.command[:2] == ("bash", "-c") and (bash := shutil.which("bash")):
        done = subprocess.run([bash, "-n", "-c", plan.command[2]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _check_wheel(data: bytes) -> None:
    from io import BytesIO

    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert any(name.endswith(".dist-info/RECORD") for name in archive.namelist())


def _check_sums(plan: Plan, text: str) -> None:
    for line in text.splitlines():
        digest, _, path = line.partition("  ")
        assert hashlib.sha256(plan.files[path]).hexdigest() == digest, path
