"""The checks of a card's front matter, as the Hub documents them.

From its specification of the metadata ("modelcard.md" of hub-docs): `model-index`, `datasets`
and `license` are verified, and which of their fields are required; from the docs of
`ModelCardData`: what `language` and `base_model` may be. Missing metadata is only warned of.
"""

import re
from collections.abc import Iterator
from typing import Any

import langcodes
import yaml

LICENCES = {
    *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "afl-3.0"),
    *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0"),
    *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0"),
    *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-3.0", "agpl-3.0", "mpl-2.0"),
    *("llama2", "llama3", "gemma", "unknown", "other"),
}
SPECIAL = {"code", "multilingual"}
MODEL_ID = re.compile(r"[\w.-]+/[\w.-]+")
DATASET_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def checked(content: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about a card.

    Args:
        content: The whole file.
        kind: `model`, `dataset` or `space`.
    """
    matter = re.match(r"\s*---\r?\n(.*?)\r?\n?---(?:\r?\n|$)", content, re.DOTALL)
    if matter is None or not matter[1].strip():
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(matter[1])
    except yaml.YAMLError as error:
        return [f"bad YAML: {' '.join(str(error).split())}"], []
    if not isinstance(data, dict):
        return ["the metadata is not a mapping"], []
    return list(_errors(data)) if kind == "model" else [], []


def _errors(data: dict[str, Any]) -> Iterator[str]:
    if "license" in data and not all(one in LICENCES for one in _list(data["license"])):
        yield f'"license" {data["license"]!r} is none of the known ones'
    for language in _list(data.get("language", [])):
        if not _is_language(language):
            yield f'"language" {language!r} is no ISO 639-1, 639-2 or 639-3 code'
    for field, form in (("datasets", DATASET_ID), ("base_model", MODEL_ID)):
        for name in _list(data.get(field, [])):
            if not (isinstance(name, str) and form.fullmatch(name)):
                yield f'"{field}" {name!r} is no id on the Hub'
    for field in ("tags", "metrics"):
        if not all(isinstance(word, str) for word in _list(data.get(field, []))):
            yield f'"{field}" must be texts'
    for field in ("library_name", "pipeline_tag"):
        if not isinstance(data.get(field, ""), str):
            yield f'"{field}" must be a text'
    if "model-index" in data:
        yield from _index_errors(data["model-index"])


def _index_errors(index: Any) -> Iterator[str]:
    if not isinstance(index, list) or not index:
        yield '"model-index" must be a list'
        return
    for model in index:
        if not isinstance(model.get("name"), str) or not isinstance(model.get("results"), list):
            yield '"model-index" needs "name" and "results"'
            continue
        for result in model["results"]:
            yield from _missing(result, "task", ("type",))
            yield from _missing(result, "dataset", ("type", "name"))
            if not result.get("metrics"):
                yield '"model-index.results" needs "metrics"'
            for metric in result.get("metrics") or []:
                yield from _missing({"metric": metric}, "metric", ("type", "value"))


def _missing(result: dict[str, Any], part: str, required: tuple[str, ...]) -> Iterator[str]:
    for field in required:
        if result.get(part, {}).get(field) in (None, ""):
            yield f'"model-index.results.{part}.{field}" is required'


def _is_language(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch("[a-z]{2,3}", value):
        return value in SPECIAL
    return langcodes.Language.get(value).is_valid()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
