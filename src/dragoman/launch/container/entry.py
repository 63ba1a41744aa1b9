"""What a container does from its first instant to the end of its cost: `dragoman space`.

Signal handlers stand first, because Python as process 1 ignores SIGTERM without them. Then
the page answers, before anything heavy is imported. Then training runs as a child, so that
whatever becomes of it, something is left that says why, starts it again, and in the end
stops the cost. This process never imports torch.
"""

import threading
from collections.abc import Callable

from dragoman import host
from dragoman.config import RunConfig
from dragoman.errors import DragomanError, InputError
from dragoman.launch.container.home import at_home
from dragoman.launch.container.leaving import leave
from dragoman.launch.container.page import Board, Page
from dragoman.launch.container.training import End, train
from dragoman.launch.container.voice import Signals, Voice
from dragoman.launch.space_api import SpaceApi


def run(
    load: Callable[[], RunConfig],
    signals: Signals,
    platform: str | None,
    *,
    bind: str,
    port: int,
    page_minutes: float,
    shown: Callable[[int], None],
) -> int:
    """Train to the end, then stop paying; returns the exit code.

    Args:
        load: Gives the configuration; its `InputError` is shown like any other reason not to train.
        signals: Noted since before anything else.
        platform: Where this is; None when it is not recognised.
        bind: Address that the page listens on.
        port: Its port; 0 for any that is free.
        page_minutes: How long the page stays after an end that a person should read, before the machine is released.
        shown: Told the port once the page answers.

    Raises:
        InputError: The port is taken.
    """
    board = Board()
    voice = Voice(signals, board)
    with Page(board, bind, port) as page:
        shown(page.port)
        try:
            config = at_home(load(), platform, voice.clock())
        except InputError as error:
            return leave(End(error.exit_code, f"error: {error}", "later"), voice, platform, page_minutes)
        board.folder = config.save.output
        if platform == "space":
            threading.Thread(target=_stay_awake, args=(board,), daemon=True).start()
        return leave(train(config, voice), voice, platform, page_minutes)


def _stay_awake(board: Board) -> None:
    try:
        SpaceApi(host.name()).stay_awake()
    except DragomanError as error:
        board.warning = f"this Space may be put to sleep while it trains: {error.message}"
