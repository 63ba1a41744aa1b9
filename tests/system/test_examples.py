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


def test_the_demo_is_killed_resumes_exactly_and_ends_with_its_json_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load((EXAMPLES / "demo.yaml").read_text("utf-8"))
    settings |= {"max_steps": 90, "save_steps": 10, "log_steps": 2, "eval_steps": 0}
    settings |= {"warmup_steps": 5, "test_percent": 1}
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(settings), "utf-8")
    monkeypatch.setattr(demo, "CONFIG", str(small))
    monkeypatch.setattr(demo, "RUN", tmp_path / "demo")
    monkeypatch.setattr(demo, "TWIN", tmp_path / "twin")
    monkeypatch.setattr(demo, "KILL_AFTER_STEP", 34)
    monkeypatch.setattr(demo, "COMPARED_STEPS", 20)
    demo.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result) == ["copy", "before", "after", "killed_at_step", "resumed_exact", "seconds"]
    assert result["resumed_exact"] is True
    assert result["killed_at_step"] >= 34
    assert result["copy"] > 15
