"""Which pairs are kept, why the others are dropped, and on which side of the split they are."""

from dragoman.data.filters.funnel import NUM_EXAMPLES, Funnel
from dragoman.data.filters.keys import hash64, key, near_key
from dragoman.data.filters.placeholders import placeholders
from dragoman.data.filters.reasons import REASONS, Limits, reason, reasons
from dragoman.data.filters.sampling import Sample, Split, sample_priority, split_at, split_of, text_hash
from dragoman.data.normalization import clean

__all__ = [
    "NUM_EXAMPLES",
    "REASONS",
    "Funnel",
    "Limits",
    "Sample",
    "Split",
    "clean",
    "hash64",
    "key",
    "near_key",
    "placeholders",
    "reason",
    "reasons",
    "sample_priority",
    "split_at",
    "split_of",
    "text_hash",
]
