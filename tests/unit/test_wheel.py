"""The wheel that travels: the very files that run, installable without a network, always the same bytes."""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import dragoman
from dragoman.errors import InputError
from dragoman.launch import wheel

ROOT = Path(dragoman.__file__).parent


def package_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_pip_installs_the_wheel_and_what_is_imported_then_is_what_runs_here(tmp_path: Path) -> None:
    made = wheel.wheel(tmp_path / "wheels")
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(made)], check=True, cwd=tmp_path)
    assert package_files(target / "dragoman") == package_files(ROOT)
    assert "platforms/facts.yaml" in package_files(target / "dragoman")
    code = "import dragoman, importlib.metadata as m; print(dragoman.__file__, m.version('dragoman'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True
    )
    where, version = done.stdout.split()
    assert Path(where).is_relative_to(target)
    assert f"dragoman-{version}-py3-none-any.whl" == made.name


def test_it_says_what_the_installation_says_but_for_the_version(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel.wheel(tmp_path)) as archive:
        described = next(name for name in archive.namelist() if name.endswith("METADATA"))
        made = archive.read(described).decode()
        assert archive.testzip() is None
        commands = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert b"dragoman = dragoman.__main__:main" in archive.read(commands)
    installed = metadata.distribution("dragoman").read_text("METADATA")
    assert installed is not None
    drop = [line for line in made.splitlines() if not line.startswith("Version: ")]
    assert drop == [line for line in installed.splitlines() if not line.startswith("Version: ")]


def test_the_same_code_gives_the_same_bytes_and_other_code_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = wheel.contents()
    assert wheel.contents() == first
    package = wheel._package()
    package["dragoman/errors.py"] += b"\n"
    monkeypatch.setattr(wheel, "_package", lambda: package)
    assert wheel.contents()[0] != first[0]


def test_a_wheel_made_from_a_wheel_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = wheel.contents()
    described = wheel._described()
    version = name.split("-")[1]
    described["METADATA"] = wheel._with_version(described["METADATA"], version)
    monkeypatch.setattr(wheel, "_described", lambda: dict(described))
    assert wheel.contents()[0] == name


def test_code_that_was_never_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(wheel.metadata, "distribution", missing)
    with pytest.raises(InputError, match=r"never installed"):
        wheel.contents()
