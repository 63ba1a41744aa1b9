"""What became of every row of the data, as a section of the page: numbers, reasons, examples.

Whether it is open stands in the address, so that it stays so when the page is made anew, and
the page needs no script for it. In the query, because a browser does not load a page anew
whose address differs in its fragment only, or has one.
"""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dragoman.checkpoint.run_folder import CORPUS, CORPUS_MANIFEST

OPEN = "data"
"""The query of the page's address with which the section is open."""
_TITLE = "What became of the data"


def section(folder: Path | None, *, is_open: bool = False) -> str:
    """The newest corpus of a run folder, as HTML; empty before there is one.

    Args:
        folder: The run folder.
        is_open: Whether all of it is shown; else a link that opens it.
    """
    manifests = sorted((folder / CORPUS).glob(f"*/{CORPUS_MANIFEST}"), key=_age) if folder else []
    if not manifests:
        return ""
    try:
        funnel: dict[str, dict[str, Any]] = json.loads(manifests[-1].read_bytes())["funnel"]
    except (OSError, ValueError, LookupError):  # in the middle of being made
        return ""
    if not is_open:
        return f'<p><a href="/?{OPEN}">{_TITLE}</a></p>'
    parts = "".join(f"<h3>{html.escape(way)}</h3><dl>{''.join(_rows(one))}</dl>" for way, one in funnel.items())
    return f'<h2>{_TITLE}</h2><p><a href="/">close</a></p>{parts}'


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
