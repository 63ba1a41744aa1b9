"""Hugging Face Jobs through the real client, against the Hub stand-in: what is sent, refused, lost and released."""

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import HfApi

from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch import bundle, jobs
from dragoman.launch.hub_account import Account
from dragoman.launch.job import Handle
from dragoman.launch.jobs import JobsClient
from dragoman.store.deadline import Patience
from tests.support.hub import Fault, HubStandIn
from tests.support.launching import RUN, TOKEN, agrees, example

BUNDLES = "datasets/ada/dragoman-launch"


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as made:
        made.add_token(TOKEN, "ada")
        yield made


def client(hub: HubStandIn, token: str | None = TOKEN) -> JobsClient:
    patience = Patience(answer_seconds=5, stall_seconds=5, transfer_seconds=5)
    return JobsClient(Account(hub.url, lambda: token, patience), nonce=lambda: "0a0b0c0d")


def started(hub: HubStandIn, **more: Any) -> Handle:
    job = example(**more)
    plan = jobs.plan(job)
    client(hub).check(job, plan)
    return client(hub).submit(job, plan)


def refusal(hub: HubStandIn, token: str | None = TOKEN, **more: Any) -> str:
    """What `check` says; nothing is made or started."""
    job = example(**more)
    before = set(hub.repositories)
    with pytest.raises(InputError) as caught:
        client(hub, token).check(job, jobs.plan(job))
    assert hub.jobs == {}
    assert set(hub.repositories) == before
    assert (token or TOKEN) not in str(caught.value)
    return str(caught.value)


# --- what is sent ------------------------------------------------------------------


def test_the_plan_is_as_it_was_looked_at() -> None:
    plan = jobs.plan(example(max_hours=8.0))
    files = {path: data.decode() for path, data in plan.files.items()}
    rest = {"environment": dict(plan.environment), "secrets": plan.secrets, "steps": plan.steps}
    agrees("jobs_plan.json", {"files": files, "script": plan.command[2].splitlines(), **rest})


def test_the_request_is_as_it_was_looked_at(hub: HubStandIn) -> None:
    handle = started(hub, max_hours=8.0)
    [job] = hub.jobs.values()
    assert handle == Handle("jobs", f"ada/{job.id}", f"{hub.url}/jobs/ada/{job.id}")
    asked = dict(job.asked)
    assert asked["secrets"] == {"HF_TOKEN": TOKEN}
    asked["secrets"] = {"HF_TOKEN": "…"}
    assert asked["command"][:2] == ["bash", "-c"]
    asked["command"] = "as in jobs_plan.json"
    agrees("jobs_request.json", asked)


def test_the_token_is_sent_as_a_secret_and_nowhere_else(hub: HubStandIn) -> None:
    started(hub)
    [job] = hub.jobs.values()
    assert TOKEN not in json.dumps({name: value for name, value in job.asked.items() if name != "secrets"})
    assert [name for name in hub.names(BUNDLES) if TOKEN.encode() in hub.read(BUNDLES, name)] == []


def test_secrets_of_an_object_store_are_sent_as_secrets(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    more: dict[str, Any] = {"options": RUN | {"store": "s3://bucket/run"}, "bundle": "ada/dragoman-launch"}
    started(hub, **more)
    [job] = hub.jobs.values()
    secrets = job.asked["secrets"]
    assert secrets.keys() >= {"HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
    assert "AWS_SESSION_TOKEN" not in secrets
    assert "key-secret" not in json.dumps({name: value for name, value in job.asked.items() if name != "secrets"})
    hub.jobs.clear()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_SECRET_ACCESS_KEY is not set" in refusal(hub, **more)


def test_a_bundle_is_one_commit_in_a_private_data_set_and_is_made_once(hub: HubStandIn) -> None:
    job = example()
    for _ in range(2):
        bundle.publish(Account(hub.url, lambda: TOKEN), job)
    assert hub.repository(BUNDLES).private
    assert len(hub.commits(BUNDLES)) == 2  # that of the Hub itself, and ours
    top = bundle.folder(job)
    assert hub.names(BUNDLES) >= {f"{top}/run.yaml", f"{top}/SHA256SUMS", f"{top}/{job.requires[0]}"}
    bundle.publish(Account(hub.url, lambda: TOKEN), replace(job, carries={"w.whl": b"other"}, requires=("w.whl",)))
    assert len(hub.commits(BUNDLES)) == 3
    assert len({name.split("/")[0] for name in hub.names(BUNDLES) if "/" in name}) == 2


@pytest.mark.skipif("attempts" not in inspect.signature(HfApi.run_job).parameters, reason="an older client")
def test_several_attempts_are_asked_for_where_the_client_can(hub: HubStandIn) -> None:
    started(hub, attempts=3)
    assert next(iter(hub.jobs.values())).asked["attempts"] == 3


def test_a_client_that_cannot_ask_for_attempts_is_named_before_anything_is_made(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_job(self: HfApi, *, image: str, command: list[str]) -> None:
        raise AssertionError

    monkeypatch.setattr(HfApi, "run_job", run_job)
    said = refusal(hub, attempts=3)
    assert "--attempts 3: huggingface_hub" in said
    assert "pip install -U" in said


# --- what is refused before anything is made ---------------------------------------


def test_no_token_and_tokens_that_may_not_are_refused(hub: HubStandIn) -> None:
    assert "HF_TOKEN is not set" in refusal(hub, token=None)
    assert "the token is not valid" in refusal(hub, token="hf_nobodyKnowsThisOne")
    hub.add_token("hf_mayOnlyRead", "ada", "read")
    assert "may only read" in refusal(hub, token="hf_mayOnlyRead")
    hub.add_token("hf_ofSomebodyElse", "bob")
    assert "belongs to ada, and this token to bob" in refusal(hub, token="hf_ofSomebodyElse")


def test_a_fine_grained_token_needs_the_permission_to_start_jobs(hub: HubStandIn) -> None:
    hub.add_token("hf_fineWrites", "ada", "fineGrained", scopes={"ada": ["repo.write"]})
    said = refusal(hub, token="hf_fineWrites")
    assert "may not start jobs" in said
    assert "job.write" in said
    hub.add_token("hf_fineBoth", "ada", "fineGrained", scopes={"ada": ["repo.write", "job.write"]})
    job = example()
    client(hub, "hf_fineBoth").check(job, jobs.plan(job))


def test_a_public_data_set_of_that_name_is_refused(hub: HubStandIn) -> None:
    hub.create(BUNDLES, private=False)
    assert "datasets/ada/dragoman-launch is public" in refusal(hub)
    assert "--bundle" in refusal(hub)


def test_a_store_of_nobody_on_the_hub_needs_a_data_set_for_the_bundle() -> None:
    with pytest.raises(InputError, match=r"--bundle is missing"):
        jobs.plan(example(options=RUN | {"store": "s3://bucket/run"}))


def test_a_machine_that_became_dearer_than_was_said_is_refused_unless_the_budget_allows_it(hub: HubStandIn) -> None:
    hub.job_prices["l4x1"] = 2.0
    said = refusal(hub, max_hours=3.0)
    assert "costs $2.00 an hour now, which may come to $6.00, more than $2.40" in said
    assert "try: --max-usd 6.00 --max-hours 3" in said
    assert "more than $5.00" in refusal(hub, max_hours=3.0, max_usd=5.0)
    started(hub, max_hours=3.0, max_usd=6.0)


def test_a_machine_that_is_gone_is_refused(hub: HubStandIn) -> None:
    del hub.job_prices["l4x1"]
    assert "--gpu l4x1: Hugging Face Jobs has it no more" in refusal(hub)


def test_a_second_job_for_the_same_run_is_refused_until_the_first_has_ended(hub: HubStandIn) -> None:
    handle = started(hub)
    job = example()
    with pytest.raises(InputError, match=r"a job that trains hf://ada/run is there already") as caught:
        client(hub).check(job, jobs.plan(job))
    assert f"dragoman stop jobs:{handle.id}" in caught.value.hint
    client(hub).release(handle)
    client(hub).check(job, jobs.plan(job))


def test_several_machines_are_refused() -> None:
    with pytest.raises(InputError, match=r"--nodes 2: a job of Hugging Face is one machine"):
        jobs.plan(example(num_nodes=2))


# --- when starting goes wrong ------------------------------------------------------


def test_an_account_without_credit_is_told_so(hub: HubStandIn) -> None:
    hub.has_credit = False
    with pytest.raises(InputError, match=r"the account has no credit") as caught:
        started(hub)
    assert "billing" in caught.value.hint
    assert hub.jobs == {}


def test_a_job_whose_answer_was_lost_is_found_again_and_not_started_twice(hub: HubStandIn) -> None:
    hub.faults.add(Fault("job_start", drop=True, after_effect=True))
    handle = started(hub)
    [job] = hub.jobs.values()
    assert handle.id == f"ada/{job.id}"


def test_a_request_that_was_lost_started_nothing_and_says_so(hub: HubStandIn) -> None:
    hub.faults.add(Fault("job_start", drop=True))
    with pytest.raises(StoreUnavailable, match=r"the job was not started: .*; nothing runs"):
        started(hub)
    assert hub.jobs == {}


def test_where_nobody_can_tell_a_person_is_told_where_to_look(hub: HubStandIn) -> None:
    job = example()
    plan = jobs.plan(job)
    client(hub).check(job, plan)
    hub.faults.add(Fault("job_start", drop=True, after_effect=True))
    hub.faults.add(Fault("job_list", drop=True, times=None))
    with pytest.raises(StoreUnavailable, match=r"it may run all the same") as caught:
        client(hub).submit(job, plan)
    assert "jobs/ada" in caught.value.hint
    assert len(hub.jobs) == 1


def test_a_refusal_starts_nothing(hub: HubStandIn) -> None:
    job = example()
    plan = jobs.plan(job)
    del hub.job_prices["l4x1"]
    with pytest.raises(InputError, match=r"Invalid flavor"):
        client(hub).submit(job, plan)
    assert hub.jobs == {}


# --- afterwards --------------------------------------------------------------------


def test_states_are_told_in_four_words(hub: HubStandIn) -> None:
    handle = started(hub)
    [job] = hub.jobs.values()
    for stage, state in (
        ("SCHEDULING", "waiting"),
        ("RUNNING", "running"),
        ("COMPLETED", "ended"),
        ("ERROR", "ended"),
        ("NEWLY_INVENTED", "unknown"),
    ):
        job.stage = stage
        assert client(hub).state(handle) == state
    assert client(hub).state(Handle("jobs", "ada/ffff")) == "ended"
    hub.faults.add(Fault("job_look", drop=True, times=None))
    assert client(hub).state(handle) == "unknown"


def test_releasing_twice_does_no_harm(hub: HubStandIn) -> None:
    handle = started(hub)
    [job] = hub.jobs.values()
    job.stage = "RUNNING"
    client(hub).release(handle)
    assert job.stage == "CANCELED"
    client(hub).release(handle)
    client(hub).release(Handle("jobs", "ada/ffff"))


def test_a_job_that_cannot_be_released_is_said(hub: HubStandIn) -> None:
    handle = started(hub)
    hub.add_token("hf_mayOnlyRead", "ada", "read")
    with pytest.raises(InputError, match=r"cannot be cancelled"):
        client(hub, "hf_mayOnlyRead").release(handle)
