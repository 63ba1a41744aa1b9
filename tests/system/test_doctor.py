"""`doctor`: what would stop a run is found before it begins, and nothing is left behind."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import host
from dragoman.checkpoint.lease import take_lease
from dragoman.checkpoint.log import RunLog
from dragoman.checkpoint.run_folder import CONFIG
from dragoman.cli.app import run
from dragoman.config import from_flat
from dragoman.deploy import doctor as examining
from dragoman.errors import ExitCode, InputError, StoreUnavailable
from dragoman.estimate.memory import ways
from dragoman.model.sizes import KNOWN
from dragoman.store import probes
from dragoman.store.local import FolderStore
from tests.support.hub import Fault, HubStandIn
from tests.support.places import KINDS, SECRET_KEY, TOKEN, Place, begin, place, save, use_hub

TINY = ["--model", "scratch:tiny", "--device", "cpu"]
GIB = 2**30


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place(request.param, tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


class Doctor:
    """Runs the command; its checks by name, and that no secret is in what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object, code: int = ExitCode.DONE) -> dict[str, dict[str, Any]]:
        self.capsys.readouterr()
        got = run(["doctor", *map(str, words), "--json"])
        said = self.capsys.readouterr()
        assert got == code, said
        assert not any(secret in said.out + said.err for secret in (TOKEN, SECRET_KEY))
        found = json.loads(said.out)
        assert set(found) == {"schema", "verdict", "checks"}
        verdicts = [check["verdict"] for check in found["checks"]]
        assert set(verdicts) <= {"ok", "warning", "problem"}
        assert found["verdict"] == next((each for each in ("problem", "warning") if each in verdicts), "ok")
        assert (found["verdict"] == "problem") == (code == ExitCode.CHECK_SAID_NO)
        for check in found["checks"]:
            assert set(check) == {"name", "verdict", "finding", "hint", "facts"}
            assert check["hint"] or check["verdict"] == "ok", f"there is no way out of {check}"
        return {check["name"]: check for check in found["checks"]}


@pytest.fixture
def examined(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def problems(checks: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in checks.items() if check["verdict"] == "problem"]


# --- the store ----------------------------------------------------------------------


def names(where: Place, tmp_path: Path) -> set[str]:
    """Everything that the store holds."""
    if where.hub:
        return where.hub.names("ada/run")
    if where.url.startswith("file"):
        return {path.relative_to(tmp_path / "store").as_posix() for path in (tmp_path / "store").rglob("*")}
    store: Any = where.store
    return {found.path for found in store._bucket.below("")}


def test_a_good_store_is_tried_and_left_as_it_was(where: Place, tmp_path: Path, examined: Doctor) -> None:
    save(begin(where.store), tmp_path, 20)
    before = names(where, tmp_path)
    num_bytes = where.hub.held_bytes("ada/run") if where.hub else 0
    found = examined("--store", where.url, *TINY)
    assert problems(found) == []
    for name in ("versions", "store", "one writer", "clock", "run", "device", "memory", "disk of the run"):
        assert found[name]["verdict"] == "ok", found[name]
    assert found["store"]["finding"].startswith(f"{where.url}: 1.0 MB written in ")
    assert set(found["store"]["facts"]) == {"write_seconds", "read_seconds", "num_bytes"}
    assert abs(found["clock"]["facts"]["ahead_seconds"]) < 60
    assert f"in {where.url} is running; step 20 is safe there, saved 0 min ago" in found["run"]["finding"]
    assert "kaggle was last seen 0 min ago" in found["run"]["finding"]
    assert "delete" not in found
    assert names(where, tmp_path) == before
    if where.hub:
        assert found["token"]["finding"] == "valid, of ada, role write"
        assert where.hub.held_bytes("ada/run") == num_bytes


def test_a_folder_that_is_not_there_is_made_and_goes_again(tmp_path: Path, examined: Doctor) -> None:
    found = examined("--store", tmp_path / "new/store", *TINY)
    assert found["store"]["verdict"] == "ok"
    assert found["run"]["finding"] == f"file://{tmp_path}/new/store holds none yet"
    assert not (tmp_path / "new").exists()


def test_a_folder_on_the_disk_of_the_run_is_worth_a_warning(tmp_path: Path, examined: Doctor) -> None:
    check = examined("--store", tmp_path / "store", *TINY)["disk of the store"]
    assert check["verdict"] == "warning"
    assert "what takes the one takes the other" in check["finding"]


def test_a_store_that_cannot_be_written_is_a_problem(tmp_path: Path, examined: Doctor) -> None:
    (tmp_path / "file").write_text("mine")
    found = examined("--store", tmp_path / "file/store", *TINY, code=ExitCode.CHECK_SAID_NO)
    assert "store" in problems(found)
    assert "run" not in found, "it was not asked for what cannot be there"


def test_a_store_that_cannot_keep_two_machines_apart_is_a_problem_unless_there_is_one(
    tmp_path: Path, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise InputError("no hard links")

    monkeypatch.setattr("dragoman.store.probe.link", no_links)
    found = examined("--store", tmp_path / "store", *TINY, code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["one writer"]
    assert "--single-writer" in found["one writer"]["hint"]
    assert not (tmp_path / "store").exists()
    found = examined("--store", tmp_path / "store", "--single-writer", *TINY)
    assert found["one writer"]["verdict"] == "warning"


@pytest.mark.parametrize(
    ("method", "result", "problem"),
    [
        ("read", b"other", "store"),
        ("clear", StoreUnavailable("it refuses to delete"), "delete"),
        ("clock", StoreUnavailable("it does not answer"), "clock"),
    ],
)
def test_what_a_store_does_wrong_is_a_problem(
    method: str, result: Any, problem: str, tmp_path: Path, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: object) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(probes.FolderProbe, method, wrong)
    found = examined("--store", tmp_path / "store", *TINY, code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == [problem]


def test_a_bucket_that_is_not_there_is_a_problem(
    tmp_path: Path, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place("s3", tmp_path, monkeypatch):
        found = examined("--store", "s3://no-such-bucket/run", *TINY, code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["store"]
    assert "there is no such bucket" in found["store"]["finding"]


# --- the Hub ------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        use_hub(hub, monkeypatch)
        hub.create("ada/run")
        yield hub


def on_hub(repo: str = "ada/run") -> list[str]:
    return ["--store", f"hf://{repo}", *TINY]


def test_a_repository_that_is_not_there_is_not_made(hub: HubStandIn, examined: Doctor) -> None:
    found = examined(*on_hub("ada/new"))
    assert found["token"]["verdict"] == "ok"
    assert found["store"]["verdict"] == "warning"
    assert "hf://ada/new is not there yet" in found["store"]["finding"]
    assert hub.key("ada/new") not in hub.repositories


def test_without_a_token_the_hub_is_a_problem(
    hub: HubStandIn, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    found = examined(*on_hub(), code=ExitCode.CHECK_SAID_NO)
    assert found["token"]["finding"] == "there is none (HF_TOKEN is not set)"
    assert "https://huggingface.co/settings/tokens" in found["token"]["hint"]


def test_a_token_that_was_revoked_is_a_problem(hub: HubStandIn, examined: Doctor) -> None:
    hub.revoke(TOKEN)
    found = examined(*on_hub(), code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["token", "store"]
    assert "the token is not valid" in found["token"]["finding"]
    assert found["store"]["finding"].startswith("hf://ada/run: ")


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ({"role": "read"}, "the token of ada may only read"),
        ({"role": "fineGrained", "scopes": {"ada/other": ["repo.write"]}}, "may not write there"),
    ],
)
def test_a_token_that_may_not_write_is_a_problem(
    token: dict[str, Any], words: str, hub: HubStandIn, examined: Doctor
) -> None:
    hub.add_token(TOKEN, "ada", **token)
    found = examined(*on_hub(), code=ExitCode.CHECK_SAID_NO)
    assert words in found["token"]["finding"]
    assert found["store"]["verdict"] != "ok"
    assert hub.names("ada/run") == {".gitattributes"}


def test_the_scopes_of_a_token_are_told(hub: HubStandIn, examined: Doctor) -> None:
    hub.add_token(TOKEN, "ada", "fineGrained", scopes={"ada/run": ["repo.write", "repo.content.read"]})
    check = examined(*on_hub())["token"]
    assert check["finding"] == "valid, of ada, role fineGrained: ada/run: repo.write, repo.content.read"
    assert check["facts"] == {
        "user": "ada",
        "role": "fineGrained",
        "scopes": ["ada/run: repo.write, repo.content.read"],
    }


def test_a_token_is_looked_at_even_before_there_is_a_store(hub: HubStandIn, examined: Doctor) -> None:
    assert examined(*TINY)["token"]["finding"] == "valid, of ada, role write"
    hub.faults.add(Fault(status=500, times=None))
    assert examined(*TINY)["token"]["verdict"] == "warning", "it may not be needed"
    hub.faults.clear()
    hub.revoke(TOKEN)
    assert examined(*TINY, code=ExitCode.CHECK_SAID_NO)["token"]["verdict"] == "problem"


def test_of_two_commits_on_one_parent_the_second_must_be_refused(
    hub: HubStandIn, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = probes.HubApi.commit

    def without_condition(api: Any, changes: Any, message: str, parent: str, **rest: Any) -> str:
        return real(api, changes, message, hub.head("ada/run"), **rest)

    monkeypatch.setattr(probes.HubApi, "commit", without_condition)
    found = examined(*on_hub(), code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["one writer"]
    assert hub.names("ada/run") == {".gitattributes"}


def test_another_machine_that_commits_in_between_is_no_problem(hub: HubStandIn, examined: Doctor) -> None:
    hub.faults.add(Fault("commit", act=lambda: hub.write("ada/run", "notes.md", b"mine")))
    assert problems(examined(*on_hub())) == []
    assert hub.names("ada/run") == {".gitattributes", "notes.md"}


def test_a_clock_that_is_wrong_is_worth_a_warning(hub: HubStandIn, examined: Doctor) -> None:
    hub.clock = lambda: time.time() - 1000
    check = examined(*on_hub())["clock"]
    assert check["verdict"] == "warning"
    assert check["finding"] == "this machine's is 17 min ahead of that of hf://ada/run"
    assert "nothing in dragoman depends on it" in check["hint"]


# --- the run ------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a checkpoint, whose store is a folder."""
    root = tmp_path / "run"
    store = FolderStore(root)
    store.prepare()
    save(begin(store), tmp_path, 10)
    settings = from_flat({"model": "scratch:tiny", "device": "cpu", "store": str(tmp_path / "store")})
    (root / CONFIG).write_text(settings.to_yaml(stored=True))
    return root


def test_a_run_folder_brings_its_own_settings(folder: Path, tmp_path: Path, examined: Doctor) -> None:
    found = examined(folder)
    assert problems(found) == []
    assert found["run"]["finding"] == f"file://{tmp_path}/store holds none yet"
    assert found["disk of the run"]["facts"]["folder"] == str(folder)


def test_a_store_with_another_run_is_a_problem(folder: Path, tmp_path: Path, examined: Doctor) -> None:
    other = FolderStore(tmp_path / "store")
    other.prepare()
    begin(other)
    found = examined(folder, code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["run"]
    assert "holds another run" in found["run"]["finding"]


def test_a_store_that_is_ahead_of_the_folder_is_worth_a_warning(folder: Path, tmp_path: Path, examined: Doctor) -> None:
    there = FolderStore(tmp_path / "store")
    there.prepare()
    log = RunLog(there)
    take_lease(log, "colab", run=RunLog(FolderStore(folder)).run, epoch=2)
    save(log, tmp_path, 20)
    check = examined(folder)["run"]
    assert check["verdict"] == "warning"
    assert f"the store is ahead of {folder}" in check["finding"]
    assert check["hint"].startswith(f"dragoman resume file://{tmp_path}/store")


def test_a_run_by_the_url_of_its_store_is_examined(where: Place, tmp_path: Path, examined: Doctor) -> None:
    save(begin(where.store), tmp_path, 20, metrics={})
    where.overwrite("dragoman/log/000002.json", b"{}")
    found = examined(where.url, *TINY, code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["run"]
    assert "000002.json" in found["run"]["finding"]


@pytest.mark.parametrize("words", [["nowhere"], ["--store", "hff://ada/run"], ["--model", "scratch:huge"]])
def test_what_cannot_be_examined_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", *words]) == ExitCode.BAD_INPUT
    assert "error: " in capsys.readouterr().err


# --- the machine --------------------------------------------------------------------


def test_disks_that_are_too_small_are_problems(
    tmp_path: Path, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda path: 20_000_000_000)
    monkeypatch.setattr(host, "memory_bytes", lambda: (64 * GIB, 60 * GIB))
    words = ["--device", "cpu", "--output", tmp_path / "run"]
    found = examined(*words, code=ExitCode.CHECK_SAID_NO)
    assert problems(found) == ["disk of the run", "disk of the cache"]
    assert found["disk of the run"]["finding"] == (
        f"{tmp_path}/run: 29.5 GB more are needed (4 checkpoints of 7.4 GB), 20.0 GB are free"
    )
    assert "the model of 2.5 GB, and on the same disk the run" in found["disk of the cache"]["finding"]
    monkeypatch.setattr(host, "same_disk", lambda one, other: False)
    assert problems(examined(*words, "--keep", "1", code=ExitCode.CHECK_SAID_NO)) == ["disk of the run"]


@pytest.mark.parametrize(("total", "free", "verdict"), [(8, 7, "problem"), (24, 8, "warning"), (24, 20, "ok")], ids=str)
def test_memory_is_judged_by_what_the_model_needs(
    total: int, free: int, verdict: str, examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "memory_bytes", lambda: (total * GIB, free * GIB))
    monkeypatch.setattr(host, "free_bytes", lambda path: 10**12)
    code = ExitCode.CHECK_SAID_NO if verdict == "problem" else ExitCode.DONE
    assert examined("--device", "cpu", "--vocabulary", "full", code=code)["memory"]["verdict"] == verdict


def test_a_model_of_unknown_size_is_not_judged(examined: Doctor) -> None:
    found = examined("--device", "cpu", "--model", "someone/model")
    assert found["model"]["verdict"] == "warning"
    assert not {"memory", "disk of the run"} & found.keys()


def a_gpu(monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], gib: float) -> None:
    """Let torch see a GPU."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (int(gib * GIB), int(gib * GIB)))
    monkeypatch.setattr(examining, "_cannot_compute", lambda: "")
    monkeypatch.setattr(host, "memory_bytes", lambda: (32 * GIB, 32 * GIB))
    monkeypatch.setattr(host, "free_bytes", lambda path: 10**12)


H100, T4 = ("NVIDIA H100", (9, 0), 79.0), ("Tesla T4", (7, 5), 14.6)
P100 = ("Tesla P100-PCIE-16GB", (6, 0), 15.9)
SMALL, LARGE = "facebook/nllb-200-distilled-600M", "facebook/nllb-200-3.3B"


@pytest.mark.parametrize(
    ("card", "model", "precision", "device", "room"),
    [
        (H100, SMALL, "bf16", "ok", "ok"),
        (H100, LARGE, "bf16", "ok", "ok"),
        (T4, SMALL, "fp16", "ok", "ok"),
        (T4, LARGE, "fp16", "ok", "problem"),
        (P100, SMALL, "fp32", "warning", "ok"),
    ],
    ids=["H100 600M", "H100 3.3B", "T4 600M", "T4 3.3B", "P100 600M"],
)
def test_a_gpu_is_judged_by_capability_and_memory(
    card: tuple[str, tuple[int, int], float],
    model: str,
    precision: str,
    device: str,
    room: str,
    examined: Doctor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_gpu(monkeypatch, *card)
    found = examined("--model", model, code=ExitCode.CHECK_SAID_NO if room == "problem" else ExitCode.DONE)
    assert (found["device"]["verdict"], found["device"]["facts"]["precision"]) == (device, precision)
    assert found["GPU memory"]["verdict"] == room
    assert found["memory"]["verdict"] == "ok"


def test_a_gpu_that_holds_a_step_only_in_one_piece_is_worth_a_warning(
    examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_gpu(monkeypatch, *T4)
    words = ["--model", "facebook/nllb-200-distilled-1.3B", "--optimizer", "adamw8bit"]
    check = examined(*words, "--gradient-checkpointing", "off")["GPU memory"]
    assert check["verdict"] == "warning"
    assert "a step in one microbatch of at most" in check["finding"]


def test_the_doctor_and_the_estimate_say_the_same(examined: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    a_gpu(monkeypatch, "NVIDIA H100 80GB HBM3", (9, 0), 79.1)
    (row,) = (row for row in ways(from_flat({"model": SMALL}), ["h100-80"]) if row.recommended)
    assert examined("--model", SMALL)["GPU memory"]["facts"]["microbatch_tokens"] == row.tokens > 0


def test_a_gpu_that_torch_cannot_use_is_a_problem(examined: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    a_gpu(monkeypatch, *P100)
    monkeypatch.setattr(examining, "_cannot_compute", lambda: "no kernel image is available")
    found = examined(code=ExitCode.CHECK_SAID_NO)
    assert "no kernel image is available" in found["device"]["finding"]


def test_a_gpu_that_is_not_there_is_a_problem_where_it_was_asked_for(
    examined: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = examined("--model", "scratch:tiny", "--device", "cuda", code=ExitCode.CHECK_SAID_NO)
    assert "torch sees no GPU" in found["device"]["finding"]
    assert examined("--model", SMALL)["device"]["verdict"] == "warning"


# --- what people read ---------------------------------------------------------------


def test_a_person_reads_one_line_for_each_check_and_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda path: 0)
    assert run(["doctor", "--store", str(tmp_path / "store"), *TINY]) == ExitCode.CHECK_SAID_NO
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert any(line.startswith(f"ok       store: file://{tmp_path}/store: 1.0 MB written in ") for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("problem  disk of the run: "))
    assert lines[at + 1] == "           try: --keep 1, or --output on another disk"
    assert said.err.startswith("error: doctor found 2 problems: disk of the run, disk of the store\n")


# --- facts --------------------------------------------------------------------------


def test_the_sizes_of_nllb_are_those_that_are_published() -> None:
    sizes = {name.split("-")[-1]: round(found.num_parameters / 1e6) for name, found in KNOWN.items()}
    assert sizes == {"600M": 615, "1.3B": 1371, "3.3B": 3345}


def test_the_parameters_of_a_model_are_counted_from_its_configuration(tmp_path: Path) -> None:
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    config = M2M100Config(
        vocab_size=300,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn_dim=64,
        decoder_ffn_dim=96,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
    )
    with torch.device("meta"):
        model = M2M100ForConditionalGeneration(config)
    config.save_pretrained(tmp_path)
    sizes = examining.sizes_of(str(tmp_path), Path("nowhere"))
    assert sizes is not None
    assert sizes.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_file_that_is_no_configuration_of_nllb_tells_no_sizes(tmp_path: Path) -> None:
    for content in ("[", "[]", "{}", '{"vocab_size": null}'):
        (tmp_path / "config.json").write_text(content)
        assert examining.sizes_of(str(tmp_path), Path("nowhere")) is None


MEMINFO = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  800 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (1000 * 1024, 800 * 1024)),
        ({"sys/fs/cgroup/memory.max": "max\n"}, (1000 * 1024, 800 * 1024)),
        ({"sys/fs/cgroup/memory.max": "512000\n", "sys/fs/cgroup/memory.current": "112000\n"}, (512000, 400000)),
        ({"sys/fs/cgroup/memory.max": "819200\n", "sys/fs/cgroup/memory.current": "0\n"}, (819200, 819200)),
        (
            {
                "sys/fs/cgroup/memory.max": "512000\n",
                "sys/fs/cgroup/memory.current": "512000\n",
                "sys/fs/cgroup/memory.stat": "anon 200000\ninactive_file 300000\nactive_file 12000\n",
            },
            (512000, 300000),
        ),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, (1000 * 1024, 800 * 1024)),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "2000\n",
            },
            (1000, 0),
        ),
    ],
    ids=["bare", "v2 without a limit", "v2", "v2 all free", "v2 full of files", "v1 without a limit", "v1 full"],
)
def test_a_container_has_the_memory_that_it_may_use(
    files: dict[str, str], expected: tuple[int, int], tmp_path: Path
) -> None:
    for name, content in {"proc/meminfo": MEMINFO, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert host.memory_bytes(tmp_path) == expected


def test_a_system_without_proc_still_tells_its_memory(tmp_path: Path) -> None:
    total, free = host.memory_bytes(tmp_path)
    assert total == free > 0


def test_a_disk_is_judged_by_the_folder_above_what_is_not_there_yet(tmp_path: Path) -> None:
    assert host.free_bytes(tmp_path / "a/b/c") > 0
    assert host.same_disk(tmp_path / "a/b", tmp_path)
