"""Asks which files and functions have grown long; never fails.

A file past 300 lines may hold two ideas, a function past 40 may hold two thoughts.

Usage: python bench/lengths.py
"""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
FILE_LINES = 300
FUNCTION_LINES = 40


def long_files() -> Iterator[tuple[int, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        length = len(path.read_text("utf-8").splitlines())
        if length > FILE_LINES:
            yield length, str(path.relative_to(SOURCE))


def long_functions() -> Iterator[tuple[int, str]]:
    """Functions counted without their docstring, which is there to be long enough."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = lines_of(node)
                if length > FUNCTION_LINES:
                    yield length, f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    words = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - words


def main() -> None:
    found = False
    for what, limit, things in (
        ("file", FILE_LINES, long_files()),
        ("function", FUNCTION_LINES, long_functions()),
    ):
        for length, name in sorted(things, reverse=True):
            found = True
            print(f"{name}: {length} lines, past {limit}. Is this one {what} or two?")
    if not found:
        print(f"no file past {FILE_LINES} lines, no function past {FUNCTION_LINES}")


if __name__ == "__main__":
    main()
