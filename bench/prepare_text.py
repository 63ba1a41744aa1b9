"""Many different real lines: gettext catalogues, again and again with numbers behind them.

Real text brings new words for ever (Heaps' law: some two hundred thousand in a million
lines), a repeated catalogue does not. So every fifth pair ends in a number that no other
one has, a word that no tokenizer has seen; the others end in two small ones.
"""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from bench.speed_world import PACKAGES
from dragoman.data.filters import clean
from dragoman.data.sources import open_sources
from dragoman.languages import parse_pair

SYSTEM = Path("/usr/share/locale")
"""Catalogues of the system's programs, where there are any."""
MIN_CHARS, MAX_CHARS = 40, 400


def lines() -> list[tuple[str, str]]:
    """Different pairs from English to French of all catalogues."""
    places = [PACKAGES, *([str(SYSTEM)] if any(SYSTEM.glob("fr/LC_MESSAGES/*.mo")) else [])]
    found: dict[tuple[str, str], None] = {}
    for place in places:
        for source in open_sources([place], parse_pair("en-fr"), on_bad_rows="skip"):
            for pair in source.pairs():
                sides = clean(pair.source), clean(pair.target)
                if MIN_CHARS <= len(sides[0]) <= MAX_CHARS:
                    found[sides] = None
    return list(found)


def varied(base: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Different pairs without end."""
    for number in itertools.count():
        order = list(range(len(base)))
        random.Random(number).shuffle(order)
        for place, index in enumerate(order):
            source, target = base[index]
            ending = f"{number * len(base) + place}" if place % 5 == 0 else f"{number} {place % 100}"
            yield f"{source} {ending}", f"{target} {ending}"


def write(folder: Path, base: list[tuple[str, str]], num_pairs: int, *, jsonl: bool) -> str:
    """Write so many pairs as TSV, and as JSONL too; returns the name of the files."""
    name = f"pairs-{num_pairs}"
    with (folder / f"{name}.tsv").open("w") as tsv:
        tsv.writelines(f"{source}\t{target}\n" for source, target in itertools.islice(varied(base), num_pairs))
    if jsonl:
        with (folder / f"{name}.jsonl").open("w") as rows:
            for source, target in itertools.islice(varied(base), num_pairs):
                rows.write(json.dumps({"translation": {"en": source, "fr": target}}) + "\n")
    return name
