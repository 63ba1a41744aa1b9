"""The oracle: the plainest loop that could be right, around transformers' own forward and tokenizer.

It shares nothing with dragoman but the order of the pairs and the learning rates. One
batch per step, padded by the tokenizer, languages set on the tokenizer, loss from
`log_softmax` of all logits, an unfused optimizer.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import M2M100ForConditionalGeneration, NllbTokenizer

Row = tuple[str, str, str, str]
"""Source, target, source code, target code."""


def encode(tokenizer: NllbTokenizer, rows: Sequence[Row]) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of sources and labels, through the tokenizer's state."""
    sources, labels = [], []
    for source, target, source_code, target_code in rows:
        tokenizer.src_lang, tokenizer.tgt_lang = source_code, target_code
        both = tokenizer(source, text_target=target)
        sources.append(both["input_ids"])
        labels.append(both["labels"])
    return sources, labels


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def losses(
    folder: Path,
    rows_of: Callable[[int], Sequence[Row]],
    rates: Sequence[float],
    *,
    smoothing: float,
    weight_decay: float,
    clip_norm: float,
    dtype: torch.dtype,
) -> list[float]:
    """Train for `len(rates)` steps at dropout 0; the loss of each step in nats per target token."""
    tokenizer = NllbTokenizer.from_pretrained(folder)
    model = M2M100ForConditionalGeneration.from_pretrained(
        folder, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
    )
    model.to(dtype).train()
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, foreach=False, fused=False)
    seen: list[float] = []
    for step, rate in enumerate(rates):
        sources, labels = encode(tokenizer, rows_of(step))
        source_ids, label_ids = padded(sources, 1), padded(labels, 1)
        decoder_ids = padded([[2, *row[:-1]] for row in labels], 1)
        output = model(input_ids=source_ids, attention_mask=source_ids != 1, decoder_input_ids=decoder_ids)
        log_p = torch.log_softmax(output.logits, dim=-1)
        real = label_ids != 1
        nll = -log_p.gather(-1, label_ids[..., None])[..., 0][real].mean()
        uniform = -log_p.mean(dim=-1)[real].mean()
        optimizer.zero_grad()
        ((1 - smoothing) * nll + smoothing * uniform).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        seen.append(nll.item())
    return seen
