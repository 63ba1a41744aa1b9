"""Does a run in an S3 bucket hop from one vendor to another, by the command line alone? `make supervised`.

`dragoman launch vast` starts a machine for a run whose store is a bucket. What it asked of
vast.ai is run here, on an empty machine, and cut by SIGKILL after some checkpoints. Then
`dragoman supervise` is called as cron would: it waits for the lease, destroys what is left at
vast.ai, and starts a pod at RunPod, which fetches all that it needs from the bucket and trains to
the end. The vendors are recorders on loopback, bucket and Hub (which carries the package only)
real servers there. In the end the weights are compared with those of an undisturbed run.

Prints a report in Markdown and exits 1 when anything is not as it should be:

    python -m bench.supervised > bench/supervised_DATE.md
"""

import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dragoman.checkpoint.log import RunLog
from dragoman.errors import DragomanError
from dragoman.store.address import Access, open_store
from tests.support import real
from tests.support.hub import HubStandIn
from tests.support.launching import SMALL, TOKEN, impatient, write_run
from tests.support.recorder import Recorder, Status
from tests.support.runs import make_pairs
from tests.support.s3 import BUCKET, server

STORE = f"s3://{BUCKET}/supervised"
BUNDLE = "ada/dragoman-launch"
RUN: dict[str, Any] = SMALL | {
    "store": STORE,
    "data": ["en-fr=pairs.tsv"],
    "max_steps": 300,
    "save_steps": 10,
    "log_steps": 50,
    "threads": 1,
    "lease_minutes": 0.1,
    "launch": {"bundle": BUNDLE},
}
SUPERVISE = ["supervise", STORE, "--on", "runpod:rtx4090", "--max-usd", "4", "-c", "run.yaml", "--json"]
SECONDS = 300.0


class Wrong(Exception):
    """Something is not as it should be; the message says what."""


def main() -> int:
    """Play it; returns the exit code."""
    say(f"# A run in a bucket, from one vendor to another, {time.strftime('%Y-%m-%d')}\n")
    say(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}. Made by `make supervised`.\n")
    with tempfile.TemporaryDirectory(prefix="dragoman-supervised-") as made, HubStandIn() as hub, Recorder() as vendor:
        os.chdir(made)
        hub.add_token(TOKEN, "ada")
        try:
            Play(Path(made), hub, vendor).run()
        except Wrong as error:
            say(f"\nFAILED: {error}")
            return 1
    say("\nReal: every command, the machines' own scripts, the bucket's server (moto), the bytes. Stand-ins: both")
    say("vendors, the Hub. Not measured: live vendors, live S3. Seconds are of a busy machine of two cores.")
    return 0


def say(text: str) -> None:
    """One part of the report."""
    print(text, flush=True)


def require(holds: bool, what: str) -> None:
    """Raise `Wrong` unless it holds."""
    if not holds:
        raise Wrong(what)


class Play:
    """One run and its machines.

    Args:
        folder: For everything.
        hub: Carries the package.
        vendor: vast.ai and RunPod.
    """

    def __init__(self, folder: Path, hub: HubStandIn, vendor: Recorder) -> None:
        self.folder, self.hub, self.vendor, self.began = folder, hub, vendor, time.monotonic()
        bucket = server().options()["config"]
        self.keys = {
            "AWS_ENDPOINT_URL": bucket["endpoint"],
            "AWS_REGION": bucket["region"],
            "AWS_ACCESS_KEY_ID": bucket["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": bucket["secret_access_key"],
            "HF_TOKEN": TOKEN,
        }
        self.here = self.keys | {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "VAST_URL": vendor.url,
            "VAST_API_KEY": "vastKeyOfAda",
            "RUNPOD_API_BASE_URL": vendor.url,
            "RUNPOD_API_KEY": "rpa_ofAda",
        }
        os.environ.update(self.keys)  # for our own looks at the bucket
        self._prepare_vendors()

    def run(self) -> None:
        """From the first machine to the last."""
        make_pairs(self.folder / "pairs.tsv", n=60, seed=1)
        write_run(self.folder / "run.yaml", **RUN)
        say("| second | what | it said |\n|---|---|---|")
        undisturbed = self.undisturbed()
        at = self.first_machine()
        (self.folder / "pairs.tsv").unlink()  # the next one finds all in the bucket
        self.looks(at)
        self.second_machine()
        found = self.dragoman("what cron calls", *SUPERVISE)
        require(found["decision"] == "done", f"it is not done: {found}")
        require(self.deleted() == ["vast", "pod", "pod"], f"machines were released otherwise: {self.deleted()}")
        secret = (TOKEN, self.keys["AWS_SECRET_ACCESS_KEY"])
        require(not any(it in one.raw for one in self.vendor.requests for it in secret), "a secret was sent openly")
        done = self.log().finished
        require(done is not None and done.step == RUN["max_steps"], f"it ended otherwise: {done}")
        weights = self.published()
        require(weights == undisturbed, "the weights are others than those of an undisturbed run")
        say(f"\nWeights as those of a run that nobody disturbed: `{weights[:16]}…`. No secret in any request.")

    def undisturbed(self) -> str:
        """Digest of the weights of the same run, here and without an accident."""
        options = {name: value for name, value in RUN.items() if name not in ("store", "launch")}
        write_run(self.folder / "plain.yaml", **options, store=None)
        done = real.run(["train", "-c", "plain.yaml", "--output", "plain"], self.here)
        require(done.returncode == 0, done.stderr)
        return hashlib.sha256((self.folder / "plain/model.safetensors").read_bytes()).hexdigest()

    def first_machine(self) -> int:
        """One at vast.ai, that is cut; returns the newest step in the bucket."""
        self.dragoman("launch", "launch", "vast", "run.yaml", "--gpu", "rtx4090", "--yes", "--json")
        [body] = self.vendor.asked("PUT", "/api/v0/asks/7/")
        machine, path = impatient(self.folder / "vast", self.hub)
        own = {"CONTAINER_ID": "42", "CONTAINER_API_KEY": "ofTheMachine", "VAST_URL": self.vendor.url, "PATH": path}
        process = machine.start(["bash", "-c", body["onstart"]], self.keys | own, self.folder / "vast.log")
        real.until(lambda: self.step() >= 2 * RUN["save_steps"], "checkpoints are in the bucket")
        machine.cut(process)
        at = self.step()
        require(at < RUN["max_steps"], "the machine was too fast to be cut")
        self.tell("machine at vast.ai cut by SIGKILL", f"step {at} is safe")
        return at

    def looks(self, at: int) -> None:
        """What a supervisor does until the next machine is started."""
        found = self.dragoman("what cron calls", *SUPERVISE)
        require(found["decision"] == "wait" and not self.deleted(), f"it did not wait for the lease: {found}")
        until = time.monotonic() + SECONDS
        while found["decision"] == "wait":
            require(time.monotonic() < until, "no machine is started")
            time.sleep(min(2.0, found["look_again_seconds"]))
            found = self.dragoman("what cron calls", *SUPERVISE)
        require(found["decision"] == "start" and self.deleted() == ["vast"], f"{found}; deleted: {self.deleted()}")
        require(self.step() == at, "somebody trained on")

    def second_machine(self) -> None:
        """One at RunPod, that trains to the end and deletes itself."""
        [body] = self.vendor.asked("POST", "/v2/pods")
        given = dict(body["env"])
        for name, value in self.keys.items():  # as RunPod does
            given = {key: text.replace(f"{{{{ RUNPOD_SECRET_{name} }}}}", value) for key, text in given.items()}
        machine, path = impatient(self.folder / "pod", self.hub)
        own = {"RUNPOD_POD_ID": "abc", "RUNPOD_API_KEY": "ofThePod", "RUNPOD_API_BASE_URL": self.vendor.url}
        done = machine.run(body["cmd"], given | own | {"PATH": path})
        require("the work ended with 0" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:])
        self.tell("the pod's own script", "trained to the end, the pod deleted itself")

    def dragoman(self, what: str, *words: str) -> dict[str, Any]:
        """The answer of a real command."""
        done = real.run(words, self.here)
        require(bool(done.stdout.strip()), f"{words}: {done.stderr}")
        require(TOKEN not in done.stdout + done.stderr, f"{words} showed a token")
        found: dict[str, Any] = json.loads(done.stdout)
        did = "; ".join(found.get("did", []))
        said = found.get("handle") or " ".join(filter(None, [found["decision"], found["why"], did and f"({did})"]))
        self.tell(f"{what}: `dragoman {words[0]}`", said)
        return found

    def tell(self, what: str, said: str) -> None:
        """One row of the report."""
        say(f"| {time.monotonic() - self.began:.0f} | {what} | {said} |")

    def deleted(self) -> list[str]:
        """Which machines were given back, in order."""
        names = {"/api/v0/instances/42/": "vast", "/v2/pods/abc": "pod"}
        return [names[one.path] for one in self.vendor.requests if one.method == "DELETE"]

    def log(self) -> RunLog:
        """The run's log, read anew."""
        return RunLog(open_store(STORE, Access()))

    def step(self) -> int:
        """The newest step that is safe; 0 before there is one."""
        try:
            newest = self.log().newest
        except DragomanError:
            return 0
        return newest.step if newest else 0

    def published(self) -> str:
        """Digest of the model that a person gets from the bucket."""
        done = real.run(["download", STORE, "--output", "model"], self.here)
        require(done.returncode == 0, done.stderr)
        return hashlib.sha256((self.folder / "model/model.safetensors").read_bytes()).hexdigest()

    def _prepare_vendors(self) -> None:
        """Accounts at vast.ai and RunPod that are ready to rent."""
        answer = self.vendor.answer
        gpu = {"id": "NVIDIA GeForce RTX 4090", "price": {"secure": 0.69}, "availability": "LOW"}
        answer("GET", "/v2/pods", {"pods": []})
        answer("GET", "/v2/account/secrets", {"secrets": [{"name": name} for name in self.keys]})
        answer("GET", "/v2/catalog/gpus", {"gpus": [gpu]})
        answer("POST", "/v2/pods", Status(201, {"id": "abc", "name": "run", "status": "STARTING", "cost": 0.69}))
        answer("GET", "/v2/pods/abc", Status(404))
        answer("DELETE", "/v2/pods/abc", Status(204))
        answer("GET", "/api/v1/instances/", {"instances": []})
        answer("GET", "/api/v0/secrets/", {"secrets": dict.fromkeys(self.keys, "kept")})
        answer("POST", "/api/v0/bundles/", {"offers": [{"id": 7, "dph_total": 0.3, "min_bid": 0.1}]})
        answer("PUT", "/api/v0/asks/7/", {"success": True, "new_contract": 42})
        answer("GET", "/api/v0/instances/42/", {"instances": {"id": 42, "actual_status": "running"}})
        answer("DELETE", "/api/v0/instances/42/", {"success": True})


if __name__ == "__main__":
    sys.exit(main())
