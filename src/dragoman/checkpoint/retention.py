"""Which checkpoints may go: a pure function of those that exist."""

from collections.abc import Sequence

from dragoman.store.record import CheckpointRecord


def surplus(
    checkpoints: Sequence[CheckpointRecord], keep: int, best: CheckpointRecord | None = None
) -> list[CheckpointRecord]:
    """The checkpoints to drop, so that at most `keep + 1` stay.

    Args:
        checkpoints: Those that exist, the newest first (`RunLog.checkpoints`).
        keep: How many of the newest stay; at least one does.
        best: The checkpoint whose model is published; it stays too.
    """
    return [checkpoint for checkpoint in checkpoints[max(keep, 1) :] if checkpoint != best]
