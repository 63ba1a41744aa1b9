"""Data sets with the layouts that the Hub has, for the stand-in."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from tests.support.hub import HubStandIn

Texts = Sequence[tuple[str, str]]


def table_of(texts: Texts, languages: tuple[str, str]) -> pa.Table:
    """Rows as OPUS has them: one column `translation` with a field for each language."""
    rows = [{"translation": dict(zip(languages, pair, strict=True))} for pair in texts]
    struct = pa.struct([(language, pa.string()) for language in languages])
    return pa.Table.from_pylist(rows, schema=pa.schema([("translation", struct)]))


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    """A Parquet file."""
    buffer = BytesIO()
    parquet.write_table(table, buffer, **options)
    return buffer.getvalue()


def card_of(configurations: Mapping[str, Sequence[str]]) -> bytes:
    """A card that says which files belong to which split of which configuration, as opus-100's does."""
    lines = ["---", "license: unknown", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
    return "\n".join([*lines, "---", "", "# A data set", ""]).encode()


def opus_100(hub: HubStandIn, configurations: Mapping[str, Mapping[str, Sequence[Texts]]], repo: str) -> None:
    """Write a data set in opus-100's layout: `en-fr/train-00000-of-00001.parquet`, with the shards of each split."""
    hub.create(f"datasets/{repo}", private=False)
    for name, splits in configurations.items():
        first, second = name.split("-")
        for split, shards in splits.items():
            for number, texts in enumerate(shards):
                path = f"{name}/{split}-{number:05}-of-{len(shards):05}.parquet"
                hub.write(f"datasets/{repo}", path, parquet_of(table_of(texts, (first, second))))
    hub.write(f"datasets/{repo}", "README.md", card_of({name: list(splits) for name, splits in configurations.items()}))
