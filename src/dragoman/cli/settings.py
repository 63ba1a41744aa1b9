"""From words to a RunConfig: YAML file < environment < flags, each mistake named with its place."""

import contextlib
import difflib
import sys
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, get_origin

import yaml
from pydantic import ValidationError

from dragoman import host
from dragoman.config import ENVIRONMENT_PREFIX, FIELDS, RunConfig, from_flat
from dragoman.errors import InputError
from dragoman.launch import options as launching
from dragoman.launch.options import LaunchOptions

UNUSED = "Unused Tokens:"
"""How cyclopts begins its complaint about words that belong to no option."""


@dataclass
class Layer:
    """Values from one place, and how to point at each of them."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    launch: "Layer | None" = None
    """What a run file says of the machine, under its key `launch`."""


def load(flags: RunConfig | None = None, config_file: Path | None = None, stored: RunConfig | None = None) -> RunConfig:
    """The configuration of this command; with `stored`, that of a run which continues.

    Raises:
        InputError: A file, variable or flag is unknown or wrong; the message names it.
    """
    layers = [Layer(stored.given())] if stored else []
    if config_file:
        layers.append(from_yaml(config_file))
    layers.append(from_environment(host.options(ENVIRONMENT_PREFIX)))
    if flags is not None:
        given = flags.given()
        layers.append(Layer(given, {name: flag(name) for name in given}))
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        places |= layer.places
    try:
        return from_flat(values)
    except ValidationError as error:
        raise in_words(error, places) from None


def launch_options(flags: LaunchOptions, config_file: Path) -> LaunchOptions:
    """What is said about the machine: by the key `launch` of the run file, outdone by flags.

    Raises:
        InputError: A key or value is wrong; the message names its line.
    """
    given = from_yaml(config_file).launch or Layer()
    said = {name: getattr(flags, name) for name in flags.model_fields_set}
    return _valid_launch(Layer(given.values | said, given.places | {name: flag(name) for name in said}))


def _valid_launch(layer: Layer) -> LaunchOptions:
    try:
        return LaunchOptions.model_validate(layer.values)
    except ValidationError as error:
        raise in_words(error, layer.places) from None


def flag(name: str) -> str:
    """`max_samples` as the user types it: `--max-samples`."""
    return "--" + name.replace("_", "-")


def from_yaml(path: Path) -> Layer:
    """The keys of a YAML run file, with the line of each.

    Raises:
        InputError: The file is missing, is not YAML or UTF-8, or has an unknown key.
    """
    try:
        node = yaml.compose(path.read_text("utf-8-sig"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise InputError(f"--config: there is no file {path}", "the path of a YAML file, e.g. -c run.yaml") from None
    except OSError as error:
        raise InputError(f"--config: cannot read {path}: {error.strerror}", "the path of a YAML file") from None
    except UnicodeDecodeError:
        raise InputError(f"--config: {path} is not UTF-8", "convert it: iconv -t utf-8") from None
    except yaml.YAMLError as error:
        raise InputError(*_not_yaml(path, error)) from None
    if node is None:
        return Layer()
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"--config: {path} holds no options", "key: value lines, e.g. batch_size: 4")
    return _keys(node, path, FIELDS)


def _keys(node: yaml.MappingNode, path: Path, known: Collection[str], above: str = "") -> Layer:
    """The keys of one mapping and the line of each; `above` is the key that it belongs to, with a dot."""
    layer = Layer()
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
        place = f"{path} line {key_node.start_mark.line + 1}: {above}{key}"
        name = key.replace("-", "_")
        if name in layer.values or (name == launching.KEY and layer.launch):
            raise InputError(f"{place}: the key stands twice", "keep one of the two")
        if name == launching.KEY and not above:
            layer.launch = _launch(value_node, path, place)
            continue
        if name not in known:
            also = "dragoman launch --help" if above else "dragoman config show"
            raise InputError(
                f"{place}: unknown key", _suggest(name, [*known, *([] if above else [launching.KEY])], also)
            )
        value = _yaml_value(value_node)
        layer.values[name] = [value] if not above and is_list(name) and isinstance(value, str) else value
        layer.places[name] = place
    return layer


def _launch(node: yaml.Node, path: Path, place: str) -> Layer:
    """What stands under `launch`, looked at whether or not this command starts a machine."""
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{place}: wants keys and values of its own", "launch: {gpu: l4, max_hours: 8}")
    layer = _keys(node, path, launching.FIELDS, above=f"{launching.KEY}.")
    _valid_launch(layer)
    return layer


def _yaml_value(node: yaml.Node, depth: int = 0) -> Any:
    """A text, a list of texts or None; the fields say what a text means.

    YAML itself reads `no` as false, `1:30` as 90, and half of all commit ids as numbers.
    """
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.SequenceNode) and not depth:
        return [_yaml_value(item, depth + 1) for item in node.value]
    return {}  # no field is a mapping, or a list of lists


def _not_yaml(path: Path, error: yaml.YAMLError) -> tuple[str, str]:
    """What is wrong and where, without the parser's own view of it."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return f"--config: {path} is not YAML: {' '.join(str(error).split())}", "key: value lines"
    hint = "spaces instead of tabs" if "'\\t'" in str(error.problem) else "key: value lines, e.g. batch_size: 4"
    return f"--config: {path} line {mark.line + 1} is not YAML: {error.problem}", hint


def from_environment(variables: Mapping[str, str]) -> Layer:
    """The `DRAGOMAN_*` variables; lists are separated by spaces, and an empty variable says nothing.

    Raises:
        InputError: A variable names no option.
    """
    layer = Layer()
    known = {ENVIRONMENT_PREFIX + name.upper(): name for name in FIELDS}
    for variable, text in sorted(variables.items()):
        if variable not in known:
            hint = _suggest(variable, list(known), "dragoman config show --variables")
            raise InputError(f"environment variable {variable}: no such option", hint)
        name = known[variable]
        if not text.strip():
            continue
        layer.values[name] = text.split() if is_list(name) else text
        layer.places[name] = f"environment variable {variable}"
    return layer


def is_list(name: str) -> bool:
    """Whether the field takes several values."""
    return get_origin(FIELDS[name][1].annotation) is list


def in_words(error: ValidationError, places: Mapping[str, str] | None = None) -> InputError:
    """Pydantic's first complaint as one sentence that names the flag, line or variable."""
    problem = error.errors(include_url=False)[0]
    loc = [str(part) for part in problem["loc"]]
    name = loc[1] if len(loc) > 1 else loc[0] if loc else ""
    place = (places or {}).get(name, flag(name))
    context = problem.get("ctx", {})
    if problem["input"] is None:
        return InputError(f"{place}: there is no value", "a value, or leave the option out")
    match problem["type"]:
        case "literal_error":
            options = [option.strip("'") for option in str(context["expected"]).replace(" or ", ", ").split(", ")]
            hint = _suggest(str(problem["input"]), options, " | ".join(options), also=" | ".join(options))
            return InputError(f"{place}: {problem['input']!r} is none of the choices", hint)
        case "int_parsing" | "int_type" | "int_from_float":
            return InputError(f"{place}: {problem['input']!r} is not a whole number", "digits only, e.g. 500")
        case "float_parsing" | "float_type":
            return InputError(f"{place}: {problem['input']!r} is not a number", "digits, e.g. 3 or 0.5 or 5e-5")
        case "bool_parsing" | "bool_type":
            return InputError(f"{place}: {problem['input']!r} is neither true nor false", "true or false")
        case "list_type" | "string_type" if isinstance(problem["input"], dict):
            return InputError(f"{place}: wants values, not keys or lists of lists", "e.g. [en-fr, en-de]")
        case _:
            message = str(problem["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
            return InputError(f"{place}: {problem['input']!r} does not fit", f"a value that is {message}")


def _suggest(word: str, known: list[str], otherwise: str, also: str = "") -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:
        return otherwise
    return f"did you mean {near[0]}?" + (f" ({also})" if also else "")


def usage_error(message: str) -> InputError:
    """The command line's own complaint: unknown flags and commands, missing arguments."""
    sentence, _, rest = " ".join(message.split()).partition(" Did you mean ")
    if sentence.startswith(UNUSED):
        words = sentence.removeprefix(UNUSED).strip("[]. ")
        return InputError(
            f"no option takes {words}", "--help shows what there is; a switch is set off by --SWITCH=false"
        )
    hint = f"did you mean {rest}" if rest else "--help shows what there is"
    return InputError(sentence.rstrip("."), hint)


@contextlib.contextmanager
def without_run_options() -> Generator[None]:
    """In a command that takes `--pair` and no options of a run, complaints name the former and not the latter."""
    try:
        yield
    except InputError as error:
        error.message = error.message.replace("--language-pairs", "--pair")
        error.hint = error.hint.replace("--language-pairs", "--pair")
        if "--on-bad-rows" in error.hint:
            error.hint = "correct or remove that line"
        raise


def variables() -> list[str]:
    """The names of all environment variables that set an option."""
    return [ENVIRONMENT_PREFIX + name.upper() for name in FIELDS]


def lines(words: Sequence[str], file: Path | None) -> Iterator[str]:
    """The texts to work on: `words`, else the lines of `file`, else of standard input.

    Raises:
        InputError: The file cannot be read or is not UTF-8.
    """
    if words:
        return iter(words)
    try:
        opened = file.open("rb") if file else sys.stdin.buffer
    except OSError as error:
        raise InputError(f"--input: cannot read {file}: {error.strerror}", "the path of a text file") from None
    return _decoded(opened, str(file or "standard input"))


def _decoded(opened: BinaryIO, name: str) -> Iterator[str]:
    with opened:
        yield from _text_lines(opened, name)


def _text_lines(opened: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(opened, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"{name} line {number:,}: not UTF-8", "convert it: iconv -t utf-8") from None
