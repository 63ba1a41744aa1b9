"""The key `launch:` of a run file: read by `launch`, passed over by all others, and never wrong in silence."""

from pathlib import Path

import pytest

from dragoman.cli import settings
from dragoman.cli.app import run
from dragoman.config import RunConfig
from dragoman.errors import ExitCode, InputError
from dragoman.launch.options import LaunchOptions

FILE = "language_pairs: en-fr\nlaunch:\n  gpu: l4\n  max-hours: 3\n  spot: true\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def test_flags_outdo_the_run_file(path: Path) -> None:
    path.write_text(FILE)
    said = settings.launch_options(LaunchOptions(gpu="t4"), path)
    assert (said.gpu, said.max_hours, said.spot, said.attempts) == ("t4", 3, True, 1)


def test_a_flag_that_says_the_default_still_outdoes_the_file(path: Path) -> None:
    path.write_text(FILE)
    assert settings.launch_options(LaunchOptions(spot=False), path).spot is False


def test_other_commands_read_the_run_and_pass_the_machine_over(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(FILE)
    assert settings.load(None, path) == settings.load(RunConfig(), path)
    assert settings.load(None, path).given() == {"language_pairs": ["en-fr"]}
    assert run(["config", "show", "-c", str(path)]) == ExitCode.DONE
    assert "launch" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (FILE.replace("gpu:", "gpuu:"), r"run.yaml line 3: launch.gpuu: unknown key\n  try: did you mean gpu\?"),
        (FILE.replace("gpu:", "colour:"), r"line 3: launch.colour: unknown key\n  try: dragoman launch --help"),
        (FILE.replace(": 3", ": long"), r"line 4: launch.max-hours: 'long' is not a number"),
        (FILE.replace(": 3", ": 0"), r"line 4: launch.max-hours: '0' does not fit\n  try: a value that is greater"),
        (FILE.replace("max-hours: 3", "gpu: t4"), r"line 4: launch.gpu: the key stands twice"),
        (FILE + "launch: {}\n", r"line 6: launch: the key stands twice"),
        (FILE.replace("launch:", "lanch:"), r"line 2: lanch: unknown key\n  try: did you mean launch\?"),
        ("launch: l4\n", r"line 1: launch: wants keys and values of its own\n  try: launch: \{gpu: l4"),
        ("launch:\n  launch: {gpu: l4}\n", r"line 2: launch.launch: unknown key"),
        ("launch:\n  gpu: [l4, t4]\n", r"line 2: launch.gpu: \['l4', 't4'\] does not fit"),
        ("launch:\n  gpu:\n", None),
    ],
)
def test_every_command_refuses_a_mistake_in_it_with_its_line(path: Path, file: str, said: str | None) -> None:
    path.write_text(file)
    if said is None:
        settings.load(None, path)
        return
    with pytest.raises(InputError, match=said):
        settings.load(None, path)
