"""chrF++ and BLEU by sacrebleu, with the signatures that make them comparable."""

from collections.abc import Sequence
from dataclasses import dataclass

# Where words are not separated by spaces, BLEU counts characters, or sacrebleu's Chinese tokens.
_CHINESE = frozenset({"zho", "yue"})
_UNSPACED = frozenset({"jpn", "tha", "lao", "khm", "mya", "bod", "dzo", "shn"})


@dataclass(frozen=True)
class Scores:
    """Corpus scores of one direction, 0 to 100."""

    chrf: float
    """chrF++ (Popović 2017): characters up to 6-grams, words up to 2-grams."""
    bleu: float
    chrf_signature: str
    bleu_signature: str
    sentences: int


def bleu_tokenizer(code: str) -> str:
    """sacrebleu's tokenizer for a target language."""
    language = code[:3]
    return "zh" if language in _CHINESE else "char" if language in _UNSPACED else "13a"


def score(hypotheses: Sequence[str], references: Sequence[str], code: str) -> Scores:
    """Score hypotheses in the language `code` against one reference each.

    Raises:
        ValueError: The numbers differ, or there are none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    chrf, bleu = CHRF(word_order=2), BLEU(tokenize=bleu_tokenizer(code))
    return Scores(
        chrf=float(chrf.corpus_score(hypotheses, [references]).score),
        bleu=float(bleu.corpus_score(hypotheses, [references]).score),
        chrf_signature=str(chrf.get_signature()),
        bleu_signature=str(bleu.get_signature()),
        sentences=len(references),
    )
