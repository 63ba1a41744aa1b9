"""The bytes of a file, whatever wraps them, and its lines.

A zip file is like a folder: `corpus.zip/books.en` is a member of it. Nothing is unpacked
to the disk or held whole.
"""

import codecs
import contextlib
import gzip
import io
import zipfile
import zlib
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, cast

from dragoman.data.sources.rows import BadRow
from dragoman.errors import DataError

GZIP = b"\x1f\x8b"
MAX_LINE_BYTES = 16 << 20
"""No text has longer lines; something that expands without end has."""


@contextlib.contextmanager
def opened(path: Path, *, any_gzip: bool = False) -> Generator[IO[bytes]]:
    """The bytes of a file or of a member of a zip, without gzip.

    Args:
        path: A file; when it ends in `.gz`, and was not unpacked on its way here, it is unpacked.
        any_gzip: Look for gzip whatever the name.

    Raises:
        DataError: The file cannot be read, or is a damaged or truncated archive.
    """
    try:
        with contextlib.ExitStack() as stack:
            raw = cast("io.BufferedReader", stack.enter_context(_raw(path)))
            may_be_gzip = any_gzip or path.suffix.lower() == ".gz"
            if may_be_gzip and raw.peek(len(GZIP))[: len(GZIP)] == GZIP:
                yield io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=raw)))
            else:
                yield raw
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise cannot_read(path, error) from error


def is_zip(path: Path) -> bool:
    """Whether the file is named like a zip."""
    return path.suffix.lower() == ".zip"


def members(path: Path) -> list[Path]:
    """The files in a zip, each as `ZIP/MEMBER`, sorted.

    Raises:
        DataError: It cannot be read, or is no zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(path / info.filename for info in archive.infolist() if not info.is_dir())
    except OSError as error:
        raise cannot_read(path, error) from error
    except Exception as error:  # a damaged directory makes zipfile raise almost anything
        raise _damaged(path, error) from error


def num_read(file: Path) -> int:
    """Bytes read so far of a file on the disk that is being read here; 0 of any other, and where nobody can tell."""
    reader = _being_read.get(file)
    return reader.tell() if reader and not reader.closed else 0


def file_of(path: Path) -> Path:
    """The file on the disk: the zip for a member of it."""
    return next((parent for parent in path.parents if is_zip(parent) and parent.is_file()), path)


@contextlib.contextmanager
def _raw(path: Path) -> Generator[IO[bytes]]:
    archive_path = file_of(path)
    if archive_path == path:
        with path.open("rb") as file, _shown(path, file):
            yield file
        return
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(archive_path))
            member = stack.enter_context(archive.open(path.relative_to(archive_path).as_posix()))
        except OSError:
            raise
        except Exception as error:  # zipfile raises RuntimeError for passwords, KeyError, struct.error …
            raise _damaged(path, error) from error
        if archive.fp:
            stack.enter_context(_shown(archive_path, archive.fp))
        yield member


_being_read: dict[Path, IO[bytes]] = {}
"""For `num_read` alone: what readers are at work on, seen from outside of them."""


@contextlib.contextmanager
def _shown(path: Path, file: IO[bytes]) -> Generator[None]:
    _being_read[path] = file
    try:
        yield
    finally:
        _being_read.pop(path, None)


def _damaged(path: Path, error: Exception) -> DataError:
    why = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: damaged or truncated: {why}", "download or copy the file again")


def cannot_read(path: Path, error: OSError) -> DataError:
    """The error for a file that the operating system refuses to give."""
    return DataError(
        f"{path}: cannot be read: {error.strerror or error}", "check the file's permissions and the disk that it is on"
    )


class Line(NamedTuple):
    """One line of a text file, without its line end."""

    number: int
    """From 1."""

    offset: int
    """Bytes of the file before it."""

    data: bytes


def lines(path: Path) -> Iterator[Line]:
    """Split a file on LF alone; one CR before it and a BOM at the file's start are dropped.

    U+2028, U+0085 and form feed are content: splitting on them shifts alignments.

    Raises:
        DataError: The file cannot be read, is damaged, or has a line of more than `MAX_LINE_BYTES`.
    """
    for number, offset, data in raw_lines(path):
        yield Line(number, offset, data.removesuffix(b"\n").removesuffix(b"\r"))


def raw_lines(path: Path) -> Iterator[Line]:
    """As `lines`, with the line ends."""
    with opened(path) as file:
        offset = 0
        for number, data in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), start=1):
            if len(data) == MAX_LINE_BYTES and not data.endswith(b"\n"):
                why = f"{path} line {number:,}: longer than {MAX_LINE_BYTES >> 20} MB: this is no text in lines"
                raise DataError(why, "check what the file holds")
            start = len(codecs.BOM_UTF8) if offset == 0 and data.startswith(codecs.BOM_UTF8) else 0
            yield Line(number, offset + start, data[start:])
            offset += len(data)


def bad_utf8(path: Path, line: Line, error: UnicodeDecodeError) -> BadRow:
    """The bad row for a line whose bytes are not UTF-8, with the offset in the file."""
    why = f"byte 0x{line.data[error.start]:02X} at offset {line.offset + error.start:,} of the file is not UTF-8"
    return BadRow(path, line.number, why, show(line.data))


def show(data: bytes) -> str:
    """Bytes as text; what is not UTF-8 appears as `\\xNN`."""
    return data.decode("utf-8", "backslashreplace")
