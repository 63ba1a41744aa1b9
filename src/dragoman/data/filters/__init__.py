"""Which pairs are kept, why the others are dropped, and on which side of the split they are."""

from dragoman.data.filters.duplicates import Duplicates
from dragoman.data.filters.funnel import Funnel
from dragoman.data.filters.keys import key, near_key
from dragoman.data.filters.placeholders import placeholders
from dragoman.data.filters.reasons import REASONS, Limits, reason
from dragoman.data.filters.sampling import Sample, Split, sample_priority, split_of
from dragoman.data.normalization import clean

__all__ = [
    "REASONS",
    "Duplicates",
    "Funnel",
    "Limits",
    "Sample",
    "Split",
    "clean",
    "key",
    "near_key",
    "placeholders",
    "reason",
    "sample_priority",
    "split_of",
]
