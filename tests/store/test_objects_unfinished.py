"""Uploads that never ended are found and ended, by requests that obstore signs without knowing them."""

import datetime
import urllib.parse
from collections.abc import Generator, Mapping
from pathlib import Path

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from dragoman.errors import StoreUnavailable
from dragoman.store import objects_unfinished
from dragoman.store.base import MODEL_FILE
from dragoman.store.objects_bucket import Bucket
from dragoman.store.objects_unfinished import Unfinished, give_up, unfinished
from tests.store.objects_session import STATE, names, open_store, raw, start
from tests.store.session import Ledger
from tests.support.s3 import BUCKET, server
from tests.support.s3_proxy import Fault, Proxy


@pytest.fixture
def proxy() -> Generator[Proxy]:
    with Proxy(server().port) as proxy:
        yield proxy


def bucket(folder: Path, port: int | None = None) -> Bucket:
    return Bucket(f"s3://{BUCKET}{folder}", server().options(port))


def test_uploads_that_never_ended_are_ended_but_not_those_of_others(tmp_path: Path) -> None:
    log, _ = start(open_store(tmp_path), Ledger())
    folder = str(tmp_path).strip("/")
    mine = [f"checkpoint-5/{STATE}", f"checkpoint-5-ab/{MODEL_FILE}", MODEL_FILE, "dragoman/corpus/a b+ü"]
    others = ["film.mkv", "checkpoint-mine/x", "dragomania/x"]
    for path in [*mine, *others]:
        server().begin_upload(f"{folder}/{path}")
    held = log.store.held()
    assert sorted(path.split("?")[0] for path in held) == sorted(mine)
    log.clean()
    assert log.store.held() == []
    left = unfinished(bucket(tmp_path))
    assert sorted(one.path for one in left) == sorted(others)


@pytest.mark.parametrize("status", [403, 405, 501])
def test_where_unfinished_uploads_may_not_be_listed_the_rest_is_cleaned(
    proxy: Proxy, tmp_path: Path, status: int
) -> None:
    proxy.add(Fault("GET", "uploads=", status=status, times=None))
    log, _ = start(open_store(tmp_path, proxy.port), Ledger())
    raw(tmp_path).put("checkpoint-5/x", b"debris")
    log.clean()
    assert names(tmp_path) == {"dragoman/log/000001.json"}


@pytest.mark.parametrize("fault", [Fault(cut=True), Fault(cut_at=50), Fault(status=500)])
def test_a_list_that_does_not_come_is_not_taken_for_none(proxy: Proxy, tmp_path: Path, fault: Fault) -> None:
    server().begin_upload(f"{str(tmp_path).strip('/')}/{MODEL_FILE}")
    proxy.add(fault)
    with pytest.raises(StoreUnavailable) as failure:
        unfinished(bucket(tmp_path, proxy.port))
    assert "Signature" not in str(failure.value)
    assert len(unfinished(bucket(tmp_path, proxy.port))) == 1


def test_a_server_that_does_not_know_the_question_has_none(proxy: Proxy, tmp_path: Path) -> None:
    server().begin_upload(f"{str(tmp_path).strip('/')}/{MODEL_FILE}")
    proxy.add(Fault(status=200))  # a document, but another one
    assert unfinished(bucket(tmp_path, proxy.port)) == []


def test_an_upload_that_is_gone_already_is_no_failure(tmp_path: Path) -> None:
    server().begin_upload(f"{str(tmp_path).strip('/')}/{MODEL_FILE}")
    found = unfinished(bucket(tmp_path))
    for one in [*found, *found]:
        give_up(bucket(tmp_path), one)
    assert unfinished(bucket(tmp_path)) == []


def test_all_pages_of_the_list_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, asked = str(tmp_path).strip("/"), list[Mapping[str, str]]()

    def page(_: Bucket, method: str, path: str, query: Mapping[str, str]) -> bytes:
        asked.append(query)
        number = len(asked)
        upload = f"<Upload><Key>{prefix}/checkpoint-{number}/x</Key><UploadId>{number}</UploadId></Upload>"
        marks = f"<NextKeyMarker>k{number}</NextKeyMarker><NextUploadIdMarker>u{number}</NextUploadIdMarker>"
        more = "true" if number < 3 else "false"
        return f'<L xmlns="http://s3">{upload}{marks}<IsTruncated>{more}</IsTruncated></L>'.encode()

    monkeypatch.setattr(objects_unfinished, "_request", page)
    assert [one.path for one in unfinished(bucket(tmp_path))] == [f"checkpoint-{n}/x" for n in (1, 2, 3)]
    assert [query.get("key-marker") for query in asked] == [None, "k1", "k2"]
    assert asked[2]["upload-id-marker"] == "u2"


def test_its_name_can_be_told_from_that_of_an_object() -> None:
    one = Unfinished("checkpoint-5/a b", "x/y+z?=&")
    assert Unfinished.parse(str(one)) == one
    assert Unfinished.parse("checkpoint-5/a b") is None


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "", {"uploads": "", "prefix": "a b/ü+c/"}),
        ("DELETE", "/a%20b/checkpoint-5/x", {"uploadId": "x/y+z?=&"}),
    ],
)
def test_the_signature_is_that_of_amazons_own_client(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, query: dict[str, str]
) -> None:
    signed = objects_unfinished._signed(bucket(Path("/a b")), method, path, query)  # pyright: ignore
    parts = urllib.parse.urlsplit(signed)
    fields = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    assert fields.items() >= query.items()
    meant = {name: value for name, value in fields.items() if not name.startswith("X-Amz-")}
    address = parts._replace(query=urllib.parse.urlencode(meant, quote_via=urllib.parse.quote)).geturl()
    request = AWSRequest(method, address)
    when = datetime.datetime.strptime(fields["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: when)
    config = server().options()["config"]
    keys = Credentials(config["access_key_id"], config["secret_access_key"])
    expires = int(fields["X-Amz-Expires"])
    botocore.auth.S3SigV4QueryAuth(keys, "s3", config["region"], expires).add_auth(request)
    expected = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.url).query))
    assert fields["X-Amz-Signature"] == expected["X-Amz-Signature"]
