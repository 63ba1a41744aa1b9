"""The tokenizer as NLLB lays it out, without its state.

`source` and `target` language are arguments of every encoded sentence, never settings
of a shared object, so sentences of many directions mix freely in one batch:

    source side   [source code] X </s>
    target side   [target code] Y </s>
    decoder input </s> [target code] Y

Only `tokenizer.json` is trusted: tokenizers rebuilt from other files lose or shift
the language codes silently.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dragoman.errors import ModelError
from dragoman.languages import CODES, new_among

PAD, EOS, UNK = 1, 2, 3
REAL_VOCABULARY = 256_206
FIRST_REAL_CODE = 256_001
SPECIALS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
SPECIALS |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


@dataclass(frozen=True)
class Vocabulary:
    """A `tokenizers.Tokenizer` in NLLB layout and the folder that it came from."""

    tokenizer: Tokenizer
    folder: Path
    pad: int = PAD
    eos: int = EOS
    unk: int = UNK

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def splits_at_spaces(self) -> bool:
        """Whether no piece reaches over a space, as far as the kind of the tokenizer tells."""
        if self.tokenizer.pre_tokenizer is None or getattr(self.tokenizer.model, "dropout", None):
            return False
        if any(" " in token.content for token in self.tokenizer.get_added_tokens_decoder().values()):
            return False
        kind: dict[str, Any] = json.loads(self.tokenizer.pre_tokenizer.__getstate__())
        return any(
            step["type"] == "WhitespaceSplit" or (step["type"] == "Metaspace" and step.get("split", True))
            for step in kind.get("pretokenizers", [kind])
        )

    def code_id(self, code: str) -> int:
        """The token id of a language code.

        Raises:
            ModelError: The tokenizer does not know the code.
        """
        token = self.tokenizer.token_to_id(code)
        if token is None or token == UNK:
            raise ModelError(
                f"{self.folder / 'tokenizer.json'}: the language code {code} is missing",
                "the tokenizer.json of the original NLLB repository",
            )
        return token

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without language code and `</s>`."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def pieces(self) -> dict[str, int]:
        """The pieces that texts are written by, and their ids; codes and specials may be among them."""
        return self.tokenizer.get_vocab(with_added_tokens=False)

    @property
    def new_codes(self) -> tuple[str, ...]:
        """Codes that the model was taught besides NLLB's."""
        return new_among(str(token.content) for token in self.tokenizer.get_added_tokens_decoder().values())

    @property
    def first_new(self) -> int:
        """The token id behind all that NLLB has, of which `<mask>` is the last: new tokens begin there."""
        return self.code_id("<mask>") + 1

    def family(self, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """These token ids and all that text like theirs may need, sorted.

        Specials and language codes, the pieces that each used one was merged from, and
        all single characters: so no text of the same languages leaves this set by much.
        """
        model = json.loads(self.tokenizer.to_str())["model"]
        ids: dict[str, int] = model["vocab"]
        parents = {a + b: (a, b) for a, b in (halves(merge) for merge in model["merges"])}
        tokens = {index: token for token, index in ids.items()}
        found = set(self.tokenizer.get_added_tokens_decoder())
        found |= {index for token, index in ids.items() if len(token) == 1}
        waiting = [int(token) for token in used]
        while waiting:
            token = waiting.pop()
            if token not in found:
                found.add(token)
                waiting += [ids[part] for part in parents.get(tokens.get(token, ""), ())]
        return np.array(sorted(found), dtype=np.int64)

    def digest(self) -> str:
        """Sha256 of `tokenizer.json`."""
        return hashlib.sha256((self.folder / "tokenizer.json").read_bytes()).hexdigest()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; language codes, padding and `</s>` are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def load(folder: Path, codes: Iterable[str] = ()) -> Vocabulary:
    """The tokenizer of a model folder, checked.

    Args:
        folder: A folder with `tokenizer.json`.
        codes: NLLB codes that must be known.

    Raises:
        ModelError: No `tokenizer.json`, wrong special tokens, missing or shifted codes.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        hint = "a folder saved by transformers with a fast tokenizer, or the original NLLB repository"
        raise ModelError(f"{folder} holds no tokenizer.json", hint)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for anything it cannot parse
        raise ModelError(f"{path} is not a tokenizer: {error}", "download the model again") from None
    # A tokenizer saved after a padded or truncated call would pad and cut every text.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vocabulary = Vocabulary(tokenizer, folder)
    for token, expected in (("<s>", 0), ("<pad>", PAD), ("</s>", EOS), ("<unk>", UNK)):
        if tokenizer.token_to_id(token) != expected:
            raise ModelError(f"{path}: {token} is token {tokenizer.token_to_id(token)}, in NLLB it is {expected}")
    for code in codes:
        vocabulary.code_id(code)
    return vocabulary


def check_codes(vocabulary: Vocabulary, rows: int) -> None:
    """Compare the ids of the 202 codes with the model's embedding.

    Args:
        vocabulary: The tokenizer.
        rows: Rows of the model's embedding matrix.

    Raises:
        ModelError: Codes lie outside the embedding, or are shifted against the order of NLLB.
    """
    ids = [vocabulary.tokenizer.token_to_id(code) for code in CODES]
    present = [token for token in ids if token is not None]
    path = vocabulary.folder / "tokenizer.json"
    if present and max(present) >= rows:
        raise ModelError(f"{path} has tokens up to {max(present)}, the model only {rows} rows", "files of one model")
    if rows >= REAL_VOCABULARY and ids != list(range(FIRST_REAL_CODE, FIRST_REAL_CODE + len(CODES))):
        first = vocabulary.tokenizer.token_to_id(CODES[0])
        raise ModelError(
            f"{path}: the language codes are not where NLLB has them ({CODES[0]} is {first}, not {FIRST_REAL_CODE})",
            "the tokenizer.json of the original NLLB repository",
        )


def taught(folder: Path) -> tuple[str, ...]:
    """Codes that the model in a folder was taught besides NLLB's; none when it has no readable tokenizer."""
    try:
        added = json.loads((folder / "tokenizer.json").read_bytes())["added_tokens"]
        return new_among(token["content"] for token in added)
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def halves(merge: Any) -> tuple[str, str]:
    """The two halves of a merge, which newer files store as a list."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def files(folder: Path, content: bytes | None = None) -> dict[str, bytes]:
    """The tokenizer files to save beside weights; transformers 4.57 and 5.x read them alike.

    5.x writes `extra_special_tokens` and keys that 4.57 cannot read, and leaves out
    `added_tokens_decoder` and `special_tokens_map.json`, which 4.57 needs.

    Args:
        folder: The tokenizer that is saved.
        content: Another `tokenizer.json` instead of its own.
    """
    content = content or (folder / "tokenizer.json").read_bytes()
    added: list[dict[str, Any]] = json.loads(content)["added_tokens"]
    codes = [token["content"] for token in added if token["special"] and token["content"] not in SPECIALS.values()]
    old = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(old.read_text("utf-8")) if old.exists() else {}
    for key in ("backend", "is_local", "local_files_only", "extra_special_tokens", "name_or_path"):
        config.pop(key, None)
    config |= SPECIALS | {
        "tokenizer_class": "NllbTokenizer",
        "additional_special_tokens": codes,
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added
        },
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.get("model_max_length", 1024),
    }
    special_map = SPECIALS | {"additional_special_tokens": codes}
    return {
        "tokenizer.json": content,
        "tokenizer_config.json": _json(config),
        "special_tokens_map.json": _json(special_map),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
