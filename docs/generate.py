"""The reference pages, written from the code; `make docs`, and a test keeps them fresh.

Names, defaults and words come from the options' model, the commands, the journal's
events, the records and the docstrings. Nothing here is written by hand twice.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from cyclopts import App

from dragoman import errors
from dragoman.cli.app import app
from dragoman.cli.settings import flag, is_list
from dragoman.config import ENVIRONMENT_PREFIX, FIELDS, SECTIONS, RunConfig, may_change
from dragoman.journal import events as happened
from dragoman.store import record

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py (`make docs`): change the code, not this page. -->\n"
SECTION_TITLES = {name: field.metadata[0].group[0].name for name, field in RunConfig.model_fields.items()}
"""The heading of each section of options, as the help shows it."""


def pages() -> dict[str, str]:
    """Every reference page, by its file name."""
    made = {
        "options.md": options(),
        "commands.md": commands(),
        "journal.md": events(),
        "records.md": records(),
        "errors.md": exit_codes(),
        "code.md": code(),
    }
    return {name: f"{NOTE}\n{text.strip()}\n" for name, text in made.items()}


# --- options ---------------------------------------------------------------------


def options() -> str:
    """All options of a run."""
    parts = [
        "# Options of a run\n",
        "The same option is a flag, a key of the YAML run file and an environment variable. A flag outdoes a "
        "variable, a variable outdoes the file. Dashes and underscores in flags and keys are the same. In a "
        "variable, the values of a list are separated by spaces.\n",
        "*May change*: the option may differ when a run continues. Every other one defines the run.\n",
    ]
    for section, model in SECTIONS.items():
        parts.append(f"## {SECTION_TITLES[section]}\n")
        rows = [_option(name) for name in model.model_fields]
        parts.append(_table(("flag", "YAML key", "variable", "takes", "default", "may change", "meaning"), rows))
    return "\n".join(parts)


def _option(name: str) -> Sequence[str]:
    field = FIELDS[name][1]
    default = field.get_default()
    shown = "" if default is None or default == [] else _code(json.dumps(default).strip('"'))
    changes = "yes" if may_change(name) else ""
    variable = _code(ENVIRONMENT_PREFIX + name.upper())
    return (_code(flag(name)), _code(name), variable, _takes(name), shown, changes, _line(field.description or ""))


def _takes(name: str) -> str:
    schema = RunConfig.model_json_schema()["$defs"][SECTIONS[FIELDS[name][0]].__name__]["properties"][name]
    schema = next((part for part in schema.get("anyOf", []) if part["type"] != "null"), schema)
    if "enum" in schema:
        return ", ".join(map(_code, schema["enum"]))
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "switch", "array": "texts"}
    kind = "path" if schema.get("format") == "path" else words[schema["type"]]
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    assert is_list(name) == (kind == "texts")
    return ", ".join([kind, *bounds])


# --- commands --------------------------------------------------------------------


def commands() -> str:
    """The help of all commands."""
    parts = [
        "# Commands\n",
        f"{app.help}\n",
        "Data goes to stdout, talk to stderr. `--help` after any command shows this page's text. "
        "What the exit codes mean: [errors and exit codes](errors.md).\n",
    ]
    for name, command in _walk(app, "dragoman"):
        parts.append(f"## `{name}`\n")
        function = command.default_command
        text = inspect.cleandoc(function.__doc__ or "") if function else str(command.help)
        words, _, examples = text.partition("Examples:")
        parts.append(f"{words.strip()}\n")
        if function:
            parts.append(_arguments(command))
        if examples.strip():
            lines = "\n".join(line.strip() for line in examples.splitlines() if line.strip())
            parts.append(f"```bash\n{lines}\n```\n")
    return "\n".join(part for part in parts if part)


def _walk(owner: App, name: str) -> Iterator[tuple[str, App]]:
    for word in owner:
        if not word.startswith("-"):
            command = owner[word]
            yield f"{name} {word}", command
            yield from _walk(command, f"{name} {word}")


def _arguments(command: App) -> str:
    rows: list[Sequence[str]] = []
    takes_options = False
    for argument in command.assemble_argument_collection():
        names = [name for name in argument.names if not name.startswith("--no-")]
        if any(name.removeprefix("--").replace("-", "_") in FIELDS for name in names) and len(argument.keys) > 1:
            takes_options = True
        elif argument.show:
            default = argument.field_info.default
            shown = "" if default in (None, False, "", [], inspect.Parameter.empty) else _code(str(default))
            required = "required" if argument.required else shown
            rows.append((" ".join(map(_code, names)), required, _line(str(argument.parameter.help or ""))))
    text = _table(("argument", "default", "meaning"), rows) if rows else ""
    also = "It takes all [options of a run](options.md).\n" if takes_options else ""
    return "\n".join(part for part in (text, also) if part)


# --- journal and records ---------------------------------------------------------


def events() -> str:
    """The kinds of lines in `journal.jsonl`."""
    parts = [
        "# Events of the journal\n",
        "`RUN/dragoman/journal.jsonl` holds one JSON object per line. Each has `kind` and `time` (seconds since 1970, "
        "UTC) besides the fields below. How to use them: [read the journal](../how-to/read-the-journal.md).\n",
    ]
    for node in _classes(happened):
        event = getattr(happened, node.name)
        if event is not happened.Event:
            parts += [f"## `{event.kind()}`\n", f"{_line(ast.get_docstring(node) or '')}\n", _fields(node)]
    return "\n".join(parts)


def records() -> str:
    """The kinds of records in the log of a run."""
    nodes = {node.name: node for node in _classes(record)}
    parts = [
        "# Records of the log\n",
        f"`RUN/{record.LOG}/000001.json` and so on: one record per file, in canonical JSON, with its own `sha256` as "
        f"its last field. This is format {record.FORMAT}. What they promise: [durability](../explain/durability.md).\n",
        "## Fields of every record\n",
        _fields(nodes["_Line"]),
    ]
    for node in nodes.values():
        if "_Line" in [ast.unparse(base) for base in node.bases]:
            kind = getattr(record, node.name).model_fields["kind"].default
            parts += [f"## `{kind}`\n", f"{_line(ast.get_docstring(node) or '')}\n", _fields(node)]
    parts += ["## An entry of `files`\n", f"{ast.get_docstring(nodes['FileEntry'])}\n", _fields(nodes["FileEntry"])]
    return "\n".join(parts)


# --- errors ----------------------------------------------------------------------


def exit_codes() -> str:
    """Exit codes, and the errors behind them."""
    hints = _code_hints()
    rows = [(str(int(code)), _code(code.name), hints[code.name]) for code in errors.ExitCode]
    rows.append(("130", "", "interrupted by the keyboard outside of training"))
    parts = [
        "# Errors and exit codes\n",
        "What a script should do with each: [exit codes for scripts](../how-to/exit-codes.md).\n",
        _table(("code", "name", "means"), rows),
        "## Errors\n",
        "All of them are shown as one message and one line with a way out, never as a traceback.\n",
        _table(("error", "exit code", "means"), list(_errors())),
    ]
    return "\n".join(parts)


def _code_hints() -> dict[str, str]:
    """What the help of the bare command says of each code."""
    text = str(app.help_epilogue).partition("Exit codes: ")[2].rstrip(".")
    words = dict(part.split(" ", 1) for part in text.split(", "))
    return {code.name: words[str(int(code))] for code in errors.ExitCode}


def _errors() -> Iterator[Sequence[str]]:
    for node in _classes(errors):
        error = getattr(errors, node.name)
        if issubclass(error, errors.DragomanError) and error is not errors.DragomanError:
            yield _code(node.name), str(int(error.exit_code)), _first_paragraph(ast.get_docstring(node))


# --- code ------------------------------------------------------------------------


def code() -> str:
    """Every public function and class of the package, with the first paragraph of its docstring."""
    parts = [
        "# The code, module by module\n",
        "Every public class and function with the first paragraph of its docstring; the rest stands in the source. "
        "Which module may import which: [the floors](../design/000-shape.md#floors).\n",
    ]
    for name, tree in _modules():
        rows = [(_code(node.name), _first_paragraph(ast.get_docstring(node))) for node in tree.body if _is_public(node)]
        if rows:
            parts += [f"## `{name}`\n", f"{_first_paragraph(ast.get_docstring(tree))}\n", _table(("name", "is"), rows)]
    return "\n".join(parts)


def _modules() -> Iterator[tuple[str, ast.Module]]:
    found = find_spec("dragoman")
    assert found is not None
    assert found.origin is not None
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text("utf-8"))


def _is_public(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")


# --- parts -----------------------------------------------------------------------


def _classes(module: ModuleType) -> list[ast.ClassDef]:
    tree = ast.parse(inspect.getsource(module))
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _fields(node: ast.ClassDef) -> str:
    """The annotated attributes of a class, each with the string that stands below it."""
    rows: list[Sequence[str]] = []
    for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign):
            continue
        words = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            words = inspect.cleandoc(str(below.value.value))
        rows.append((_code(ast.unparse(statement.target)), _code(ast.unparse(statement.annotation)), _line(words)))
    return _table(("field", "type", "meaning"), rows)


def _first_paragraph(text: str | None) -> str:
    return _line((text or "").partition("\n\n")[0])


def _line(text: str) -> str:
    """A text on one line, safe inside a table and for a reader that takes `<s>` for HTML."""
    words = " ".join(text.split()).replace("``", "`")
    outside = re.split(r"(`[^`]*`)", words)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in outside)


def _code(text: str) -> str:
    return f"`{text}`"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def main() -> int:
    """Write the pages; remove those that are no longer generated."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")
    print(f"{len(made)} pages in docs/reference", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
