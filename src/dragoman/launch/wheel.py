"""The package as one file: a wheel of the very code that runs now, made without a network.

A machine that is started gets what its starter has, whether that came from an index, a
wheel or a checkout with changes. The version bears a digest of the contents, so two
different wheels never share a name, and no index is mistaken for it.
"""

import base64
import hashlib
import re
import zipfile
from collections.abc import Mapping
from importlib import metadata
from io import BytesIO
from pathlib import Path

import dragoman
from dragoman.errors import InputError

_NAME = "dragoman"
_OURS = re.compile(r"[+.]x[0-9a-f]{12}$")
"""The part of a version that an earlier wheel of ours was given."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


def wheel(into: Path) -> Path:
    """Write a wheel of the package that runs into a folder; the same code gives the same bytes.

    Raises:
        InputError: The package was never installed, so that nobody knows what it needs.
    """
    name, data = contents()
    into.mkdir(parents=True, exist_ok=True)
    path = into / name
    path.write_bytes(data)
    return path


def contents() -> tuple[str, bytes]:
    """File name and bytes of that wheel.

    Raises:
        InputError: See `wheel`.
    """
    package, described = _package(), _described()
    version = _version(package | described)
    folder = f"{_NAME}-{version}.dist-info"
    described["METADATA"] = _with_version(described["METADATA"], version)
    described["WHEEL"] = b"Wheel-Version: 1.0\nGenerator: dragoman\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = package | {f"{folder}/{name}": data for name, data in described.items()}
    files[f"{folder}/RECORD"] = _record(files, f"{folder}/RECORD")
    return f"{_NAME}-{version}-py3-none-any.whl", _zipped(files)


def _package() -> dict[str, bytes]:
    """Every file of the package that was imported: its modules, and the data beside them."""
    root = Path(dragoman.__file__).parent
    return {
        f"{_NAME}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _described() -> dict[str, bytes]:
    """What its installation says of it: dependencies, the command, the licence."""
    try:
        installed = metadata.distribution(_NAME)
    except metadata.PackageNotFoundError:
        raise InputError(
            "dragoman runs from files that were never installed, so what it needs is not known",
            "pip install -e . in its checkout",
        ) from None
    wanted = {"METADATA": b"", "entry_points.txt": b""}
    for name in wanted:
        wanted[name] = (installed.read_text(name) or "").encode()
    for file in installed.files or []:
        if f"{_NAME}-" in file.parts[0] and "licenses" in file.parts:
            wanted["/".join(file.parts[1:])] = Path(str(file.locate())).read_bytes()
    return wanted


def _version(files: Mapping[str, bytes]) -> str:
    """The installed version, and a digest of all that matters."""
    text = files["METADATA"].decode()
    found = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    assert found, "the installation names no version"
    base = _OURS.sub("", found[1])
    digest = hashlib.sha256()
    named = {**files, "METADATA": _with_version(files["METADATA"], base)}
    for name, data in sorted(named.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return f"{base}{'.' if '+' in base else '+'}x{digest.hexdigest()[:12]}"


def _with_version(described: bytes, version: str) -> bytes:
    return re.sub(rb"(?m)^Version: \S+$", f"Version: {version}".encode(), described, count=1)


def _record(files: Mapping[str, bytes], itself: str) -> bytes:
    """The list of all files with their digests, by which an installer checks them."""
    lines = [f"{name},sha256={_urlsafe(data)},{len(data)}" for name, data in sorted(files.items())]
    return "\n".join([*lines, f"{itself},,", ""]).encode()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip without times, owners or compression, whose bytes would differ between machines."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix: the next line is read as permissions
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return made.getvalue()
