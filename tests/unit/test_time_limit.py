"""How long a session may last, and where it is."""

from pathlib import Path
from typing import Any

import pytest

from dragoman import host
from dragoman.config import from_flat
from dragoman.errors import InputError
from dragoman.training.time_limit import TimeLimit, platform_of, time_limit

NOW = 1_796_025_600.0  # 2026-11-30T08:00:00Z


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOB_ID", "SPACE_ID", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "RUNPOD_POD_ID"):
        monkeypatch.delenv(name, raising=False)


def limit(age_hours: float = 0.0, **options: Any) -> TimeLimit | None:
    return time_limit(from_flat(options), clock=lambda: NOW, started=lambda: NOW - age_hours * 3600)


@pytest.mark.parametrize(
    ("environ", "platform"),
    [
        ({}, None),
        ({"SPACE_ID": "ada/space"}, "space"),
        ({"SPACE_ID": "ada/space", "JOB_ID": "687fb701029421ae5549d998"}, "jobs"),
        ({"JOB_ID": "1234"}, None),  # Grid Engine and others
        ({"JOB_ID": "1234", "SPACE_ID": "ada/space"}, "space"),
        ({"COLAB_RELEASE_TAG": "release-colab_20261101"}, "colab"),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, "kaggle"),
        ({"RUNPOD_POD_ID": "abc"}, "runpod"),
        ({"VAST_CONTAINERLABEL": "C.123"}, "vast"),
    ],
)
def test_a_platform_is_known_by_what_it_sets(environ: dict[str, str], platform: str | None) -> None:
    assert host.platform_name(environ) == platform


def test_a_space_and_a_job_keep_their_names_when_their_containers_change() -> None:
    assert host.name({"SPACE_ID": "ada/space"}) == "ada/space"
    assert host.name({"JOB_ID": "687f", "SPACE_ID": "ada/space"}) == "687f"
    assert host.name({}) == host.name({"COLAB_RELEASE_TAG": "x"}) != ""


def test_a_machine_began_when_its_first_process_did(tmp_path: Path) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    fields = " ".join(["S", *["0"] * 18, "25000", "9", "9"])
    (tmp_path / "proc/1/stat").write_text(f"1 (a) name) {fields}")
    (tmp_path / "proc/stat").write_text("cpu  1 2 3 4\nbtime 1796000000\nprocesses 9\n")
    assert host.started(tmp_path) == 1_796_000_000 + 250
    assert host.started(tmp_path / "none") > 1_790_000_000


def test_what_the_user_says_counts_and_the_first_of_it() -> None:
    assert limit() is None
    assert limit(max_hours=2) == TimeLimit(7200, "--max-hours 2")
    deadline = "2026-11-30T09:00:00Z"
    assert limit(deadline=deadline) == TimeLimit(3600, f"--deadline {deadline}", is_hard=True)
    assert limit(deadline=deadline, max_hours=2) == TimeLimit(3600, f"--deadline {deadline}", is_hard=True)
    assert limit(deadline=deadline, max_hours=0.5, platform="colab") == TimeLimit(1800, "--max-hours 0.5")


@pytest.mark.parametrize(("platform", "hours"), [("colab", 12), ("kaggle", 9), ("jobs", 0.5)])
def test_a_limit_that_a_platform_is_known_for_counts_from_when_the_machine_began(platform: str, hours: float) -> None:
    found = limit(age_hours=0.25, platform=platform)
    assert found is not None
    assert (found.seconds, found.is_hard) == ((hours - 0.25) * 3600, True)
    assert found.reason.endswith(f"ends a session after {hours:g} h")


def test_a_machine_that_is_older_than_its_platforms_limit_has_another_one() -> None:
    assert limit(age_hours=13, platform="colab") is None


@pytest.mark.parametrize("platform", ["space", "runpod", "none"])
def test_where_no_limit_is_known_none_is_assumed(platform: str) -> None:
    assert limit(platform=platform) is None


def test_the_platform_is_recognised_or_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert getattr(platform_of(from_flat({}).machine), "name", "") == "kaggle"
    assert getattr(platform_of(from_flat({"platform": "colab"}).machine), "name", "") == "colab"
    assert platform_of(from_flat({"platform": "none"}).machine) is None
    with pytest.raises(InputError, match="--platform: colub is no platform") as caught:
        platform_of(from_flat({"platform": "colub"}).machine)
    assert "did you mean colab?" in caught.value.hint
