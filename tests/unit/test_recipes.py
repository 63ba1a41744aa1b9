"""What a person uploads is fresh, well-formed, and has every version pinned."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import ValidationError

from dragoman.cli.settings import from_yaml
from dragoman.config import from_flat
from dragoman.launch.recipes import recipes
from dragoman.launch.space_card import Card, read, written

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes"


def test_the_recipes_are_fresh() -> None:
    for name, data in recipes().items():
        assert (FOLDER / name).read_bytes() == data, f"recipes/{name} is stale: run `make recipes`"


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, FOLDER / "space/Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_numbered_user_without_a_shell_or_a_secret() -> None:
    lines = (FOLDER / "space/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")][-1] == "USER 1000"
    assert [line for line in lines if line.startswith("ENTRYPOINT")] == [
        'ENTRYPOINT ["dragoman", "space", "--bind", "0.0.0.0"]'
    ]
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert "TOKEN" not in re.sub(r"#.*", "", "\n".join(lines))


def test_every_requirement_of_the_package_is_pinned_within_its_range() -> None:
    lines = (FOLDER / "space/requirements_training.txt").read_text().splitlines()
    pins = {Requirement(line).name: line.partition("==")[2] for line in lines if not line.startswith("#")}
    assert all(pins.values())
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, wanted):
        name = requirement.name.replace("_", "-")
        assert requirement.specifier.contains(pins[name]), requirement
    torch = re.search(r"torch==(\S+)", (ROOT / "constraints.txt").read_text())
    assert torch
    assert pins["torch"] == torch[1]


def test_the_run_file_is_one_and_says_what_the_dockerfile_falls_back_to() -> None:
    path = FOLDER / "space/run.yaml"
    config = from_flat(from_yaml(path).values)
    fallback = re.findall(r"'(\w+: [^']+)'", (FOLDER / "space/Dockerfile").read_text())
    assert from_flat(yaml.safe_load("\n".join(fallback))) == config.model_copy(
        update={"save": from_flat({}).save}
    )  # save_steps is the default, only said
    assert config.save.save_steps == 500


def test_the_readme_of_a_space_says_what_the_hub_needs() -> None:
    card = read((FOLDER / "space/README.md").read_text())
    assert (card.sdk, card.app_port) == ("docker", 7860)
    assert re.fullmatch(r"\d+h", card.startup_duration_timeout)
    assert read(written(card, "text")) == card


@pytest.mark.parametrize(
    "values",
    [
        {"title": ""},
        {"title": "x", "sdk": "gradio"},
        {"title": "x", "app_port": 8080},
        {"title": "x", "colorFrom": "mauve"},
        {"title": "x", "startup_duration_timeout": "an hour"},
        {"title": "x", "startup_timeout": "1h"},
    ],
)
def test_nonsense_in_the_front_matter_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Card.model_validate(values)
    with pytest.raises(ValueError, match="no front matter"):
        read("text\n---\n---\n")
