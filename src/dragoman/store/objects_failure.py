"""What went wrong at an object store, in one line of words, from what obstore raised.

obstore quotes requests and answers in full, and those may hold access keys and signed
URLs. So nothing of its text is passed on but HTTP statuses and the servers' own short
codes, and the exception itself goes no further.
"""

import re

from dragoman.errors import StoreUnavailable

NOT_IMPLEMENTED = 501

CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles in ~/.aws are not read)",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""What a person can do about credentials, by scheme."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_CREDENTIALS = re.compile(r"//169\.254\.|//metadata\.google\.internal|performing token request|MissingCredentials")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_WRONG_KEY = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"),
    *("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"),
}
_WRONG_CLOCK = {"RequestTimeTooSkewed"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
_TOO_OFTEN = {"SlowDown", "ServerBusy", "RequestLimitExceeded", "TooManyRequests"}
_NO_ANSWER = {
    r"kind: Timeout|TimedOut|timed out": "no answer in time",
    r"dns error": "its name cannot be resolved (no network, or a wrong endpoint)",
    r"ConnectionRefused": "the connection was refused",
    r"InvalidCertificate|UnknownIssuer|certificate verify|InvalidMessage": "no safe connection (TLS)",
    r"kind: Connect\b": "it cannot be reached",
    r"HttpError|IncompleteMessage|ConnectionReset|request or response body": "the connection was cut",
}


class Refused(StoreUnavailable):
    """The store answers, and will go on answering so until a person changes something.

    Args:
        message: Which store, what was asked of it, and what it answered.
        hint: What a person can do.
        status: The HTTP status; 0 where none is known.
    """

    def __init__(self, message: str, hint: str = "", *, status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class Missing(Refused):
    """There is no such object."""


def explain(error: BaseException, what: str, scheme: str) -> StoreUnavailable:
    """The failure that an exception of obstore means.

    Args:
        error: What it raised.
        what: Store and request, in words.
        scheme: `s3`, `gs` or `az`.
    """
    text = str(error)
    status = next((int(found[1]) for found in [_STATUS.search(text)] if found), 0)
    code = next((found[1] for found in [_CODE.search(text)] if found), "")
    said = f" ({' '.join(filter(None, [str(status or ''), code]))})" if status or code else ""
    if _NO_CREDENTIALS.search(text):
        return Refused(f"{what}: no credentials were found", CREDENTIALS[scheme], status=status)
    if isinstance(error, FileNotFoundError) and code not in _NO_BUCKET:
        return Missing(f"{what}: it is not there{said}", status=404)
    if code in _NO_BUCKET:
        return Refused(f"{what}: there is no such bucket{said}", "create it, or correct the URL", status=status)
    if code in _WRONG_KEY or status == 401:
        return Refused(f"{what}: it does not accept these credentials{said}", CREDENTIALS[scheme], status=status)
    if code in _WRONG_CLOCK:
        return Refused(f"{what}: the clock of this machine is wrong{said}", "set it", status=status)
    if code in _ELSEWHERE or "without LOCATION" in text:
        return Refused(f"{what}: the bucket is in another region{said}", "set AWS_REGION to that one", status=status)
    if code in _FULL or status == 507:
        return Refused(f"{what}: its storage is full{said}", "free space there, or keep fewer checkpoints")
    if status == 403 or type(error).__name__ == "PermissionDeniedError":
        hint = "these credentials must be allowed to list, read, write and delete objects there"
        return Refused(f"{what}: permission denied{said}", hint, status=status)
    if code in _TOO_OFTEN or status in (429, 503):
        return StoreUnavailable(f"{what}: it asks for fewer requests or is not ready{said}")
    if status == NOT_IMPLEMENTED:
        return Refused(f"{what}: it cannot do that{said}", status=status)
    if status >= 500:
        return StoreUnavailable(f"{what}: it failed{said}")
    if status >= 400:
        return Refused(f"{what}: it refused{said}", status=status)
    reasons = (words for pattern, words in _NO_ANSWER.items() if re.search(pattern, text))
    return StoreUnavailable(f"{what}: {next(reasons, f'it failed ({code or type(error).__name__})')}")
