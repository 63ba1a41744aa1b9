"""A Hub on this machine that the real `huggingface_hub` client talks to, and that fails on demand.

    with HubStandIn(tmp_path / "hub") as hub:                  # or HubStandIn(): memory only
        token = hub.add_token("hf_ada", "ada")                 # role "write", "read" or "fineGrained"
        api = HfApi(endpoint=hub.url, token=token)
        api.create_repo("ada/run", private=True)               # or hub.create("ada/run")
        ...
        hub.write("ada/run", "README.md", b"edited")           # somebody else commits; None deletes
        hub.read("ada/run", "README.md"), hub.names("ada/run"), hub.head("ada/run")
        [commit.operations for commit in hub.commits("ada/run")]
        hub.held_bytes("ada/run"), hub.peak_bytes("ada/run")   # LFS bytes that count against the quota
        hub.damage("ada/run", "model.safetensors", "flip")     # or "truncate", "remove"
        [seen.route for seen in hub.requests]                  # every request, in order

State in a folder outlives the object and its process: open the folder again. Settings are
attributes and may change at any time: `private_quota_bytes`, `commits_per_hour`,
`retry_after_seconds`, `requests_per_five_minutes`, `lfs_from_bytes`, `part_bytes`,
`entries_per_page`, `commits_per_page`, `clock`.

Faults: see `faults.py`. Names of requests: see `routes.py`.

    hub.faults.add(Fault("commit", drop=True, after_effect=True))     # lands, answer lost
    hub.lose_machine(before=3, route="write"); ...; hub.restore()     # nobody gets through
    hub.revoke(token)

Plain LFS is spoken when `HF_HUB_DISABLE_XET=1` is set before `huggingface_hub` is imported
(`tests/conftest.py` does so), Xet otherwise; both end in the same objects. The Xet client
remembers for all servers what it has uploaded: give each server another `HF_HOME`, or never
upload the same bytes twice. A client retries uploads for half a minute when they fail;
`client.without_waiting(monkeypatch)` makes it retry at once (not Xet's, which is not Python).

A held request stays held when its client goes away, and has its effect when it is released:
so commits land late. What a lost machine had on its way has none.

In another process: `hub_process(folder, "--token", "hf_ada:ada:write")`, or by hand `python -m
tests.support.hub --folder DIR --port-file FILE --token ...`; FILE gets the URL. `RemoteHub(url)`
has the methods above, and `add_fault`, `release`, `drop_held`, `is_held`, `num_matched`,
`clear_faults`, `requests` and `set`, which changes a setting.
"""

from tests.support.hub.control import RemoteHub
from tests.support.hub.faults import Fault
from tests.support.hub.hub import HubStandIn, Seen
from tests.support.hub.process import hub_process
from tests.support.hub.repository import Commit

__all__ = ["Commit", "Fault", "HubStandIn", "RemoteHub", "Seen", "hub_process"]
