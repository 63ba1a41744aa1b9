"""vast.ai: which offers are taken at which price, what is rented, and that nothing is left that costs money."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import vast
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle, Job
from dragoman.launch.rest import Rest
from tests.support.hub import HubStandIn
from tests.support.launching import TOKEN, agrees, example
from tests.support.recorder import Cut, Recorder, Status

KEY = "theVastKeyOfAda"
OFFERS = [
    {"id": 7, "dph_total": 0.31, "min_bid": 0.12},
    {"id": 8, "dph_total": 0.39, "min_bid": 0.2},
    {"id": 9, "dph_total": 0.55, "min_bid": 0.5},
]
MACHINE = {"id": 42, "label": "run", "actual_status": None, "intended_status": "running"}


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        yield made


@pytest.fixture
def vendor() -> Iterator[Recorder]:
    """An account that keeps the token, has no machines, and finds three offers."""
    with Recorder() as made:
        made.answer("GET", "/api/v1/instances/", {"instances": []})
        made.answer("GET", "/api/v0/secrets/", {"secrets": {"HF_TOKEN": TOKEN}})
        made.answer("POST", "/api/v0/bundles/", {"offers": OFFERS})
        made.answer("PUT", "/api/v0/asks/7/", {"success": True, "new_contract": 42})
        yield made


@pytest.fixture
def client(vendor: Recorder, hub: HubStandIn) -> vast.VastClient:
    return vast.VastClient(
        Rest("vast.ai", f"{vendor.url}/api", KEY, "another key", 10), Account(hub.url, lambda: TOKEN)
    )


def job(**more: Any) -> Job:
    return example("vast", None, **more)


def test_the_cheapest_offer_is_rented_as_planned_and_bears_no_secret(client: vast.VastClient, vendor: Recorder) -> None:
    plan = vast.plan(job())
    client.check(job(), plan)
    assert client.submit(job(), plan) == Handle("vast", "42", vast.PAGE)
    [query, again] = vendor.asked("POST", "/api/v0/bundles/")
    assert query == again
    agrees("vast_search.json", query)
    [body] = vendor.asked("PUT", "/api/v0/asks/7/")
    agrees("vast_machine.json", body)
    for asked in vendor.requests:
        assert TOKEN not in asked.raw
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in asked.raw  # not in a query either


def test_the_start_script_is_short_enough_and_goes_on_after_a_pause() -> None:
    script = vast._request(job(), vast.plan(job()), OFFERS[0])["onstart"]
    assert len(script) < vast.ON_START_LETTERS
    assert script.endswith('nohup bash "$HOME/dragoman.sh" >> "$HOME/dragoman.log" 2>&1 &\n')


def test_no_offer_above_the_agreed_price_is_rented(client: vast.VastClient, vendor: Recorder) -> None:
    taken = Status(404, {"success": False, "error": "no_such_ask", "msg": "the offer is gone"})
    vendor.answer("PUT", "/api/v0/asks/7/", taken)
    vendor.answer("PUT", "/api/v0/asks/8/", taken)
    with pytest.raises(InputError, match="the offer is gone"):
        client.submit(job(), vast.plan(job()))
    assert [one.path for one in vendor.requests if one.method == "PUT"] == ["/api/v0/asks/7/", "/api/v0/asks/8/"]
    vendor.answer("POST", "/api/v0/bundles/", {"offers": OFFERS[2:]})
    with pytest.raises(InputError, match=r"the cheapest RTX 4090 at vast.ai costs \$0.55(.|\n)*--max-usd 13.20"):
        client.submit(job(), vast.plan(job()))
    vendor.answer("PUT", "/api/v0/asks/9/", {"success": True, "new_contract": 43})
    assert client.submit(job(max_usd=14.0), vast.plan(job())).id == "43"


def test_a_machine_that_may_be_taken_away_is_bid_for(client: vast.VastClient, vendor: Recorder) -> None:
    client.submit(job(spot=True), vast.plan(job(spot=True)))
    [query] = vendor.asked("POST", "/api/v0/bundles/")
    assert (query["type"], query["order"]) == ("bid", [["min_bid", "asc"]])
    [body] = vendor.asked("PUT", "/api/v0/asks/7/")
    assert body["price"] == 0.132
    [on_demand] = [vast._request(job(), vast.plan(job()), OFFERS[0])]
    assert on_demand["price"] is None


def test_what_would_fail_later_is_refused_before_anything_is_rented(client: vast.VastClient, vendor: Recorder) -> None:
    plan = vast.plan(job())
    vendor.answer("GET", "/api/v0/secrets/", {"secrets": {"OTHER": "x"}})
    with pytest.raises(InputError, match=r"vast.ai keeps no secret HF_TOKEN for you(.|\n)*create env-var HF_TOKEN"):
        client.check(job(), plan)
    vendor.answer("GET", "/api/v0/secrets/", {"secrets": {"HF_TOKEN": TOKEN}})
    vendor.answer("POST", "/api/v0/bundles/", {"offers": []})
    with pytest.raises(InputError, match="offers no reliable one for 24 hours now"):
        client.check(job(), plan)
    first = {"instances": [{"id": 1, "label": None}], "next_token": "more"}
    vendor.answer("GET", "/api/v1/instances/", first, {"instances": [MACHINE]})
    with pytest.raises(InputError, match=r"the name run is there already(.|\n)*dragoman stop vast:42"):
        client.check(job(), plan)
    assert vendor.requests[-1].query["after_token"] == "more"
    with pytest.raises(InputError, match="not connected"):
        vast.plan(job(num_nodes=2))


def test_a_machine_whose_answer_was_lost_is_found_by_its_name(client: vast.VastClient, vendor: Recorder) -> None:
    vendor.answer("PUT", "/api/v0/asks/7/", Cut())
    vendor.answer("GET", "/api/v1/instances/", {"instances": [MACHINE]})
    assert client.submit(job(), vast.plan(job())).id == "42"
    vendor.answer("GET", "/api/v1/instances/", {"instances": []})
    with pytest.raises(StoreUnavailable, match="nothing runs"):
        client.submit(job(), vast.plan(job()))
    vendor.answer("GET", "/api/v1/instances/", Status(502))
    with pytest.raises(StoreUnavailable, match=r"it may run all the same(.|\n)*destroy it there"):
        client.submit(job(), vast.plan(job()))


@pytest.mark.parametrize(
    ("status", "intended", "state"),
    [
        (None, "running", "waiting"),
        ("loading", "running", "waiting"),
        ("running", "running", "running"),
        ("stopped", "running", "waiting"),
        ("stopped", "stopped", "ended"),
        ("exited", "running", "ended"),
        ("offline", "running", "unknown"),
    ],
)
def test_what_vast_says_of_a_machine(
    client: vast.VastClient, vendor: Recorder, status: str | None, intended: str, state: str
) -> None:
    machine = MACHINE | {"actual_status": status, "intended_status": intended}
    vendor.answer("GET", "/api/v0/instances/42/", {"instances": machine})
    assert client.state(Handle("vast", "42")) == state


def test_a_machine_that_is_not_there_has_ended_and_may_be_destroyed_twice(
    client: vast.VastClient, vendor: Recorder
) -> None:
    handle = Handle("vast", "42")
    vendor.answer("GET", "/api/v0/instances/42/", {"instances": None})
    assert client.state(handle) == "ended"
    vendor.answer("GET", "/api/v0/instances/42/", Cut())
    assert client.state(handle) == "unknown"
    vendor.answer("DELETE", "/api/v0/instances/42/", {"success": True}, Status(404))
    client.release(handle)
    client.release(handle)
    assert len(vendor.asked("DELETE", "/api/v0/instances/42/")) == 2


def test_the_key_is_found_where_vasts_own_tool_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"no key of vast.ai(.|\n)*manage-keys"):
        vast.connect()
    (tmp_path / ".vast_api_key").write_text("k\n")
    vast.connect()
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    assert vast.connect().state(Handle("vast", "1")) == "unknown"
