import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from dragoman import journal
from dragoman.cli import output, reports

SCORES = {"eng_Latn-fra_Latn": {"chrf": 31.25, "bleu": 3.5}}

KINDS = {kind for kind in vars(journal).values() if isinstance(kind, type) and issubclass(kind, journal.Event)} - {
    journal.Event
}

# One event of each kind with what its line must say; None: only machines read it.
EVENTS: list[tuple[journal.Event, list[str] | None]] = [
    (
        journal.Preparing(stage="reading", rows=1_245_184, kept=1_240_002, share=0.374, pairs_per_second=41_000.4),
        ["preparing: reading 37%", "1,245,184 rows read", "1,240,002 pairs kept", "41,000 pairs/s"],
    ),
    (
        journal.Prepared(
            corpus="0ca328a225bdabae", reused=True, pairs={"eng_Latn-fra_Latn": 1234}, funnel={}, unknown_rate={},
            seconds=1.0,
        ),
        ["corpus 0ca328a225bd", "reused", "eng_Latn-fra_Latn 1,234 pairs"],
    ),
    (
        journal.LanguagesAdded(
            languages={"tyv_Cyrl": ["kaz_Cyrl", "kir_Cyrl"]}, characters="ӊҷ", first_row=256_204, rows=256_207
        ),
        ["tyv_Cyrl like kaz_Cyrl and kir_Cyrl", "2 characters: ӊҷ", "rows 256,204"],
    ),
    (
        journal.SessionStarted(
            run="9bf0db4d", epoch=2, owner="ab", step=1500, total_steps=3000, steps_per_epoch=7.5, device="cpu",
            precision="fp32", threads=2, host="vm", pid=1, resumed_from="checkpoint-1500",
        ),
        ["run 9bf0db4d", "continues at step 1,500 of 3,000 steps", "cpu, fp32, 2 threads", "session 2"],
    ),
    (
        journal.Step(
            step=1200, loss=2.3456, learning_rate=5e-5, gradient_norm=1.0, target_tokens=10, tokens_per_second=12345.6,
            seconds=1.0,
        ),
        ["step 1,200/3,000", "loss 2.346", "lr 5.00e-05", "12,346 target tokens/s"],
    ),
    (journal.StepSkipped(step=7, consecutive=2), ["step 7", "not finite", "2 in a row"]),
    (journal.StepSkipped(step=7, consecutive=0, passed_over=True), ["step 7", "passed over"]),
    (journal.RolledBack(from_step=12, to_step=10, bad_steps=[11, 12]), ["from step 12 to 10", "11, 12"]),
    (journal.OutOfMemory(step=3, microbatch_tokens=2048), ["step 3", "out of memory", "microbatches of 2,048 tokens"]),
    (
        journal.Evaluated(step=500, loss=1.5, chrf=31.25, directions=SCORES, samples=[], seconds=3.0),
        ["step 500", "dev loss 1.500", "chrF++ eng_Latn-fra_Latn 31.2"],
    ),
    (
        journal.Saved(step=500, folder="checkpoint-500", num_bytes=2_500_000, seconds=0.5, reason="best"),
        ["step 500", "saved checkpoint-500", "2.5 MB", "best"],
    ),
    (
        journal.SaveFailed(step=500, reason="No space left on device", last_safe_step=250),
        ["DEGRADED at step 500", "No space left on device", "safe is step 250", "training goes on"],
    ),
    (
        journal.Fetching(step=500, num_bytes=1_500_000, of_bytes=2_500_000),
        ["step 500", "fetching", "1.5 of 2.5 MB"],
    ),
    (
        journal.ReplicatorStarted(store="hf://ada/run", pid=1, owner="ab", epoch=2, safe_step=1500),
        ["hf://ada/run", "session 2", "step 1,500 is there"],
    ),
    (
        journal.ReplicatorStarted(store="hf://ada/run", pid=1, owner="ab", epoch=1, safe_step=-1),
        ["nothing is there yet"],
    ),
    (journal.UploadStarted(step=500, num_bytes=1, store="hf://ada/run"), None),
    (journal.UploadSkipped(steps=[500, 1000], newer_step=1500), ["step 500, 1,000 not uploaded", "step 1,500"]),
    (
        journal.Replicated(step=500, num_bytes=2_500_000, seconds=3.0, store="hf://ada/run"),
        ["step 500", "safe in hf://ada/run", "2.5 MB", "3.0 s"],
    ),
    (
        journal.ReplicationFailed(reason="401: no", safe_step=500, attempts=2, retry_seconds=4.0, age_seconds=240.0),
        ["DEGRADED", "401: no", "step 500, 4 min old", "again in 4 s"],
    ),
    (
        journal.ReplicationFailed(reason="no answer", safe_step=-1, attempts=1, retry_seconds=4.0),
        ["safe in the store is not known"],
    ),
    (journal.ReplicationRecovered(safe_step=5, attempts=3), ["answers again", "3 failures"]),
    (journal.TransferHung(seconds=300.0), ["silent for 300 s"]),
    (
        journal.Draining(step=500, store="hf://ada/run", seconds=900.0),
        ["upload of step 500", "hf://ada/run", "at most 900 s"],
    ),
    (journal.ReplicatorEnded(outcome="superseded", reason="vm2 has it"), ["copying ended: vm2 has it"]),
    (journal.ReplicatorEnded(outcome="done", reason="all there"), None),
    (
        journal.TimeLimited(until=1_796_025_600.0, reason="Google Colab ends a session after 12 h"),
        ["saved and uploaded before 2026-11-30 08:00 UTC (Google Colab ends a session after 12 h)"],
    ),
    (
        journal.RanksLost(reason="rank 2 was ended by SIGKILL", restart=1, max_restarts=3),
        ["rank 2 was ended by SIGKILL: all ranks ended; start 1 of 3 follows"],
    ),
    (
        journal.RanksLost(reason="rank 2 lost the others", restart=0, max_restarts=3),
        ["all ranks ended; no start follows"],
    ),
    (journal.Warned(message="checkpoint-5 is not used"), ["warning: checkpoint-5 is not used"]),
    (
        journal.SessionEnded(outcome="stopped", reason="SIGINT", step=600, safe_step=600),
        ["stopped at step 600", "SIGINT", "safe is step 600"],
    ),
]  # fmt: skip


def test_every_event_of_the_journal_is_in_these_tests() -> None:
    assert {type(event) for event, _ in EVENTS} == KINDS


@pytest.mark.parametrize(("event", "fragments"), EVENTS, ids=lambda value: type(value).__name__)
def test_every_event_has_a_line_or_is_silent_on_purpose(event: journal.Event, fragments: list[str] | None) -> None:
    line = output.line(event, total_steps=3000)
    assert "\n" not in line
    if fragments is None:
        assert line == ""
    else:
        assert [fragment for fragment in fragments if fragment not in line] == [], line


def test_a_fresh_start_says_how_many_steps_there_are() -> None:
    started = next(event for event, _ in EVENTS if isinstance(event, journal.SessionStarted))
    fields = {name: getattr(started, name) for name in started.__dataclass_fields__} | {"step": 0}
    assert "starts: 3,000 steps" in output.line(journal.SessionStarted(**fields))


AWKWARD = [
    "runs/[bold]x[/bold]/[1]",
    "C:\\[a]\\",
    ":warning: :smile:",
    "[/]",
    "[link=http://x]y[/link]",
    r"\[x]",
    "→ é 漢字",
    "100% {0}",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_no_character_of_a_message_is_taken_for_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.say(text)
    output.error(text, text)
    output.data(text)
    with output.Display() as echo:
        echo(journal.Warned(message=text))
    output.table([text], [[text]], Console(file=(table := io.StringIO()), width=100))
    said = capsys.readouterr()
    assert said.err == f"{text}\nerror: {text}\n  try: {text}\nwarning: {text}\n"
    assert said.out == text + "\n"
    assert table.getvalue().count(text) == 2


def test_a_long_line_is_not_broken_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_name_of_any_bytes_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("caf\udce9")
    assert capsys.readouterr().err == "error: caf\\udce9\n"


def shown(*events: journal.Event, terminal: bool) -> str:
    """What a display of these events leaves on a terminal or in a log."""
    file = _Terminal() if terminal else io.StringIO()
    console = Console(file=file, force_terminal=terminal, force_jupyter=False, width=100, soft_wrap=True, _environ={})
    with output.Display(console) as echo:
        for event in events:
            echo(event)
    return file.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_log_every_event_is_one_plain_line() -> None:
    text = shown(*(event for event, _ in EVENTS), terminal=False)
    assert "\x1b" not in text
    assert len(text.splitlines()) == sum(fragments is not None for _, fragments in EVENTS)
    assert "step 1,200/3,000" in text


def test_on_a_terminal_steps_move_one_bar_and_the_rest_is_printed_above_it() -> None:
    text = shown(*(event for event, _ in EVENTS), terminal=True)
    assert "step 1,200/3,000" in text
    assert "loss 2.346" in text
    assert "lr 5.00e-05" not in text
    assert "saved checkpoint-500" in text


def preparing(*stages: str) -> list[journal.Event]:
    """Events of a preparation, each with as many rows as its number."""
    return [
        journal.Preparing(stage=stage, rows=number, kept=number, share=None, pairs_per_second=None)
        for number, stage in enumerate(stages, start=1)
    ]


def test_a_log_has_a_line_for_each_stage_of_preparing_and_one_every_minute() -> None:
    times = iter([0.0, 5.0, 59.0, 60.0, 65.0, 70.0, 75.0])
    file = io.StringIO()
    with output.Display(Console(file=file, width=100), clock=lambda: next(times)) as echo:
        for event in preparing(*["reading"] * 5, "writing", "writing"):
            echo(event)
    assert file.getvalue().splitlines() == [
        "preparing: reading, 1 rows read, 1 pairs kept",
        "preparing: reading, 4 rows read, 4 pairs kept",
        "preparing: writing, 6 rows read, 6 pairs kept",
    ]


def test_on_a_terminal_preparing_is_one_line_that_goes_when_it_is_done() -> None:
    reading, prepared = preparing("reading"), next(event for event, _ in EVENTS if isinstance(event, journal.Prepared))
    text = shown(*reading, prepared, terminal=True)
    assert "preparing: reading, 1 rows read" in text
    # The line is erased before the next is written.
    assert "\x1b[2K" in text[text.index("preparing: reading") : text.index("corpus 0ca328a225bd")]
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_a_process_that_is_killed_leaves_the_cursor_visible() -> None:
    file = _Terminal()
    console = Console(file=file, force_terminal=True, width=100, _environ={})
    display = output.Display(console)
    display.show(next(event for event, _ in EVENTS if isinstance(event, journal.SessionStarted)))
    try:
        before_the_kill = file.getvalue()
        assert before_the_kill.rfind("\x1b[?25h") > before_the_kill.rfind("\x1b[?25l")
    finally:
        display.__exit__()


def test_a_log_file_is_no_terminal_even_if_colour_is_forced() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    assert output.Display(console).bar is None


def test_print_json_is_one_line_of_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": "漢字\n", "b": None})
    assert capsys.readouterr().out == '{"a": "漢字\\n", "b": null}\n'


# --- reports -----------------------------------------------------------------------


def found(**changes: Any) -> dict[str, Any]:
    """What `status` finds about a run."""
    return {
        "schema": 1,
        "run": "9bf0",
        "state": "running",
        "step": 1200,
        "preparing": None,
        "total_steps": 3000,
        "epoch": 0.5,
        "loss": 2.3456,
        "chrf": 31.25,
        "tokens_per_second": 1234.5,
        "eta_seconds": 5000.0,
        "safe": {"step": 1000, "store": "runs/[x]", "age_seconds": 30.0, "verified": False},
        "degraded": None,
        "lease": None,
        "local": None,
        "store": None,
        "history": [],
    } | changes


def test_status_says_what_it_does_how_long_still_and_what_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    reports.status(found(), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "running: step 1,200 of 3,000, 0.50 passes over the data",
        "loss 2.346, chrF++ 31.2, 1,234 target tokens/s",
        "about 83 min left",
        "safe: step 1,000, saved 30 s ago in runs/[x]",
    ]


def test_status_of_a_run_that_prepares_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    far = {"stage": "reading", "rows": 5000, "kept": 4990, "share": 0.25, "pairs_per_second": 900.0, "age_seconds": 3.0}
    nothing = {"safe": None, "loss": None, "eta_seconds": None, "epoch": None, "total_steps": None, "step": 0}
    reports.status(found(state="preparing", preparing=far, **nothing), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "preparing: reading 25%, 5,000 rows read, 4,990 pairs kept, 900 pairs/s (3 s ago)",
        "safe: nothing yet",
    ]


def test_status_is_loud_when_nothing_is_saved_any_more(capsys: pytest.CaptureFixture[str]) -> None:
    degraded = {"reason": "No space left on device", "since_seconds": 9000.0}
    nothing = {"safe": None, "loss": None, "eta_seconds": None, "epoch": None, "total_steps": None}
    reports.status(found(degraded=degraded, **nothing), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "running: step 1,200",
        "safe: nothing yet",
        "DEGRADED for 2.5 h: No space left on device",
    ]


def test_status_as_json_is_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    reports.status(found(), as_json=True)
    assert json.loads(capsys.readouterr().out) == found()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h")]
)
def test_durations_come_in_the_unit_a_person_would_use(
    seconds: float, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reports.status(found(eta_seconds=seconds), as_json=False)
    assert re.search(rf"^about {re.escape(words)} left$", capsys.readouterr().out, re.MULTILINE)
