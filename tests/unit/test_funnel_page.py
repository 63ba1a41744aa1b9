"""The page of a container says what became of every row of the data."""

import re
import urllib.request
from pathlib import Path

from dragoman.cli.app import run
from dragoman.launch.container import funnel
from dragoman.launch.container.page import Board, Page
from tests.support.runs import make_pairs, train_args


def shown(page: Page, address: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{address}", timeout=10) as answer:
        return answer.read().decode()


def test_the_page_shows_why_pairs_were_left_out_with_an_example_that_is_no_markup(tmp_path: Path) -> None:
    words = train_args(tmp_path)
    data = make_pairs(tmp_path / "pairs.tsv", n=60, seed=1)
    with data.open("a", encoding="utf-8") as file:
        file.write("<b>the same</b>\t<b>the same</b>\n")
    assert run(["prepare", *words[1:]]) == 0
    board = Board()
    board.folder = tmp_path / "run"
    with Page(board, "127.0.0.1", 0) as page:
        closed = shown(page, "/")
        [opens] = re.findall('<a href="([^"]*)">What became of the data', closed)
        section = shown(page, opens)
    assert "identical" not in closed
    # The page asks for its own address again, and what is open is in that; with a fragment a browser would not ask.
    assert "#" not in opens
    assert '<meta http-equiv="refresh" content="10">' in section
    assert '<a href="/">close</a>' in section
    assert "eng_Latn-fra_Latn" in section
    assert "<dt>identical</dt>" in section
    assert "&lt;b&gt;the same&lt;/b&gt; → &lt;b&gt;the same&lt;/b&gt;" in section
    assert re.search(r"<dt>read</dt><dd>61</dd>", section)


def test_before_there_is_data_the_page_says_nothing_of_it(tmp_path: Path) -> None:
    assert funnel.section(None) == funnel.section(tmp_path) == ""
    (tmp_path / "dragoman/corpus/abc").mkdir(parents=True)
    (tmp_path / "dragoman/corpus/abc/corpus.json").write_text('{"fun')
    assert funnel.section(tmp_path) == ""
