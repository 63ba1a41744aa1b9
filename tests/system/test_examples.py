"""What a newcomer runs first keeps working: every run file, and the demo itself in small."""

import json
from pathlib import Path

import pytest
import yaml

from dragoman.cli.app import run as command
from examples import demo

EXAMPLES = Path(demo.__file__).parent


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_run_file_trains(file: Path, tmp_path: Path) -> None:
    small = ["--max-steps", "3", "--max-samples", "50"]
    assert command(["train", "-c", str(file), *small, "--output", str(tmp_path)]) == 0


@pytest.fixture
def small_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo with fewer texts and steps."""
    settings = yaml.safe_load((EXAMPLES / "demo.yaml").read_text("utf-8"))
    settings |= {"data": ["gettext:wtforms,allauth"], "test_percent": 2, "warmup_steps": 5}
    settings |= {"max_steps": 60, "save_steps": 10, "log_steps": 2, "eval_steps": 0}
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(settings), "utf-8")
    monkeypatch.setattr(demo, "CONFIG", str(small))
    monkeypatch.setattr(demo, "RUN", tmp_path / "demo")
    monkeypatch.setattr(demo, "TWIN", tmp_path / "twin")
    monkeypatch.setattr(demo, "KILL_AFTER_STEP", 24)
    monkeypatch.setattr(demo, "COMPARED_STEPS", 10)


@pytest.mark.usefixtures("small_demo")
def test_the_demo_is_killed_and_resumes_exactly() -> None:
    killed_at, is_exact = demo.train_through_a_kill()
    assert killed_at >= 24
    assert is_exact


@pytest.mark.slow
@pytest.mark.usefixtures("small_demo")
def test_the_whole_demo_ends_with_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    demo.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result) == ["copy", "before", "after", "killed_at_step", "resumed_exact", "seconds"]
    assert result["resumed_exact"] is True
    assert result["killed_at_step"] >= 24
    assert result["copy"] > 15
