"""Build the image of a Space without Docker, and let it train while its containers are killed with their disks.

    sudo make space

The image is built by buildah (chroot isolation, storage driver vfs) on a base that
debootstrap makes, from a folder of wheels; so neither a daemon nor a registry of images
is needed. It runs as process 1 of its own process namespace, as uid 1000, on its own root
folder, against the Hub stand-in on loopback. What the platform does to a container is done
here: SIGTERM, a grace of 0, 5 or 30 s, SIGKILL to all, an empty disk.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bench.faults_machine import wait_until
from dragoman.checkpoint.log import RunLog
from dragoman.store.hub import HubStore
from tests.support.hub import HubStandIn
from tests.support.runs import make_pairs

ROOT = Path(__file__).parent.parent
BASE, IMAGE = "localhost/dragoman-space-base", "localhost/dragoman-space"
TOKEN, PORT, SECONDS = "hf_ada_space", 7860, 300.0
RUN = """\
language_pairs: [en-fr]
data: [en-fr=pairs.tsv]
model: scratch:tiny
max_steps: 500
batch_size: 4
gradient_accumulation: 1
learning_rate: 1e-3
dropout: 0.2
dev_percent: 0
test_percent: 0
save_steps: 25
eval_steps: 0
threads: 1
device: cpu
commits_per_hour: 1000
"""
GRACES = (0, 5, 30)


@dataclass
class Life:
    """What was seen of one container."""

    grace: str
    answered_seconds: float
    """Until the page answered on its port."""
    safe_step: int
    """In the store, when all was over."""
    exit_code: int | None
    pauses: int
    """How often it asked for a pause until then."""


class Tools:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._words = [
            "buildah",
            "--root",
            folder / "storage",
            "--runroot",
            folder / "runroot",
            "--storage-driver",
            "vfs",
        ]

    def __call__(self, *words: object) -> str:
        done = subprocess.run([*map(str, self._words), *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()


def set_up() -> None:
    """Install what builds, as root on Debian."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True)


def make_base(buildah: Tools, mirror: str) -> None:
    """A Debian with Python, as the official image of Python is one."""
    folder = buildah.folder / "base"
    if not folder.exists():
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", folder, mirror], check=True)
    archive = buildah.folder / "base.tar"
    subprocess.run(["tar", "-C", folder, "-cf", archive, "."], check=True)
    container = buildah("from", "scratch")
    buildah("add", "-q", container, archive, "/")
    buildah("commit", "-q", container, BASE)
    buildah("rm", container)


def make_context(folder: Path) -> Path:
    """What a person uploads to a Space, with the wheel of this checkout and a small run."""
    context = folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    for name in ("Dockerfile", "requirements_training.txt"):
        template = resources.files("dragoman.launch").joinpath("templates/space", name)
        (context / name).write_bytes(template.read_bytes())
    pip("wheel", "--no-deps", "-w", context, ROOT)
    (context / "run.yaml").write_text(RUN)
    make_pairs(context / "pairs.tsv", 400, seed=1)
    return context


def pip(*words: object) -> None:
    """pip of this environment."""
    subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, words)], check=True)


def build(buildah: Tools) -> float:
    """Build the image; how long it took, in seconds."""
    context, wheels = make_context(buildah.folder), buildah.folder / "wheels"
    pip("download", "--no-deps", "-d", wheels, "-r", context / "requirements_training.txt", "setuptools", "hatchling")
    began = time.monotonic()
    arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    how = ["--isolation", "chroot", "--format", "docker", "--layers=false", "--volume", f"{wheels}:/wheels:ro"]
    buildah("bud", "-q", *how, *given, "-t", IMAGE, context)
    return time.monotonic() - began


class Image:
    """The built image, unpacked; its containers have one root folder, and one at a time a disk that is wiped."""

    def __init__(self, buildah: Tools) -> None:
        self.config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        self.root = Path(buildah("mount", buildah("from", IMAGE)))
        self.num_bytes = sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file())
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")  # as whatever runs containers does
        self.writable = self._writable()
        """Folders that uid 1000 may write, besides devices."""
        self._home = buildah.folder / "home"
        shutil.rmtree(self._home, ignore_errors=True)
        shutil.copytree(self.root / "home", self._home, symlinks=True)

    def _writable(self) -> list[str]:
        words = ["find", self.root, "-xdev", "(", "-user", "1000", "-o", "-perm", "-0002", ")", "!", "-type", "l"]
        found = subprocess.run([*map(str, words), "-type", "d"], stdout=subprocess.PIPE, text=True, check=True)
        return sorted(str(Path(line).relative_to(self.root)) for line in found.stdout.splitlines())

    def wipe(self) -> None:
        """The disk as the image has it."""
        shutil.rmtree(self.root / "home")
        shutil.copytree(self._home, self.root / "home", symlinks=True)
        subprocess.run(["chown", "-R", "1000:1000", self.root / "home/user"], check=True)
        for name in ("tmp", "var/tmp"):
            for path in (self.root / name).iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @contextmanager
    def container(self, hub: HubStandIn, space: str, said_to: Path) -> Iterator[subprocess.Popen[bytes]]:
        """One life: process 1 of its own namespace, as the user of the image."""
        assert not _answers("healthz"), f"something else answers on port {PORT}"
        self.wipe()
        environ = dict(entry.split("=", 1) for entry in self.config["Env"])
        environ |= {"SPACE_ID": space, "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        given = [f"{name}={value}" for name, value in environ.items()]
        user = self.config["User"]
        inside = f'mount -t proc proc "{self.root}/proc" && exec chroot --userspec={user}:{user} "{self.root}" "$@"'
        work = f'cd {self.config["WorkingDir"]} && exec "$@"'
        words = ["unshare", "--pid", "--fork", "--mount", "sh", "-c", inside, "sh"]
        words += ["env", "-i", *given, "sh", "-c", work, "sh", *self.config["Entrypoint"]]
        with said_to.open("ab") as file:
            process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
        try:
            yield process
        finally:
            for first in _children(process):
                os.kill(first, signal.SIGKILL)  # with process 1 the kernel ends all others of its namespace
            process.wait()


def _answers(path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{path}", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    """Process 1 of the container, as this machine numbers it; nothing when it has ended."""
    if process.poll() is not None:
        return []
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def safe_step(hub: HubStandIn, repo: str) -> int:
    """The newest step in the store; -1 for none."""
    if f"models/{repo}" not in hub.repositories:
        return -1
    newest = RunLog(HubStore(repo, endpoint=hub.url, token=lambda: TOKEN)).newest
    return newest.step if newest else -1


def live(image: Image, hub: HubStandIn, space: str, repo: str, grace: float | None, said_to: Path) -> Life:
    """One life of a container: killed after one more save is safe, or with None, until it asks to be paused."""
    found, before, began = hub.spaces[space], safe_step(hub, repo), time.monotonic()
    found.stage = "RUNNING"
    with image.container(hub, space, said_to) as process:
        assert wait_until(lambda: _answers("healthz") == "ok", SECONDS), said_to.read_text()
        answered = time.monotonic() - began
        [first] = _children(process)
        status = Path(f"/proc/{first}/status").read_text()
        assert "\nUid:\t1000\t1000\t1000\t1000" in status, status
        if grace is None:
            assert wait_until(lambda: found.stage == "PAUSED", SECONDS), said_to.read_text()
        else:
            assert wait_until(lambda: safe_step(hub, repo) > before, SECONDS), said_to.read_text()
        if grace != 0:
            os.kill(first, signal.SIGTERM)
            wait_until(lambda: process.poll() is not None, 60 if grace is None else grace)
        code = process.poll()
    name = "until it pauses itself" if grace is None else f"{grace:g} s"
    return Life(name, answered, safe_step(hub, repo), code, found.pauses)


def play(image: Image, folder: Path) -> tuple[list[Life], bool]:
    """An undisturbed run and one that is killed again and again; whether they end with the same weights."""
    said_to, repo = folder / "said.txt", "fine-tuned-nllb-scratch-tiny"
    said_to.unlink(missing_ok=True)
    with HubStandIn() as hub:
        for user in ("ada", "eve"):
            hub.add_token(TOKEN, user)
            hub.create(f"spaces/{user}/nllb")
            hub.space(f"{user}/nllb")
            if user == "eve":
                quiet = live(image, hub, "eve/nllb", f"eve/{repo}", None, said_to)
                assert quiet.pauses == 1, quiet
        hub.add_token(TOKEN, "ada")
        lives = [live(image, hub, "ada/nllb", f"ada/{repo}", grace, said_to) for grace in (*GRACES, None)]
        weights = {hashlib.sha256(hub.read(f"{user}/{repo}", "model.safetensors")).digest() for user in ("ada", "eve")}
    return lives, len(weights) == 1


def report(build_seconds: float | None, image: Image, lives: Sequence[Life], same: bool) -> str:
    """The result as a page."""
    cells = [
        (
            number,
            life.grace,
            f"{life.answered_seconds:.1f}",
            f"{life.safe_step:,}",
            life.exit_code if life.exit_code is not None else "killed",
            life.pauses,
        )
        for number, life in enumerate(lives, start=1)
    ]
    rows = "\n".join(f"| {' | '.join(map(str, row))} |" for row in cells)
    built = f"in {build_seconds:.0f} s" if build_seconds else "not timed"
    gigabytes = image.num_bytes / 1e9
    writable = ", ".join(image.writable)
    median = statistics.median(life.answered_seconds for life in lives)
    return f"""# The image of a Space

`make space`: built by buildah 1.28 (chroot isolation, vfs) on a debootstrapped Debian 12, with torch for CPUs from a
folder of wheels, {built}; {gigabytes:.2f} GB unpacked. Process 1 of its own process namespace,
uid 1000, own root folder, against the Hub stand-in on loopback; two shared cores.
Folders that uid 1000 may write: {writable}.

A tiny model, 500 steps, a save every 25. Each container ends with SIGKILL to everything, and the next one finds an
empty disk. SIGTERM comes before, by the grace; 0 s: no warning.

| container | grace | page answers after, s | safe step at its end | exit code | pauses asked for |
| --- | --- | ---: | ---: | ---: | ---: |
{rows}

* The page answered after {median:.1f} s (median).
* Weights of the disturbed and of an undisturbed run are **{"the same, bit for bit" if same else "NOT the same"}**.

Not checked here: a live Space, a GPU, Hugging Face's own builder, and the image of Python that the Dockerfile names.
"""


def main() -> None:
    """Build, play, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/dragoman-space"), help="for base, wheels and image")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian", help="of Debian")
    parser.add_argument("--skip-build", action="store_true", help="use the image that is there")
    parser.add_argument("--report", type=Path, help="write the page here; left out: print it")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    buildah, seconds = Tools(options.folder), None
    if not options.skip_build:
        set_up()
        make_base(buildah, options.mirror)
        seconds = build(buildah)
    image = Image(buildah)
    lives, same = play(image, options.folder)
    page = report(seconds, image, lives, same)
    if options.report:
        options.report.write_text(page)
    print(page)
    buildah("rm", "--all")
    checks: dict[str, Any] = {
        "same weights": same,
        "paused once": lives[-1].pauses == 1,
        "answers within 10 s": max(life.answered_seconds for life in lives) < 10,
    }
    sys.exit(
        f"failed: {', '.join(name for name, well in checks.items() if not well)}" if not all(checks.values()) else 0
    )


if __name__ == "__main__":
    main()
