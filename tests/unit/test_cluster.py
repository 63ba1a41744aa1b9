"""What torchrun, SLURM and SkyPilot say of a process is understood, and nonsense is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from dragoman import host
from dragoman.errors import InputError
from dragoman.host import cluster
from dragoman.host.cluster import Rank

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
BATCH = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "8", "SLURM_NNODES": "2"}
"""What a batch script itself sees, beside what its job asked for."""
STEP = BATCH | {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NTASKS_PER_NODE": "4"}


def test_a_process_of_torchrun_is_the_rank_that_it_says() -> None:
    assert cluster.rank(TORCHRUN) == Rank(5, 8, 1, 4)
    assert cluster.rank({"RANK": "0"}) == Rank(0, 1, 0, 1)


def test_a_process_of_nobody_is_no_rank() -> None:
    assert cluster.rank({}) is None
    assert cluster.node_rank({}) is None
    assert cluster.main_host({}) is None


def test_a_task_of_srun_for_each_gpu_is_a_rank() -> None:
    assert cluster.rank(STEP | {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}) == Rank(5, 8, 1, 4)
    on_one = STEP | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    assert cluster.rank(on_one) == Rank(1, 2, 1, 4)


def test_a_task_of_srun_for_each_machine_is_no_rank_but_knows_its_machine() -> None:
    task = STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[07-08]"}
    assert cluster.rank(task) is None
    assert (cluster.node_rank(task), cluster.main_host(task)) == (1, "gpu07")


def test_a_batch_script_alone_is_no_rank() -> None:
    """Its SLURM_NTASKS is what `srun` would start; it is one process."""
    assert cluster.rank(BATCH) is None
    assert cluster.rank(BATCH | {"SLURM_STEP_NUM_TASKS": "1"}) is None


def test_torchrun_below_srun_counts() -> None:
    assert cluster.rank(STEP | {"SLURM_STEP_NUM_TASKS": "8"} | TORCHRUN) == Rank(5, 8, 1, 4)


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        ("node7", "node7"),
        ("node[003-010,12]", "node003"),
        ("node[003-010,12],other", "node003"),
        ("other,node[003-010]", "other"),
        ("node[12,14]", "node12"),
        ("rack[1-2]n[05-09].example", "rack1n05.example"),
        ("a-1.example,a-2.example", "a-1.example"),
    ],
)
def test_the_first_machine_of_a_slurm_list_is_machine_0(listed: str, first: str) -> None:
    assert cluster.main_host({"SLURM_JOB_NODELIST": listed}) == first
    assert cluster.main_host({"SLURM_STEP_NODELIST": listed, "SLURM_JOB_NODELIST": "none"}) == first


def test_skypilot_tells_machine_and_address() -> None:
    told = {"SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.7\n"}
    assert (cluster.node_rank(told), cluster.main_host(told)) == (0, "10.0.0.4")
    below_slurm = {"SLURM_NODEID": "3", "SLURM_JOB_NODELIST": "node[1-4]"} | told
    assert (cluster.node_rank(below_slurm), cluster.main_host(below_slurm)) == (0, "10.0.0.4")


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("0", 1),
        ("3,1", 2),
        (" 0 , 2 ", 2),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("NoDevFiles", 0),
        ("GPU-8f3a,GPU-17bc", 2),
        ("MIG-8f3a-17bc", 1),
    ],
)
def test_gpus_are_those_that_cuda_would_show(visible: str, count: int) -> None:
    assert cluster.num_gpus({"CUDA_VISIBLE_DEVICES": visible}) == count


def test_without_a_choice_all_gpus_of_the_driver_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "gpu_names", lambda: ["NVIDIA L4"] * 3)
    assert cluster.num_gpus({}) == 3


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (TORCHRUN | {"RANK": "first"}, "RANK=first: this environment variable has to be a number"),
        (TORCHRUN | {"WORLD_SIZE": "2.5"}, "WORLD_SIZE=2.5: "),
        (TORCHRUN | {"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1: "),
        (TORCHRUN | {"RANK": "8"}, "RANK=8 and WORLD_SIZE=8: ranks are counted from 0 to 7"),
        ({"RANK": "1"}, "RANK=1 and WORLD_SIZE=1: "),
        ({"SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS=many: "),
        (STEP | {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "x"}, "SLURM_PROCID=x: "),
    ],
)
def test_a_number_that_is_none_is_refused_by_its_name(variables: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as told:
        cluster.rank(variables)
    assert told.value.message.startswith(message)
    assert told.value.hint


def test_a_machine_number_that_is_none_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="SLURM_NODEID=second: "):
        cluster.node_rank({"SLURM_NODEID": "second"})


def test_the_command_says_so_in_one_message_and_ends_with_2(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dragoman", "train", "--language-pairs", "en-fr", "--output", str(tmp_path / "run")]
    environment = host.environment_without("RANK") | {"RANK": "eins"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert "RANK=eins: this environment variable has to be a number" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_rank_gets_the_environment_that_torchrun_would_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "num_cores", lambda: 8)
    for name in ("OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "7")  # of who starts it: not handed on
    given = cluster.environment_of_rank(Rank(5, 8, 1, 4), "10.0.0.4", 1234, "eth0")
    assert cluster.rank(given) == Rank(5, 8, 1, 4)
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("10.0.0.4", "1234")
    assert (given["OMP_NUM_THREADS"], given["GLOO_SOCKET_IFNAME"]) == ("2", "eth0")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    given = cluster.environment_of_rank(Rank(5, 8, 1, 4), "10.0.0.4", 1234, "eth0")
    assert (given["OMP_NUM_THREADS"], given["GLOO_SOCKET_IFNAME"]) == ("3", "mine")


def test_ranks_of_srun_meet_on_the_first_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun sets both variables, and srun none."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    cluster.know_meeting_place({"SLURM_JOB_NODELIST": "gpu[07-08]"})
    assert (host.variable("MASTER_ADDR"), host.variable("MASTER_PORT")) == ("gpu07", "29500")
    cluster.know_meeting_place({"SLURM_JOB_NODELIST": "gpu[01-02]"})
    assert host.variable("MASTER_ADDR") == "gpu07"


@pytest.mark.skipif(sys.platform != "linux", reason="names of interfaces are Linux's")
def test_the_interface_towards_loopback_is_loopback() -> None:
    assert cluster.interface_towards("127.0.0.1") == "lo"


def test_a_free_port_can_be_bound() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", cluster.free_port()))
