"""What transformers alone, in any version, makes of a saved model; printed as JSON.

    python tests/compat/open_saved.py FOLDER

Knows nothing of dragoman, so that it runs where dragoman is not installed.
"""

import json
import sys
from pathlib import Path
from typing import Any

TEXTS = [
    "the red cat sees the old dog",
    "le chat rouge voit le vieux chien",
    "x",
    "",
    "  two  spaces ",
    "Ünïcödé 😀 שלום مرحبا 漢字",
    "I write fra_Latn and </s> and <mask> here",
    "tab\tand\nnewline",
    "12\u00a0% e\u0301 \u200b",
    "UPPER lower 1234567890 !?.,;:'\"()[]{}",
]


def look(folder: Path) -> dict[str, Any]:
    """Ids of codes and texts, the loss of a batch, and greedy answers."""
    import torch
    import transformers
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    saved = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    codes = [token["content"] for token in saved["added_tokens"] if "_" in token["content"]]
    words = sorted(token for token in saved["model"]["vocab"] if token not in codes)
    texts = [*TEXTS, *(" ".join(words[start : start + 5]).replace("▁", " ") for start in range(4, len(words), 5))]

    def encode(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    ids, labels = [], []
    for number, text in enumerate(texts):
        tokenizer.src_lang, tokenizer.tgt_lang = codes[number % len(codes)], codes[-1 - number % len(codes)]
        ids.append(encode(text))
        labels.append(tokenizer(text_target=text)["input_ids"])
    tokenizer.src_lang, tokenizer.tgt_lang = "eng_Latn", "fra_Latn"
    batch = tokenizer(TEXTS[:3], text_target=TEXTS[1:4], padding=True, return_tensors="pt")
    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
    with torch.inference_mode():
        loss = float(model(**batch).loss)
        generated = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            forced_bos_token_id=tokenizer.convert_tokens_to_ids("fra_Latn"),
            max_new_tokens=12,
            num_beams=1,
            do_sample=False,
        )
    shared = model.get_input_embeddings().weight
    parts = (model.lm_head, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    return {
        "version": transformers.__version__,
        "classes": f"{type(model).__name__} and {type(tokenizer).__name__}",
        "vocabulary": [len(tokenizer), model.config.vocab_size],
        "codes": [tokenizer.convert_tokens_to_ids(code) for code in codes],
        "ids": ids,
        "labels": labels,
        "rows": len(batch["input_ids"]),
        "loss": loss,
        "generated": generated.tolist(),
        "tied": [part.weight.data_ptr() == shared.data_ptr() for part in parts],
    }


if __name__ == "__main__":
    print(json.dumps(look(Path(sys.argv[1]))))
