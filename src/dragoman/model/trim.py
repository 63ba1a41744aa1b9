"""A smaller vocabulary that writes the same texts by the same pieces.

Kept are all pieces of the texts, every piece that one of them can be merged from, all
characters, specials and language codes; the ids are counted anew in the same order. Byte-pair
merging of those texts then goes as before, merge by merge: at each point the best merge of
the whole list makes a piece that is kept (it ends up in a kept one), and the shorter list
holds no merge that the whole one lacks. Other texts lose only merges, so they fall back to
smaller pieces, and to nothing that is not known.
"""

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dragoman.model.vocabulary import Vocabulary, halves

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def closed(vocabulary: Vocabulary, used: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token ids that have to stay if texts of the `used` ones are to be written as before, sorted.

    A piece may be merged from several pairs, of which the text decides: all of them stay.
    """
    model = json.loads(vocabulary.tokenizer.to_str())["model"]
    ids: dict[str, int] = model["vocab"]
    tokens = {index: token for token, index in ids.items()}
    parts: dict[str, list[str]] = {}
    for merge in model["merges"]:
        first, second = halves(merge)
        parts.setdefault(first + second, []).extend((first, second))
    found = set(vocabulary.tokenizer.get_added_tokens_decoder())
    found |= {index for token, index in ids.items() if len(token) == 1 or _BYTE.fullmatch(token)}
    waiting = [int(token) for token in used]
    while waiting:
        token = waiting.pop()
        if token not in found:
            found.add(token)
            waiting += [ids[part] for part in parts.get(tokens.get(token, ""), ())]
    return np.array(sorted(found), dtype=np.int64)


def trim_tokenizer(content: bytes, kept: NDArray[np.int64]) -> bytes:
    """A `tokenizer.json` of the kept tokens alone, with the places in `kept` as their ids.

    Args:
        content: The whole one.
        kept: From `closed`.
    """
    tokenizer = json.loads(content)
    place = {int(token): index for index, token in enumerate(kept)}
    model = tokenizer["model"]
    ids = model["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    model["vocab"] = {token: place[index] for token, index in ids.items() if index in place}
    pairs = ((merge, *halves(merge)) for merge in model["merges"])
    model["merges"] = [
        merge for merge, first, second in pairs if {first, second, first + second} <= model["vocab"].keys()
    ]
    for token in tokenizer["added_tokens"]:
        token["id"] = place[token["id"]]
    for special in ((tokenizer.get("post_processor") or {}).get("special_tokens") or {}).values():
        special["ids"] = [place[index] for index in special["ids"]]
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def trim_model(model: "M2M100ForConditionalGeneration", kept: NDArray[np.int64]) -> None:
    """Leave the model only the rows of the kept tokens, in place; each stays bit for bit.

    Args:
        model: With all rows; the spare ones, which have no token, go too.
        kept: From `closed`.
    """
    import torch

    place = {int(token): index for index, token in enumerate(kept)}
    whole_VD: Any = model.model.shared.weight
    rows_AD = whole_VD.detach()[torch.from_numpy(kept)]
    model.resize_token_embeddings(len(kept))
    trimmed_AD: Any = model.model.shared.weight
    with torch.no_grad():
        trimmed_AD.copy_(rows_AD)
    settings: Any
    for settings in (model.config, model.generation_config):
        forced = getattr(settings, "forced_bos_token_id", None)
        if forced is not None:
            settings.forced_bos_token_id = place[forced]
