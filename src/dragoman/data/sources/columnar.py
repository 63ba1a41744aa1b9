"""Parquet and Arrow files: rows with named columns, a batch of them in memory at a time.

A `translation` column with a field for each language, columns that are called after
languages, or `source` and `target`; the columns that are not needed are not read.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from typing import Any, TypeAlias, cast

from dragoman.data.sources import shapes, tags
from dragoman.data.sources.opening import opened
from dragoman.data.sources.rows import BadRow, FileSource, Pair
from dragoman.data.sources.shapes import NotAPairError
from dragoman.errors import DataError
from dragoman.languages import Direction

Schema: TypeAlias = Any
"""A schema of pyarrow, whose types are not published."""
Batch: TypeAlias = Any
"""A record batch of pyarrow."""

PARQUET_ENDING = ".parquet"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class ColumnarSource(FileSource):
    """The pairs of one Parquet or Arrow file."""

    direction: Direction
    """Which columns are source and target."""

    def pairs(self) -> Iterator[Pair]:
        """All pairs in file order.

        Raises:
            DataError: The file cannot be read or lacks a column, or a row is bad and bad rows are not skipped.
        """
        self.rows.restart()
        with _read(self.path) as (schema, batches):
            columns = _columns(self.path, schema, self.direction)
            for row in _rows(batches, columns):
                self.rows.num_read += 1
                try:
                    if isinstance(row, str):
                        raise NotAPairError(row)
                    source, target = shapes.sides(row, self.direction, self.swapped)
                except NotAPairError as error:
                    self.rows.reject(BadRow(self.path, self.rows.num_read, str(error), ascii(row)))
                else:
                    yield Pair(source, target, self.rows.num_read)


def has_columns(path: Path) -> bool:
    """Whether the file has `source` and `target` and does not say which languages they hold.

    Raises:
        DataError: The file cannot be read.
    """
    with _read(path) as (schema, _):
        return shapes.names_no_languages(_names(schema))


def _pyarrow() -> Any:
    import pyarrow.ipc  # pyright: ignore
    import pyarrow.parquet  # pyright: ignore

    return cast("Any", pyarrow)


def _names(schema: Schema) -> dict[str, Any]:
    """The columns as a row would have them, without values."""
    pa = _pyarrow()
    return {field.name: {} if pa.types.is_struct(field.type) else "" for field in schema}


def _columns(path: Path, schema: Schema, direction: Direction) -> list[str]:
    """The columns that the sides are in."""
    names = _names(schema)
    match names:
        case {"translation": {}}:
            fields = [field.name for field in schema.field("translation").type]
            missing = [code for code in (direction.source, direction.target) if tags.pick(fields, code) is None]
            if not missing:
                return ["translation"]
            raise _no_side(path, missing, [f"translation.{field}" for field in fields])
        case {"source": _, "target": _}:
            return ["source", "target"]
        case _:
            found = {code: tags.pick(names, code) for code in (direction.source, direction.target)}
            columns = [name for name in found.values() if name is not None]
            if len(columns) == len(found):
                return columns
            raise _no_side(path, [code for code, name in found.items() if name is None], list(names))


def _no_side(path: Path, missing: list[str], names: list[str]) -> DataError:
    shown = ", ".join(names[: shapes.MAX_SHOWN_KEYS]) or "(none)"
    return DataError(
        f"{path}: no {' and no '.join(missing)} side among the columns {shown}",
        "a column `translation`, one for each language, or `source` and `target`",
    )


@contextmanager
def _read(path: Path) -> Generator[tuple[Schema, Iterator[Batch]]]:
    """Schema and batches of a file.

    Raises:
        DataError: It is not such a file, damaged or cut off.
    """
    pa = _pyarrow()
    try:
        with opened(path) as file:
            yield _parquet(file) if path.suffix.lower() == PARQUET_ENDING else _arrow(file)
    # A damaged length asks for more memory than there is.
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        NotImplementedError,
        OverflowError,
        MemoryError,
    ) as error:
        kind = "Parquet" if path.suffix.lower() == PARQUET_ENDING else "Arrow"
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: no {kind} file, or damaged: {why}", "download or write the file again") from error


def _parquet(file: Any) -> tuple[Schema, Iterator[Batch]]:
    # Neither whole row groups nor the file are held: pages are read as they are needed.
    found = _pyarrow().parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    wanted = [name for name in found.schema_arrow.names if name == "translation" or _may_matter(name)]
    return found.schema_arrow, found.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False)


def _may_matter(name: str) -> bool:
    return name in ("source", "target") or tags.is_tag(name)


def _arrow(file: Any) -> tuple[Schema, Iterator[Batch]]:
    ipc = _pyarrow().ipc
    if file.peek(6)[:6] == b"ARROW1":
        whole = ipc.open_file(file)
        return whole.schema, (whole.get_batch(number) for number in range(whole.num_record_batches))
    # A stream without its end mark may have been cut off between two batches, where nothing else tells.
    file.seek(-len(_END_OF_STREAM), SEEK_END)
    if file.read() != _END_OF_STREAM:
        raise ValueError("cut off: its end is missing")
    file.seek(0)
    stream = ipc.open_stream(file)
    return stream.schema, iter(stream)


def _rows(batches: Iterator[Batch], columns: list[str]) -> Iterator[dict[str, Any] | str]:
    """The rows, each a dictionary, or what is wrong with it."""
    for batch in batches:
        batch.validate(full=False)
        for name in columns:
            _validate(batch.column(name))
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            part = batch.select(columns).slice(start, _BATCH_ROWS)
            try:
                yield from part.to_pylist()
            except UnicodeDecodeError:
                yield from (_row(part.slice(number, 1)) for number in range(part.num_rows))


def _validate(array: Any) -> None:
    """Look whether all offsets of a column lie within it: pyarrow trusts them, and would read outside of its memory.

    Raises:
        pyarrow.ArrowInvalid: They do not. Text that is not UTF-8 passes: that is the fault of a row, not of the file.
    """
    pa = _pyarrow()
    if pa.types.is_struct(array.type):
        for number in range(array.type.num_fields):
            _validate(array.field(number))
        return
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise


def _row(part: Batch) -> dict[str, Any] | str:
    try:
        return part.to_pylist()[0]
    except UnicodeDecodeError:
        return "its bytes are not UTF-8"
