"""What became of every row of the data, as a section of the page: numbers, reasons, examples."""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dragoman.checkpoint.run_folder import CORPUS, CORPUS_MANIFEST


def section(folder: Path | None) -> str:
    """The newest corpus of a run folder, as HTML; empty before there is one.

    Args:
        folder: The run folder.
    """
    manifests = sorted((folder / CORPUS).glob(f"*/{CORPUS_MANIFEST}"), key=_age) if folder else []
    if not manifests:
        return ""
    try:
        funnel: dict[str, dict[str, Any]] = json.loads(manifests[-1].read_bytes())["funnel"]
    except (OSError, ValueError, LookupError):  # in the middle of being made
        return ""
    parts = "".join(f"<h3>{html.escape(way)}</h3><dl>{''.join(_rows(one))}</dl>" for way, one in funnel.items())
    return f"<details><summary>What became of the data</summary>{parts}</details>"


def _rows(funnel: Mapping[str, Any]) -> Iterator[str]:
    yield _row("read", f"{funnel['read']:,}")
    for one in funnel.get("files", []):
        yield _row("from", f"{one['read']:,} in {one['file']}")
    if funnel["bad_rows"]:
        yield _row("bad rows", f"{funnel['bad_rows']:,}")
    for reason, entry in funnel["rejected"].items():
        yield _row(reason, f"{entry['pairs']:,} {entry['why']}")
        for source, target in entry["examples"]:
            yield _row("", f"{source} → {target}")
    yield _row("kept", f"{funnel['kept']:,}")


def _row(name: str, text: str) -> str:
    return f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"


def _age(path: Path) -> float:
    return path.stat().st_mtime
