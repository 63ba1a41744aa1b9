"""Ranks are started, watched, and started again when one is lost; here they are shell scripts that end as told."""

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.app import run as command
from dragoman.config import RunConfig, from_flat
from dragoman.errors import ExitCode, InputError
from dragoman.host import cluster
from dragoman.training import crew

START = """#!/bin/sh
cd {folder}
echo $RANK $WORLD_SIZE $LOCAL_RANK $MASTER_ADDR:$MASTER_PORT "$@" >> started.$RANK
start=$(wc -l < started.$RANK)
say() {{ echo "$1" >> said.$RANK; }}
wait_for() {{ while [ ! -e "$1" ]; do sleep 0.01; done; }}
for_ever() {{ while :; do sleep 0.01; done; }}
case $RANK.$start in
"""


@dataclass
class Stage:
    """Where scripts play ranks."""

    folder: Path
    told: list[tuple[str, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def plays(self, **parts: str) -> None:
        """What the rank and start of each name does: `r1s2` is rank 1 at its second start, `r1` any other start."""
        named = ((name[1:].replace("s", ".") if "s" in name else f"{name[1:]}.*", do) for name, do in parts.items())
        # The shell takes the first pattern that fits.
        cases = [f"{name}) {do};;" for name, do in sorted(named, key=lambda case: "*" in case[0])]
        script = self.folder / "rank.sh"
        script.write_text("\n".join([START.format(folder=self.folder).rstrip(), *cases, "esac", ""]))
        script.chmod(0o755)

    def run(self, **options: Any) -> int:
        return crew.run(["train", "a word"], config(**options), self.said.append, lambda *told: self.told.append(told))

    def starts(self, rank: int) -> list[str]:
        file = self.folder / f"started.{rank}"
        return file.read_text().splitlines() if file.exists() else []

    def heard(self, rank: int) -> list[str]:
        file = self.folder / f"said.{rank}"
        return file.read_text().splitlines() if file.exists() else []


def config(**options: Any) -> RunConfig:
    values: dict[str, Any] = {"language_pairs": ["en-fr"], "device": "cpu", "devices": 2}
    return from_flat(values | options)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "rank.sh"))
    monkeypatch.setattr(crew, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(crew, "FOLLOW_SECONDS", 60.0)
    monkeypatch.setattr(crew, "PAUSE_SECONDS", 0.0)
    return made


def test_every_rank_gets_the_same_words_and_a_place_of_its_own(stage: Stage) -> None:
    stage.plays(r0="exit 0", r1="exit 0", r2="exit 0")
    assert stage.run(devices=3) == 0
    told = [stage.starts(rank)[0].split(maxsplit=4) for rank in range(3)]
    assert [each[:3] for each in told] == [["0", "3", "0"], ["1", "3", "1"], ["2", "3", "2"]]
    assert {each[3] for each in told} == {told[0][3]}
    assert {each[4] for each in told} == {"-m dragoman train a word"}
    assert stage.told == stage.said == []


@pytest.mark.parametrize("code", [0, 2, 3, 4, 75])
@pytest.mark.parametrize("other", ["exit 76", "exit 1", "kill -9 $$", "exit 0"])
def test_what_the_first_rank_says_of_the_session_counts(stage: Stage, code: int, other: str) -> None:
    stage.plays(r0=f"exit {code}", r1=other)
    assert stage.run() == code
    assert len(stage.starts(0)) == len(stage.starts(1)) == 1
    assert not stage.told


@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        ("for_ever", "exit 76", "rank 1 lost the others"),
        ("for_ever", "kill -9 $$", "rank 1 was ended by SIGKILL"),
        ("for_ever", "exit 1", "rank 1 ended with exit code 1"),
        ("exit 76", "for_ever", "rank 0 lost the others"),
        ("kill -9 $$", "for_ever", "rank 0 was ended by SIGKILL"),
        ("kill -11 $$", "for_ever", "rank 0 was ended by SIGSEGV"),
        ("exit 1", "for_ever", "rank 0 ended with exit code 1"),
    ],
)
def test_after_a_loss_all_ranks_start_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, first: str, other: str, words: str
) -> None:
    """One that does not leave by itself is ended, and where they meet is new."""
    monkeypatch.setattr(crew, "LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(crew, "FOLLOW_SECONDS", 0.05)
    stage.plays(r0s1=first, r1s1=other, r0="exit 0", r1="exit 0")
    assert stage.run() == 0
    assert stage.told == [(words, 1)]
    assert stage.said == [f"{words}: the ranks start again, 1 of 3"]
    assert len(stage.starts(0)) == len(stage.starts(1)) == 2
    assert len({line.split()[3] for line in stage.starts(0)}) == 2


@pytest.mark.parametrize("most", [0, 1, 3])
def test_after_the_last_restart_the_session_is_to_be_resumed(stage: Stage, most: int) -> None:
    stage.plays(r0="exit 76", r1="kill -9 $$")
    assert stage.run(max_restarts=most) == ExitCode.RESUME_ME
    assert len(stage.starts(0)) == len(stage.starts(1)) == most + 1
    assert [restart for _, restart in stage.told] == [*range(1, most + 1), 0]
    assert stage.said[-1].endswith("what is recorded is safe")


def test_a_bug_that_comes_again_is_told_as_one(stage: Stage) -> None:
    stage.plays(r0="exit 76", r1="exit 1")
    assert stage.run(max_restarts=1) == ExitCode.BUG
    assert len(stage.starts(1)) == 2


def test_every_pause_before_a_restart_is_twice_as_long(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(crew, "PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(crew._Signals, "wait", lambda self, seconds: pauses.append(seconds))
    stage.plays(r0="exit 76", r1="exit 76")
    stage.run(max_restarts=3)
    assert pauses == [1.0, 2.0, 4.0]


def test_the_first_rank_may_take_long_after_the_others_have_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It copies to the store; the others were released."""
    monkeypatch.setattr(crew, "LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(crew, "FOLLOW_SECONDS", 0.05)
    stage.plays(r0="wait_for gone; sleep 0.4; exit 75", r1="touch gone; exit 75")
    assert stage.run() == 75
    assert not stage.told


def test_ranks_that_wait_for_one_that_has_ended_are_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is when the first one finds bad input before they have met."""
    monkeypatch.setattr(crew, "FOLLOW_SECONDS", 0.05)
    stage.plays(r0="exit 2", r1="for_ever")
    assert stage.run() == 2
    assert not stage.told


def test_bad_input_that_only_another_rank_sees_ends_the_session(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LEAVE_SECONDS", 0.05)
    stage.plays(r0="for_ever", r1="exit 2")
    assert stage.run() == 2
    stage.plays(r0="exit 76", r1="exit 2")
    assert stage.run() == 2
    assert not stage.told


def test_a_signal_is_handed_on_once(stage: Stage) -> None:
    stage.plays(
        r0="trap 'say TERM; exit 75' TERM; wait_for ready; kill -TERM $PPID; for_ever",
        r1="trap 'say TERM; exit 75' TERM; touch ready; for_ever",
    )
    before = signal.getsignal(signal.SIGTERM)
    assert stage.run() == 75
    assert stage.heard(0) == stage.heard(1) == ["TERM"]
    assert not stage.told
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_reaches_ranks_once_although_they_have_a_session_of_their_own(stage: Stage) -> None:
    stage.plays(
        r0="trap 'say INT; exit 75' INT; wait_for ready; kill -INT $PPID; for_ever",
        r1="trap 'say INT; exit 75' INT; touch ready; for_ever",
    )
    assert stage.run() == 75
    assert stage.heard(0) == stage.heard(1) == ["INT"]


def test_a_second_signal_ends_ranks_that_do_not_listen(stage: Stage) -> None:
    stage.plays(
        r0="trap 'say TERM; kill -INT $PPID' TERM; trap '' INT; wait_for ready; kill -TERM $PPID; for_ever",
        r1="trap '' TERM INT; touch ready; for_ever",
    )
    assert stage.run() == ExitCode.RESUME_ME
    assert stage.heard(0) == ["TERM"]
    assert [restart for _, restart in stage.told] == [0], "whoever is asked to stop starts nothing again"


def test_a_loss_after_a_signal_starts_nothing_again(stage: Stage) -> None:
    stage.plays(
        r0="trap 'exit 76' TERM; wait_for ready; kill -TERM $PPID; for_ever",
        r1="trap 'kill -9 $$' TERM; touch ready; for_ever",
    )
    assert stage.run() == ExitCode.RESUME_ME
    assert len(stage.starts(0)) == 1


def test_a_signal_in_the_pause_before_a_restart_ends_the_session(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PAUSE_SECONDS", 60.0)
    stage.plays(r0="exit 76", r1="exit 76")

    def noted(reason: str, restart: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    began = time.monotonic()
    assert crew.run(["train"], config(), stage.said.append, noted) == ExitCode.RESUME_ME
    assert time.monotonic() - began < 30
    assert len(stage.starts(0)) == 1


def test_a_machine_that_is_not_the_first_ends_as_its_own_ranks_do(stage: Stage) -> None:
    stage.plays(r2="exit 75", r3="exit 75")
    options = {"nodes": 2, "node_rank": 1, "main_address": "127.0.0.1:4711"}
    assert stage.run(**options) == 75
    assert not stage.starts(0)
    assert [line.split()[:4] for line in stage.starts(3)] == [["3", "4", "1", "127.0.0.1:4711"]]
    stage.plays(r2="exit 76", r3="exit 76")
    assert stage.run(**options, max_restarts=0) == 75
    assert stage.told == [("rank 2 lost the others", 0)]


BAD = [
    ({"offload": True}, "--offload: "),
    ({"offload": True, "parallel": "ddp"}, "--offload: "),
    ({"offload": True, "parallel": "fsdp", "device": "cpu"}, "--offload keeps parts of a model out of a GPU's memory"),
    ({"parallel": "fsdp", "optimizer": "adafactor"}, "--parallel fsdp with --optimizer adafactor: "),
    ({"parallel": "fsdp", "optimizer": "adamw8bit"}, "--parallel fsdp with --optimizer adamw8bit: "),
    ({"precision": "fp64", "device": "cuda"}, "--precision fp64 "),
    ({"precision": "fp64", "device": "auto"}, "--precision fp64 "),
    ({"node_rank": 1}, "--node-rank 1: machines are counted from 0 to 0"),
    ({"nodes": 2, "node_rank": 2, "main_address": "a"}, "--node-rank 2: machines are counted from 0 to 1"),
    ({"nodes": 2}, "--nodes 2: which machine is this one?"),
    ({"nodes": 2, "node_rank": 0}, "--nodes 2: where is machine 0?"),
    ({"nodes": 2, "node_rank": 0, "main_address": "a:b"}, "--main-address a:b: b is no port"),
    ({"nodes": 2, "node_rank": 0, "main_address": "a:70000"}, "--main-address a:70000: 70000 is no port"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_options_that_do_not_fit_are_refused_and_nothing_is_started(
    stage: Stage, capfd: pytest.CaptureFixture[str], options: dict[str, Any], message: str
) -> None:
    stage.plays(r0="exit 0", r1="exit 0")
    values = {"devices": 2, "device": "cpu"} | options
    flags = [f"--{name.replace('_', '-')}{'' if value is True else f'={value}'}" for name, value in values.items()]
    words = ["train", "--language-pairs", "en-fr", "--output", str(stage.folder / "run"), *flags]
    assert command(words) == ExitCode.BAD_INPUT
    told = capfd.readouterr().err
    assert message in " ".join(told.split())
    assert "try: " in told
    assert not stage.starts(0)
    assert not (stage.folder / "run").exists()


def test_more_ranks_than_gpus_are_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "num_gpus", lambda: 2)
    with pytest.raises(InputError, match="--devices 3: this machine has 2 GPUs"):
        crew.is_needed(config(device="auto", devices=3))


@pytest.mark.parametrize(
    ("gpus", "options", "count"),
    [
        (4, {"device": "auto", "devices": None}, 4),
        (4, {"device": "auto", "devices": 1}, 1),
        (4, {"device": "cuda", "devices": 2}, 2),
        (4, {"device": "cpu", "devices": None}, 1),
        (4, {"device": "cpu", "devices": 8}, 8),
        (0, {"device": "auto", "devices": None}, 1),
        (0, {"device": "auto", "devices": 2}, 2),
        (0, {"device": "cuda", "devices": None}, 1),
    ],
)
def test_there_is_a_rank_for_each_gpu_unless_fewer_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, gpus: int, options: dict[str, Any], count: int
) -> None:
    monkeypatch.setattr(cluster, "num_gpus", lambda: gpus)
    assert crew.local_count(config(**options)) == count


def test_a_process_that_is_a_rank_already_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "rank", lambda: cluster.Rank(0, 2, 0, 2))
    assert not crew.is_needed(config())
    for nobody in (None, cluster.Rank(0, 1, 0, 1)):  # some machines tell every process that it is the only one
        monkeypatch.setattr(cluster, "rank", lambda nobody=nobody: nobody)
        assert crew.is_needed(config())
    monkeypatch.setattr(cluster, "rank", lambda: None)
    assert crew.is_needed(config())
    assert not crew.is_needed(config(devices=1))
    assert crew.is_needed(config(devices=1, nodes=2))
