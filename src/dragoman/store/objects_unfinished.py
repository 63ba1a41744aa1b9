"""Uploads that were begun and never ended: no listing of objects shows them, and they are billed.

A machine that is lost in the middle of a large file leaves one behind. obstore has no call
that lists or ends them, but it signs requests, whatever its credentials come from. So it is
given an endpoint that is such a request already, query and all, and signs that; the name of
the object then becomes the value of a parameter that means nothing (`x-id`).

This works at S3 and what speaks its language. Google needs a life-cycle rule of the bucket
(AbortIncompleteMultipartUpload), Azure forgets such parts after a week by itself.
"""

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from dragoman.errors import StoreUnavailable
from dragoman.store.objects_bucket import Bucket
from dragoman.store.objects_failure import NOT_IMPLEMENTED

_SECONDS = 30
_NAMESPACE = re.compile(r"\{.*?\}")


@dataclass(frozen=True)
class Unfinished:
    """One such upload."""

    path: str
    """What would have been stored, below the store's URL."""
    upload: str
    """The server's name of it."""

    def __str__(self) -> str:
        return f"{self.path}?uploadId={urllib.parse.quote(self.upload, safe='')}"

    @classmethod
    def parse(cls, text: str) -> "Unfinished | None":
        """The one whose `str` this is; None when it is that of an object."""
        path, mark, upload = text.partition("?uploadId=")
        return cls(path, urllib.parse.unquote(upload)) if mark else None


def unfinished(bucket: Bucket) -> list[Unfinished]:
    """Those below the bucket's URL; none where the server or our rights do not let us ask.

    Raises:
        StoreUnavailable: The server did not answer.
    """
    if bucket.scheme != "s3":
        return []
    prefix = _prefix(bucket)
    found: list[Unfinished] = []
    marks: dict[str, str] = {}
    while True:
        page = _page(_request(bucket, "GET", "", {"uploads": "", "prefix": prefix} | marks))
        for one in page:
            if _name(one) == "Upload":
                fields = _fields(one)
                found.append(Unfinished(fields["Key"].removeprefix(prefix), fields["UploadId"]))
        fields = _fields(page)
        if fields.get("IsTruncated") != "true" or "NextKeyMarker" not in fields:
            return found
        marks = {"key-marker": fields["NextKeyMarker"], "upload-id-marker": fields.get("NextUploadIdMarker", "")}


def give_up(bucket: Bucket, one: Unfinished) -> None:
    """End an upload without its object; its parts are freed. One that is gone already is no failure."""
    key = urllib.parse.quote(_prefix(bucket) + one.path)
    _request(bucket, "DELETE", f"/{key}", {"uploadId": one.upload})


def _prefix(bucket: Bucket) -> str:
    prefix = bucket.remote.prefix
    return f"{str(prefix).strip('/')}/" if prefix else ""


def _request(bucket: Bucket, method: Literal["GET", "DELETE"], path: str, query: Mapping[str, str]) -> bytes | None:
    """The answer to a request that obstore does not know; None when the server refuses it."""

    def ask() -> bytes | None:
        request = urllib.request.Request(_signed(bucket, method, path, query), method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code < 500 or error.code == NOT_IMPLEMENTED:
                    return None
                raise StoreUnavailable(f"{bucket.url}: {what} ({error.code})") from None
        except (OSError, http.client.HTTPException) as error:  # the signed URL must not get into a message
            raise StoreUnavailable(f"{bucket.url}: {what} ({type(error).__name__})") from None

    what = "unfinished uploads cannot be listed or ended"
    return bucket.ask(what, ask, 2 * _SECONDS)


def _signed(bucket: Bucket, method: Literal["GET", "DELETE"], path: str, query: Mapping[str, str]) -> str:
    import obstore
    from obstore.store import S3Store

    expires = timedelta(seconds=_SECONDS)
    known = bucket.remote
    address = obstore.sign(known, "GET", "x", expires).split("?")[0]
    base = address.removesuffix(urllib.parse.quote(f"/{_prefix(bucket)}x"))
    config: Any = {
        **known.config,
        "endpoint": f"{base}{path}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}&x-id=",
        "virtual_hosted_style_request": True,
    }
    signer = S3Store(config=config, client_options=known.client_options, credential_provider=known.credential_provider)
    return obstore.sign(signer, method, "dragoman", expires)


def _page(answer: bytes | None) -> "ElementTree.Element":
    """The answer as XML; empty when it is none, as of a server that does not know the question."""
    try:
        return ElementTree.fromstring(answer or b"")
    except ElementTree.ParseError:
        return ElementTree.Element("nothing")


def _fields(element: "ElementTree.Element") -> dict[str, str]:
    return {_name(field): field.text or "" for field in element}


def _name(element: "ElementTree.Element") -> str:
    return _NAMESPACE.sub("", element.tag)
