"""A machine was asked for and no answer came: it may cost money, so look before saying anything."""

from collections.abc import Callable, Sequence

from dragoman.errors import InputError, StoreUnavailable
from dragoman.launch.job import Handle


def made_all_the_same(failure: StoreUnavailable, look: Callable[[], Sequence[Handle]], undo: str) -> Handle:
    """The machine that was made although its answer was lost.

    Args:
        failure: What became of the request.
        look: Finds the machines that it may have made.
        undo: Where a person looks, and what he does there, if nobody can tell.

    Raises:
        StoreUnavailable: There is none, or nobody can tell.
    """
    try:
        found = look()
    except (StoreUnavailable, InputError):
        raise StoreUnavailable(f"{failure.message}; it may run all the same", undo) from None
    if not found:
        raise StoreUnavailable(f"{failure.message}; nothing runs", "the same command again") from None
    return found[0]
