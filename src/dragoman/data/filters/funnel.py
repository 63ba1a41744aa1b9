"""What became of the rows of one direction, in numbers and examples."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dragoman.data.filters.reasons import REASONS
from dragoman.data.sources.rows import FileCount

NUM_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 120


@dataclass
class Funnel:
    """What became of the rows of one direction, with examples of what was dropped."""

    read: int = 0
    """Rows read, bad ones included."""

    bad_rows: int = 0
    """Rows that hold no pair."""

    rejected: Counter[str] = field(default_factory=Counter[str])
    """Pairs dropped, by reason; `REASONS` describes them."""

    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    """The first few pairs dropped for each reason, each side cut to 120 characters."""

    files: list[FileCount] = field(default_factory=list[FileCount])
    """Rows and bad rows of each file that was read."""

    @property
    def kept(self) -> int:
        """Pairs that are left."""
        return self.read - self.bad_rows - self.rejected.total()

    def reject(self, reason: str, source: str, target: str) -> None:
        """Count a pair that is dropped, and keep it as an example if it is one of the first."""
        self.rejected[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append((_shorten(source), _shorten(target)))

    def to_json(self) -> dict[str, Any]:
        """The funnel as JSON values; `rejected` holds only reasons that occurred."""
        rejected = {
            reason: {"pairs": num_pairs, "why": REASONS.get(reason, reason), "examples": self._json_examples(reason)}
            for reason, num_pairs in self._in_order()
        }
        files = [{"file": count.file, "read": count.read, "bad_rows": count.bad} for count in self.files]
        return {"read": self.read, "bad_rows": self.bad_rows, "files": files, "rejected": rejected, "kept": self.kept}

    def _json_examples(self, reason: str) -> list[list[str]]:
        return [list(example) for example in self.examples.get(reason, [])]

    def _in_order(self) -> list[tuple[str, int]]:
        names = [*REASONS, *sorted(self.rejected.keys() - REASONS.keys())]
        return [(name, self.rejected[name]) for name in names if self.rejected[name]]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_EXAMPLE_CHARS else text[: MAX_EXAMPLE_CHARS - 1] + "…"
