"""What the filters drop of true pairs, and what they catch of planted faults, on real text.

True pairs are the gettext catalogues of six Python packages: people translated them and
others have read them, so whatever is dropped counts as wrongly dropped, the catalogues' own
mistakes too. Planted are targets in another language, and targets that go round in circles.

Usage: python bench/cleaning.py [--no-langid]     prints Markdown
"""

import sys
import time
from collections.abc import Callable, Sequence

from dragoman.config import DataConfig
from dragoman.data.filters import Limits, clean, key, langid, near_key, reason, reasons
from dragoman.data.filters.placeholders import prose
from dragoman.data.filters.repetition import repeats
from dragoman.data.filters.script import is_in_script
from dragoman.data.normalization import normalized
from dragoman.data.sources import open_sources
from dragoman.languages import Direction, name, resolve

DATA = ["gettext:django,wagtail,sphinx,allauth,rest_framework,wtforms"]
TAGS = "fr de es it pt tr vi fi cs ca nb sv id ru uk bg sr el ar he fa hi bn ja ko zh_Hans zh_Hant th ka hy mn"
OPTIONS = DataConfig()
PERCENT, TIMES, CHARS = OPTIONS.min_script_percent, OPTIONS.max_repeats, OPTIONS.langid_min_chars
BASIC = Limits(min_script_percent=0, max_repeats=None)
OTHER_SCRIPT = (("fr", "ru"), ("ru", "fr"), ("ja", "ko"), ("he", "ar"), ("th", "hi"), ("el", "uk"))
OTHER_LANGUAGE = (("fr", "es"), ("de", "fr"), ("es", "it"), ("de", "sv"), ("bg", "ru"), ("sv", "fi"), ("ru", "uk"))
MIN_LETTERS = 12

Pairs = Sequence[tuple[str, str]]


def read(tag: str) -> tuple[Direction, Pairs]:
    """Distinct pairs from English that today's other filters keep."""
    direction, seen = Direction("eng_Latn", resolve(tag)), set[tuple[str, str]]()
    pairs: list[tuple[str, str]] = []
    for source in open_sources(DATA, direction, on_bad_rows="skip"):
        for pair in source.pairs():
            sides = clean(pair.source), clean(pair.target)
            same = key(sides[0]), key(sides[1])
            if reason(*sides, BASIC) is None and same not in seen:
                seen.add(same)
                pairs.append(sides)
    return direction, pairs


def share(pairs: Pairs, is_dropped: Callable[[str, str], bool]) -> str:
    dropped = sum(1 for pair in pairs if is_dropped(*pair))
    return f"{dropped} ({100 * dropped / len(pairs):.2f} %)"


def is_in_scripts(source: str, target: str, code: str) -> bool:
    return is_in_script(source, "eng_Latn", PERCENT) and is_in_script(target, code, PERCENT)


def row(code: str, pairs: Pairs, with_langid: bool) -> list[str]:
    seen = set[tuple[str, str]]()

    def came_before(*sides: str) -> bool:
        near = near_key(sides[0]), near_key(sides[1])
        found = all(near) and near in seen
        seen.add(near)
        return found

    return [
        share(pairs, lambda a, b: not is_in_scripts(a, b, code)),
        share(pairs, lambda a, b: repeats(a, TIMES) != repeats(b, TIMES)),
        share(pairs, came_before),
        share(pairs, lambda _, b: langid.is_other_language(b, code, CHARS)) if with_langid else "",
    ]


def true_pairs(corpora: dict[str, tuple[Direction, Pairs]], with_langid: bool) -> None:
    print("| language | pairs | script | repetition | near duplicate | language |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for direction, pairs in corpora.values():
        cells = row(direction.target, pairs, with_langid)
        print(f"| {name(direction.target)} | {len(pairs):,} | {' | '.join(cells)} |", flush=True)


def planted(corpora: dict[str, tuple[Direction, Pairs]], with_langid: bool) -> None:
    print("\n| planted | texts | caught |\n| --- | ---: | ---: |")

    def line(what: str, texts: list[str], is_caught: Callable[[str], bool]) -> None:
        print(f"| {what} | {len(texts):,} | {100 * sum(map(is_caught, texts)) / len(texts):.1f} % |", flush=True)

    def targets(tag: str) -> list[str]:
        return [target for _, target in corpora[tag][1]]

    for tag, taken_for in OTHER_SCRIPT:
        texts = [text for text in targets(tag) if sum(map(str.isalpha, prose(text))) >= MIN_LETTERS]
        what = f"{name(resolve(tag))} as {name(resolve(taken_for))}, from {MIN_LETTERS} letters on, by script"
        line(what, texts, lambda text, way=taken_for: not is_in_script(text, resolve(way), PERCENT))
    for tag, taken_for in OTHER_LANGUAGE if with_langid else ():
        texts = [text for text in targets(tag) if len(prose(text)) >= CHARS][:1000]
        what = f"{name(resolve(tag))} as {name(resolve(taken_for))}, from {CHARS} characters on, by language"
        line(what, texts, lambda text, way=taken_for: langid.is_other_language(text, resolve(way), CHARS))
    loops = [f"{' '.join(words[:3])} " * 7 for text in targets("fr") if len(words := text.split()) >= 3]
    line("three words, seven times, by repetition", loops, lambda text: repeats(clean(text), TIMES))


def costs(corpora: dict[str, tuple[Direction, Pairs]], with_langid: bool) -> None:
    print("\n| CPU, microseconds per pair | French | Japanese |\n| --- | ---: | ---: |")

    def each(work: Callable[[str, str, Direction], object]) -> Callable[[Pairs, Direction], object]:
        return lambda pairs, way: [work(source, target, way) for source, target in pairs]

    def filters(limits: Callable[[Direction], Limits]) -> Callable[[Pairs, Direction], object]:
        return lambda pairs, way: list(reasons(*map(list, zip(*pairs, strict=True)), limits(way)))

    for what, work in {
        "without script and repetition": filters(lambda _: BASIC),
        "the filters that are on": filters(lambda way: Limits.of(OPTIONS, way)),
        "near key of both sides": each(lambda a, b, _: (near_key(a), near_key(b))),
        "`--normalize nfc`": each(lambda a, b, _: (clean(a), clean(b))),
        "`--normalize nllb`": each(lambda a, b, _: (normalized(a, "nllb"), normalized(b, "nllb"))),
        "language of the target": each(
            lambda _, b, way: with_langid and langid.is_other_language(b, way.target, CHARS)
        ),
    }.items():
        cells: list[str] = []
        for tag in ("fr", "ja"):
            direction, pairs = corpora[tag]
            work(pairs[:1], direction)  # what is loaded at the first use does not count
            start = time.process_time()
            work(pairs[:1500], direction)
            cells.append(f"{1e6 * (time.process_time() - start) / 1500:.1f}")
        print(f"| {what} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    with_langid = "--no-langid" not in sys.argv
    corpora = {tag: read(tag) for tag in TAGS.split()}
    true_pairs(corpora, with_langid)
    planted(corpora, with_langid)
    costs(corpora, with_langid)


if __name__ == "__main__":
    main()
