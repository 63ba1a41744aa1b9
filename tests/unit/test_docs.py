"""The pages hold what they promise: fresh, linked, and with commands that exist."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cyclopts import App
from pydantic import ValidationError

from dragoman.cli import guide
from dragoman.cli.app import app
from dragoman.cli.settings import from_yaml
from dragoman.config import from_flat

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SHELLS = {"bash", "sh", "console"}

pages = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def generator(name: str = "generate") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- reference -------------------------------------------------------------------


def test_generated_pages_are_fresh() -> None:
    stored = {path.name: path.read_text("utf-8") for path in REFERENCE.glob("*.md")}
    made = generator().pages()
    assert stored.keys() == made.keys(), "run `make docs`"
    for name, text in made.items():
        assert stored[name] == text, f"docs/reference/{name} is stale: run `make docs`"


def test_what_is_modelled_of_several_gpus_is_what_the_model_says() -> None:
    page = (ROOT / "docs/explain/scale.md").read_text("utf-8")
    assert generator("scale").filled(page) == page, "docs/explain/scale.md is stale: run `make docs`"


# --- links -----------------------------------------------------------------------


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", "".join(outside_blocks(text)))


def outside_blocks(text: str) -> Iterator[str]:
    inside = False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield line


def anchors(text: str) -> set[str]:
    titles = [line.lstrip("#").strip().lower() for line in outside_blocks(text) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_links_and_anchors_are_found_in_text_and_not_in_code() -> None:
    text = "# A title: one\nsee [this](a.md#b) and [that](c.md)\n```\n[no](d.md)\n# no\n```\n"
    assert links(text) == ["a.md#b", "c.md"]
    assert anchors(text) == {"a-title-one"}


@pages
def test_every_relative_link_resolves(page: Path) -> None:
    for link in links(page.read_text("utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{link}: there is no such heading"


def test_every_page_can_be_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md", ROOT / "docs/README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        relative = [link.partition("#")[0] for link in links(page.read_text("utf-8")) if "://" not in link]
        waiting += [page.parent / link for link in relative if link]
    assert {page.resolve() for page in PAGES} <= seen


# --- commands --------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Language and lines of every code block."""
    language, lines = "", None
    for line in text.splitlines():
        if line.strip().startswith("```"):
            if lines is None:
                language, lines = line.strip()[3:], []
            else:
                yield language, lines
                lines = None
        elif lines is not None:
            lines.append(line)


def commands(text: str) -> list[str]:
    """Every `dragoman …` line of shell blocks, continued lines joined, prompt and redirection cut off."""
    found = []
    for language, lines in blocks(text):
        if language not in SHELLS:
            continue
        for line in "\n".join(lines).replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ").partition(" #")[0]
            command = re.split(r"\s(?:[<>|&]|2>|\|\||&&|;)", command.removesuffix("&"))[0]
            command = re.sub(r"^(?:[A-Z_]+=\S+\s+)+", "", command)
            command = as_verb(command)
            if command.startswith("dragoman "):
                found.append(command)
    return found


def as_verb(command: str) -> str:
    """A command of the guide as the verb that it stands for."""
    python, _, rest = command.partition(" ")
    script, *words = shlex.split(rest) if python == "python" else [""]
    if script == "train_nllb_hf_spaces.py":
        return shlex.join(["dragoman", *guide.as_train(words)])
    return shlex.join(["dragoman", *guide.as_download(words)]) if script == "download_finetuned_model.py" else command


def parse(command: str) -> None:
    """Parse one command line without running it.

    Raises:
        CycloptsError: The command or one of its flags does not exist, or a value does not fit.
    """
    words = shlex.split(command)[1:]
    if "--help" not in words and words != ["--version"]:
        app.parse_args(words, exit_on_error=False, print_error=False)


ALL_COMMANDS = [(page, command) for page in PAGES for command in commands(page.read_text("utf-8"))]


def test_the_pages_show_commands() -> None:
    verbs = {command.split()[1] for _, command in ALL_COMMANDS}
    assert {name for name in app if not name.startswith("-")} <= verbs


@pytest.mark.parametrize(
    ("page", "command"), ALL_COMMANDS, ids=[f"{page.name}: {command}"[:80] for page, command in ALL_COMMANDS]
)
def test_every_command_line_parses(page: Path, command: str) -> None:
    parse(command)


@pytest.mark.parametrize(
    "command", ["dragoman launch", "dragoman train --stores s3://bucket", "dragoman train --batch-size many"]
)
def test_a_command_that_does_not_exist_would_be_found(command: str) -> None:
    with pytest.raises((Exception, SystemExit)) as raised:
        parse(command)
    assert type(raised.value).__module__.startswith(("cyclopts", "pydantic"))


@pages
def test_every_run_file_is_a_run_file(page: Path, tmp_path: Path) -> None:
    for number, (language, lines) in enumerate(blocks(page.read_text("utf-8"))):
        if language == "yaml":
            path = tmp_path / f"{number}.yaml"
            path.write_text("\n".join(lines), "utf-8")
            try:
                from_flat(from_yaml(path).values)
            except ValidationError as error:
                raise AssertionError(f"{page.name}: {error}") from None


@pages
def test_every_flag_named_in_text_exists(page: Path) -> None:
    known = flags(app) | {guide.MODEL_NAME}
    for named in re.findall(r"`(--[a-z][a-z_-]+)", page.read_text("utf-8")):
        assert named.replace("_", "-") in known, f"{page.name}: {named} is no option"


def flags(owner: App) -> set[str]:
    found: set[str] = {"--help", "--version"}
    for word in owner:
        if not word.startswith("-"):
            command = owner[word]
            if command.default_command:
                arguments = command.assemble_argument_collection()
                found |= {name for argument in arguments for name in argument.names if name.startswith("--")}
            found |= flags(command)
    return found


def test_the_two_commands_of_the_readme_are_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text("utf-8")))
    assert {"demo", "test"} <= named <= targets
    for page in PAGES:
        code = [line for _, lines in blocks(page.read_text("utf-8")) for line in lines]
        code += re.findall(r"`(make [a-z]+)`", page.read_text("utf-8"))
        for line in code:
            if target := re.match(r"\s*(?:\$ )?make ([a-z]+)", line):
                assert target[1] in targets, f"{page.name}: {line}"


# --- what no page may hold -------------------------------------------------------

MACHINE = re.compile(r"(?<![\w.])/(?:work|farm|opt|root|tmp|home)(?:/|\b)")
VENDORS = r"console\.runpod\.io|cloud\.vast\.ai|docs\.skypilot\.co"
KNOWN = rf"huggingface\.co|keepachangelog\.com|semver\.org|www\.apache\.org|{VENDORS}"
INDEX = re.compile(rf"https?://(?!(?:{KNOWN})\b)\S+")


@pytest.mark.parametrize("words", ["see /home/x", "`/tmp/y`", "/opt"])
def test_a_path_of_one_machine_would_be_found(words: str) -> None:
    assert MACHINE.search(words)


@pages
def test_no_page_names_a_machine_or_a_package_index(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not MACHINE.findall(text)
    assert not INDEX.findall(text)
    assert "index-url" not in text
