"""What the first of several ranks says before the first step."""

from pathlib import Path

import pytest

from dragoman.data import balance
from dragoman.model.costs import TokenCosts
from dragoman.training import first, trainee
from dragoman.training.feed import Feed, Share
from tests.support import tiny


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    run = tiny.make(tmp_path_factory.mktemp("run"), rows=60)
    made = trainee.feed_of(run.forward(run.model()), run.config, run.loader)
    made.share = Share(0, 4, TokenCosts(10, 20, 1, 1, 1), in_step=False)
    return made


def test_small_steps_for_many_gpus_are_said_to_be(feed: Feed) -> None:
    share = feed.share
    assert share is not None
    operations = int(balance.costs(feed.loader.lengths(feed.loader.batch(0)), share.costs).sum())
    enough = operations // (first.FEW_OPERATIONS * 4)
    assert first.advice(feed, enough) == ""
    assert "steps of 16 pairs are small for 4 GPUs" in first.advice(feed, enough + 1)


def test_a_process_alone_is_told_nothing(feed: Feed, tmp_path: Path) -> None:
    alone = Feed(feed.loader, 1)
    assert first.advice(alone, 10**12) == ""
