"""Gettext catalogues as parallel text: what programs say, translated by people.

A catalogue's message ids are English. So en-fr reads the French catalogues, fr-en reads
them backwards, and de-fr joins German and French over the message id. Packages are
found without importing them, and the order of the pairs depends on file names only.
"""

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dragoman import languages
from dragoman.data.sources.catalogues import ENGLISH, MessageKey, checked, read_catalogue
from dragoman.data.sources.rows import Pair, Rows
from dragoman.errors import InputError, UnknownLanguageError
from dragoman.languages import Direction

MESSAGES_FOLDER = "LC_MESSAGES"

# Where the name to install differs from the name to import.
DISTRIBUTIONS = {"allauth": "django-allauth", "rest_framework": "djangorestframework"}


class Domain(NamedTuple):
    """The catalogues of one set of messages, such as `django/conf/locale/*/LC_MESSAGES/django`."""

    folder: Path
    """Holds the locale folders."""

    name: str
    """File name of the catalogues without ending."""

    catalogues: dict[str, Path]
    """Locale folder name to file, sorted; where both .po and .mo exist, the .po."""

    def locale(self, code: str) -> str | None:
        """The locale for an NLLB code, None if there is none.

        NLLB does not tell pt from pt_BR; the locale with the fewest parts is taken, then
        the shortest, then the first in the alphabet.
        """
        locales = [locale for locale in self.catalogues if code_of(locale, code) == code]
        return min(locales, key=_generality, default=None)


@dataclass(frozen=True)
class GettextSource:
    """The pairs of all catalogues of one package or below one folder."""

    title: str
    """The package or folder."""

    domains: tuple[Domain, ...]
    """Sorted by path."""

    direction: Direction
    """Source and target; message ids are eng_Latn."""

    rows: Rows
    """Counts. A row is one translated form of a message; fuzzy, obsolete and empty ones are none."""

    @property
    def name(self) -> str:
        """What to call it in a report, with the locales that were taken."""
        sides = (self.direction.source, self.direction.target)
        taken = [self._locales(code) for code in sides if code != ENGLISH]
        return f"{self.title} ({' and '.join(taken)})"

    def _locales(self, code: str) -> str:
        locales = {domain.locale(code) for domain in self._used_domains()}
        return " or ".join(sorted(locale for locale in locales if locale is not None))

    @property
    def files(self) -> tuple[Path, ...]:
        """The catalogues read, in reading order; empty when no locale fits the direction."""
        return tuple(path for domain in self._used_domains() for path in self._files(domain))

    def _used_domains(self) -> Iterator[Domain]:
        codes = {self.direction.source, self.direction.target} - {ENGLISH}
        return (domain for domain in self.domains if all(domain.locale(code) for code in codes))

    def _files(self, domain: Domain) -> Iterator[Path]:
        for code in (self.direction.source, self.direction.target):
            if (locale := domain.locale(code)) and code != ENGLISH:
                yield domain.catalogues[locale]

    def pairs(self) -> Iterator[Pair]:
        """All pairs, catalogue by catalogue.

        Raises:
            DataError: A catalogue cannot be read or is damaged.
        """
        self.rows.restart()
        used = list(self._used_domains())
        shared = os.path.commonpath([domain.folder for domain in used]) if used else ""
        for domain in used:
            yield from self._domain_pairs(domain)
            self.rows.end_of(" and ".join(str(path.relative_to(shared)) for path in self._files(domain)))

    def _domain_pairs(self, domain: Domain) -> Iterator[Pair]:
        paths = list(self._files(domain))
        if len(paths) == 2:
            yield from self._joined(*paths)
            return
        backwards = self.direction.target == ENGLISH
        for message in read_catalogue(paths[0]):
            sides = (message.translation, message.english) if backwards else (message.english, message.translation)
            yield from checked(self.rows, paths[0], Pair(*sides, message.where))

    def _joined(self, source_path: Path, target_path: Path) -> Iterator[Pair]:
        targets: dict[MessageKey, str] = {}
        for message in read_catalogue(target_path):
            targets.setdefault(message.key, message.translation)
        for message in read_catalogue(source_path):
            if (target := targets.get(message.key)) is not None:
                yield from checked(self.rows, source_path, Pair(message.translation, target, message.where))


def find_domains(root: Path) -> tuple[Domain, ...]:
    """All catalogues `<locale>/LC_MESSAGES/*.po|*.mo` below `root`, sorted by path."""
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    for folder, _, names in os.walk(root):
        messages = Path(folder)
        if messages.name != MESSAGES_FOLDER:
            continue
        # .mo sorts before .po, so that the .po replaces it: it knows what is fuzzy.
        for path in sorted(messages / name for name in names if name.endswith((".po", ".mo"))):
            locale = messages.parent
            found.setdefault((locale.parent, path.stem), {})[locale.name] = path
    return tuple(Domain(*key, dict(sorted(found[key].items()))) for key in sorted(found))


def find_package(name: str) -> tuple[Domain, ...]:
    """All catalogues of an installed package, found without importing it.

    Raises:
        InputError: `name` is no top-level package, is not installed, or has no catalogues.
    """
    if not name.isidentifier():
        raise InputError(
            f"--data gettext:{name}: {name!r} is not the name of a top-level package",
            "names as after `import`, separated by commas: gettext:django,rest_framework",
        )
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise InputError(
            f"--data gettext:{name}: no package {name} is installed", f"pip install {DISTRIBUTIONS.get(name, name)}"
        )
    domains = tuple(
        domain for root in sorted(spec.submodule_search_locations or []) for domain in find_domains(Path(root))
    )
    if not domains:
        raise InputError(
            f"--data gettext:{name}: the package {name} holds no <locale>/{MESSAGES_FOLDER}/*.po or *.mo",
            "name a package that is translated, such as django",
        )
    return domains


def languages_of(domains: Iterable[Domain]) -> list[str]:
    """The NLLB codes that the catalogues offer besides English, sorted."""
    codes = {code_of(locale) for domain in domains for locale in domain.catalogues}
    return sorted(code for code in codes if code is not None and code != ENGLISH)


_SCRIPT_MODIFIERS = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva", "arabic": "Arab"}


@lru_cache(maxsize=4096)
def code_of(locale: str, wanted: str = "") -> str | None:
    """The NLLB code of a POSIX locale name such as pt_BR, zh_TW.Big5 or sr@latin; None if it names no one code.

    It may also be the `wanted` one that NLLB lacks.
    """
    name, _, modifier = locale.partition("@")
    language, *rest = name.partition(".")[0].split("_")
    script = [_SCRIPT_MODIFIERS[modifier]] if modifier in _SCRIPT_MODIFIERS else []
    try:
        return languages.resolve("-".join([language, *script, *rest]), languages.new_among([wanted]))
    except UnknownLanguageError:
        return None


def _generality(locale: str) -> tuple[int, int, str]:
    return len(re.split("[_@.]", locale)), len(locale), locale
