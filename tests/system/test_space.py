"""`dragoman space` as a real process against a Hub: killed with its disk, it ends as if nothing had happened."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragoman.checkpoint.log import RunLog
from dragoman.store.hub import HubStore
from tests.support.hub import Fault, HubStandIn
from tests.support.runs import make_pairs
from tests.support.space import REPO, SECONDS, SPACE, TOKEN, Container, is_paused, space_words

PACE = 0.05


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("data") / "pairs.tsv", 120, seed=1)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubStandIn]:
    with HubStandIn(tmp_path / "hub") as hub:
        hub.add_token(TOKEN, "ada")
        hub.create(f"spaces/{SPACE}")
        hub.space(SPACE)
        hub.spaces[SPACE].sleep_seconds = 3600
        yield hub


@pytest.fixture
def boot(tmp_path: Path, hub: HubStandIn, data: Path) -> Iterator[Callable[..., Container]]:
    """Starts a container with an empty disk, and the words of a tiny run."""
    started: list[Container] = []
    numbers = itertools.count()

    def start(*, pace: float = 0.0, environ: dict[str, str] | None = None, **options: object) -> Container:
        folder = tmp_path / f"disk-{next(numbers)}"
        started.append(Container(folder, hub, space_words(data, **options), pace, environ or {}))
        return started[-1]

    yield start
    for container in started:
        container.machine.vanish()


def published(hub: HubStandIn) -> str:
    return hashlib.sha256(hub.read(REPO, "model.safetensors")).hexdigest()


def safe_step(hub: HubStandIn) -> int:
    if f"models/{REPO}" not in hub.repositories:
        return -1
    newest = RunLog(HubStore(REPO, endpoint=hub.url, token=lambda: TOKEN)).newest
    return newest.step if newest else -1


@pytest.mark.slow
def test_killed_with_its_disk_it_goes_on_ends_alike_and_is_paused_once(
    hub: HubStandIn, boot: Callable[..., Container], tmp_path: Path
) -> None:
    undisturbed = boot(store=str(tmp_path / "store"))
    assert undisturbed.shows(lambda: is_paused(hub)), undisturbed.process.talk
    undisturbed.end(grace_seconds=5)
    assert undisturbed.process.exit_code == 0, undisturbed.process.talk
    hub.spaces[SPACE].stage, hub.spaces[SPACE].pauses = "RUNNING", 0

    first = boot(pace=PACE)
    assert first.page("healthz") == "ok"  # while torch is imported elsewhere
    assert first.shows(lambda: safe_step(hub) >= 5), first.process.talk
    assert json.loads(first.page("status.json"))["run"]
    assert first.entry()["phase"] == "training"
    first.end()
    assert (hub.spaces[SPACE].pauses, hub.spaces[SPACE].sleep_seconds) == (0, -1)

    lost_at = safe_step(hub)
    second = boot(pace=PACE)
    assert second.shows(lambda: safe_step(hub) > lost_at), second.process.talk
    second.end(grace_seconds=30)  # the platform's own restart: saves, and does not pause
    assert second.process.exit_code == 75, second.process.talk
    assert hub.spaces[SPACE].pauses == 0

    third = boot()
    assert third.shows(lambda: is_paused(hub)), third.process.talk
    assert third.entry()["phase"] == "released"
    third.end(grace_seconds=5)
    assert third.process.exit_code == 0, third.process.talk
    assert hub.spaces[SPACE].pauses == 1
    assert published(hub) == hashlib.sha256((tmp_path / "store/model.safetensors").read_bytes()).hexdigest()
    talk = "\n".join(second.process.talk + third.process.talk)
    assert "continues at step" in talk
    assert "waiting until" not in talk  # for the lease of its own earlier containers


def test_what_a_person_must_change_is_shown_and_paid_for_no_longer_than_it_can_be_read(
    hub: HubStandIn, boot: Callable[..., Container]
) -> None:
    container = boot(language_pairs="en-xx", page_minutes=None)
    assert container.shows(lambda: is_paused(hub)), container.process.talk
    page = container.page()
    assert "en-xx" in page
    assert container.entry()["is_bad"]
    container.end(grace_seconds=5)
    assert container.process.exit_code == 2
    assert hub.spaces[SPACE].pauses == 1


@pytest.mark.parametrize("role", ["none", "read"])
def test_without_a_token_that_may_write_nothing_is_trained_and_the_cost_is_named(
    hub: HubStandIn, boot: Callable[..., Container], role: str
) -> None:
    hub.add_token("hf_reader", "ada", "read")
    container = boot(environ={"HF_TOKEN": "hf_reader" if role == "read" else ""})
    assert container.process.ended(SECONDS), container.process.talk
    talk = "\n".join(container.process.talk)
    assert container.process.exit_code == 2, talk
    assert {"none": "no token", "read": "may only read"}[role] in talk
    assert "THIS MACHINE MAY STILL COST MONEY" in talk
    assert f"models/{REPO}" not in hub.repositories
    assert hub.spaces[SPACE].pauses == 0


def test_a_container_goes_on_where_its_predecessor_was_killed_and_a_pause_whose_answer_is_lost_is_not_asked_for_again(
    hub: HubStandIn, boot: Callable[..., Container]
) -> None:
    first = boot(pace=PACE, max_steps=30)
    assert first.shows(lambda: safe_step(hub) >= 5), first.process.talk
    first.end()
    hub.faults.add(Fault("pause", drop=True, after_effect=True))
    second = boot(max_steps=30)
    assert second.shows(lambda: second.entry()["phase"] == "released"), second.process.talk
    assert hub.spaces[SPACE].pauses == 1
    assert safe_step(hub) == 30
    assert "continues at step" in "\n".join(second.process.talk)


def test_when_its_time_is_up_it_is_paused_and_not_started_again(
    hub: HubStandIn, boot: Callable[..., Container]
) -> None:
    container = boot(max_hours=0.0005)  # over before the first step
    assert container.shows(lambda: is_paused(hub)), container.process.talk
    assert container.entry()["attempts"] == 1
    container.end(grace_seconds=5)
    assert container.process.exit_code == 75
    assert "--deadline 20" in "\n".join(container.process.talk)
    assert hub.spaces[SPACE].pauses == 1
