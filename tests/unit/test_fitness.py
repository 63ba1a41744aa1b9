"""What is no translation at all, and that nothing else is called so."""

import pytest

from dragoman.data.corpus import Text
from dragoman.data.filters import langid
from dragoman.evaluation import fitness
from dragoman.languages import parse_pair

ENGLISH = "You do not have permission to change or delete this page."
FRENCH = "Vous n’avez pas la permission de modifier ou de supprimer cette page."
GERMAN = "Sie haben nicht die nötigen Rechte, um diese Seite zu ändern oder zu löschen."
RUSSIAN = "У вас нет прав на изменение или удаление этой страницы."


def judged(hypothesis: str, source: str = ENGLISH, reference: str = FRENCH, pair: str = "en-fr") -> str:
    return fitness.judge(hypothesis, Text(source, reference, parse_pair(pair)))


@pytest.mark.parametrize(
    ("hypothesis", "verdict"),
    [
        (FRENCH, "ok"),
        ("Une phrase qui ne dit pas du tout la même chose que l’autre.", "ok"),
        ("Vous.", "ok"),
        ("", "empty"),
        ("  \n", "empty"),
        ("… !", "empty"),
        ("Vous avez vous avez vous avez vous avez vous avez", "loops"),
        ("Vous n’avez paaaaaaaas la permission", "loops"),
        (ENGLISH, "wrong language"),
        (GERMAN, "wrong language"),
        (RUSSIAN, "wrong language"),
    ],
)
def test_a_translation_is_empty_or_loops_or_is_in_another_language_or_is_one(hypothesis: str, verdict: str) -> None:
    assert judged(hypothesis) == verdict


@pytest.mark.parametrize(
    ("hypothesis", "source", "reference"),
    [
        ("...", "...", "…"),
        ("non non non non", "no no no no", "non non non non"),
        ("Format JJJJ-MM-TT", "Format YYYY-MM-DD", "Format AAAA-MM-JJ"),
        ("Python License 2.0", "Python License 2.0", "Licence de Python 2.0"),
        (ENGLISH, ENGLISH, ENGLISH),
        ("OK", "OK", "D’accord"),
        ("Bluetooth", "Bluetooth", "Le Bluetooth"),
    ],
)
def test_what_source_or_reference_do_too_is_no_mistake(hypothesis: str, source: str, reference: str) -> None:
    assert judged(hypothesis, source, reference) == "ok"


def test_without_lingua_script_and_copies_are_judged_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "find_spec", lambda name: None)
    assert judged(RUSSIAN) == "wrong language"
    assert judged(ENGLISH) == "wrong language"
    assert judged(GERMAN) == "ok"
    assert judged(FRENCH, RUSSIAN, "", pair="ru-fr") == "ok"
    assert judged(FRENCH, ENGLISH, RUSSIAN, pair="en-ru") == "wrong language"


def test_a_language_is_named_with_how_sure_that_is() -> None:
    found = langid.likeliest(FRENCH)
    assert found is not None
    assert found[0] == "fr"
    assert 0.5 < found[1] <= 1
    assert langid.likeliest("%(name)s – 12.5 https://example.org") is None
