"""What many tests only read, made once per process: a finished run, a tiny model, real catalogue text.

Whoever changes one of these copies it first (`runs.copy_run`).
"""

import tempfile
from functools import cache
from pathlib import Path

import polib

from dragoman.data.filters import clean
from dragoman.model import scratch, vocabulary
from dragoman.model.vocabulary import Vocabulary
from tests.support import tiny
from tests.support.runs import small_run
from tests.support.tiny import Tiny


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dragoman-shared-")  # removed when the process ends


def _folder(name: str) -> Path:
    folder = Path(_scratch().name) / name
    folder.mkdir()
    return folder


@cache
def finished_run() -> Path:
    """The folder of a run of four steps, English to French, with its base, corpus and published model."""
    return small_run(_folder("finished"))


@cache
def prepared() -> Tiny:
    """200 toy pairs in both directions and an untrained `scratch:tiny` model for them."""
    return tiny.make(_folder("prepared"), dropout=0.0, learning_rate=3e-3, max_steps=60, warmup_steps=10)


@cache
def catalogue(locale: str) -> list[tuple[str, str]]:
    """Distinct pairs (English, translation) of Django's own catalogue, cleaned; read, never kept."""
    import django  # not in every environment of `make compat`

    path = Path(django.__file__).parent / f"conf/locale/{locale}/LC_MESSAGES/django.po"
    pairs = [(clean(entry.msgid), clean(entry.msgstr)) for entry in polib.pofile(str(path))]
    return list(dict.fromkeys(pair for pair in pairs if all(pair)))


@cache
def catalogue_vocabulary() -> Vocabulary:
    """A tokenizer of 1,000 pieces learned from French and Arabic catalogue text."""
    folder = _folder("vocabulary")
    scratch.build_tokenizer(folder, scratch.texts(catalogue("fr") + catalogue("ar")), 1000)
    return vocabulary.load(folder)
