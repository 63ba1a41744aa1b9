"""The model card of a checkpoint: what was tuned on what, how good it is, how to use and continue it."""

from collections.abc import Mapping, Sequence

import langcodes
import yaml

from dragoman import __version__
from dragoman.config import RunConfig
from dragoman.languages import Direction, name
from dragoman.model import scratch

LICENCE = "cc-by-nc-4.0"
"""NLLB-200's own, which every model derived from it keeps: no commercial use."""


def text(
    config: RunConfig,
    directions: Sequence[Direction],
    pairs: Mapping[str, int],
    *,
    step: int,
    total_steps: int,
    chrf: float | None,
) -> str:
    """The card, in Markdown behind the front matter that the Hub reads.

    Args:
        config: The run's.
        directions: What was learned.
        pairs: Training pairs of each direction.
        step: Optimizer steps done.
        total_steps: Steps of the whole run.
        chrf: Best mean chrF++ on the held-out dev sample; None when none was measured.
    """
    base = None if scratch.preset(config.model.model) else config.model.model
    codes = sorted({code for way in directions for code in (way.source, way.target)})
    is_on_hub = base is not None and base.count("/") == 1 and not base.startswith((".", "/", "~"))
    front = {
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "language": sorted({langcodes.standardize_tag(code.partition("_")[0]) for code in codes}),
        "tags": ["nllb", "dragoman"],
    }
    front |= {"base_model": base} if is_on_hub else {}
    front |= {"license": LICENCE} if base else {}
    first = directions[0]
    rows = "\n".join(
        f"| {name(way.source)} → {name(way.target)} | `{way}` | {pairs.get(str(way), 0):,} |" for way in directions
    )
    score = f" It reached {chrf:.1f} chrF++ on held-out sentences of the training data." if chrf is not None else ""
    place = config.store.url or "RUN"
    form = config.data.normalize
    written = f" Write your text in the form `{form}` first (`normalization.json`)." if form != "nfc" else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()}
---

# {" · ".join(str(way) for way in directions)}

{f"A fine-tuned version of `{base}`" if base else "A small translation model, trained from scratch"}, after step \
{step:,} of {total_steps:,}.{score}

| direction | codes | training pairs |
| --- | --- | --- |
{rows}

## Use

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(MODEL, src_lang="{first.source}")
model = AutoModelForSeq2SeqLM.from_pretrained(MODEL)
inputs = tokenizer("…", return_tensors="pt")
target = tokenizer.convert_tokens_to_ids("{first.target}")
output = model.generate(**inputs, forced_bos_token_id=target, num_beams=4, max_new_tokens=256)
print(tokenizer.batch_decode(output, skip_special_tokens=True)[0])
```

`MODEL` is this repository or folder.{written} Or, from a terminal{", which does that by itself" if written else ""}:

```bash
dragoman translate --model MODEL --pair {first} "…"
```

## Continue

The folders `checkpoint-*` hold the state of the training, `dragoman/log` says which of them are whole:

```bash
dragoman resume {place}
```

{"Models derived from NLLB-200 stay under CC-BY-NC 4.0: no commercial use. " if base else ""}\
Written by dragoman {__version__}. A card that you edit is left alone from then on.
"""
