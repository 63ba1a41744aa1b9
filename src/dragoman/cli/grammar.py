"""How the command line is written down: groups, the shell of the application, and flags that verbs share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import App, Group, Parameter
from cyclopts.types import PositiveInt

from dragoman import __version__
from dragoman.config import RunConfig

TRAIN, LOOK, USE = Group("Train", sort_key=1), Group("Look", sort_key=2), Group("Use", sort_key=3)
OTHER = Group("Other", sort_key=4)
RUN_FILE = Group("Run file", sort_key=0)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def epilogue(examples: Sequence[str]) -> str:
    """Examples as a list in Markdown, for the end of a help page."""
    return "Examples:\n\n" + "\n".join(f"* `{example}`" for example in examples)


def _shown_default(value: Any) -> str | None:
    """A default as the help shows it; nothing where it says "off" or "none"."""
    return None if value is None or value is False or value in ("", []) else str(value)


def verb(owner: App, group: Group | None = None) -> Callable[[Verb], Verb]:
    """Make a function a command; the help shows the `Examples` of its docstring, which cyclopts leaves out."""

    def register(function: Verb) -> Verb:
        _, _, after = (function.__doc__ or "").partition("Examples:\n")
        examples = [line.strip() for line in after.splitlines() if line.strip()]
        order = len(list(owner))
        owner.command(function, group=group, sort_key=order, help_epilogue=epilogue(examples))
        return function

    return register


app = App(
    name="dragoman",
    help="Fine-tune NLLB-200 on machines that vanish. Lose nothing.",
    help_epilogue=epilogue(
        [
            "dragoman train --language-pairs en-fr --data en-fr=pairs.tsv --output runs/demo",
            "dragoman status runs/demo",
            'dragoman translate --model runs/demo -p en-fr "Save your changes."',
        ]
    )
    + "\n\nExit codes: 0 done, 1 a bug, 2 wrong input, 3 another machine took over, 4 a check said no,"
    + " 75 stopped: resume me, 76 a rank that lost the others.",
    version=__version__,
    default_parameter=Parameter(consume_multiple=True, negative=(), show_default=_shown_default),
    help_format="markdown",
)
app["--help"].group = app["--version"].group = OTHER

RUNS = Path("runs")
"""Where runs are when `--output` is left out."""

Options = Annotated[RunConfig, Parameter(name="*")]
ConfigFile = Annotated[
    Path | None,
    Parameter(name=["--config", "-c"], group=RUN_FILE, help="A YAML file with options by flag name; flags outdo it."),
]
AsJson = Annotated[bool, Parameter(name="--json", help="Print one JSON object.")]
PairFlag = Annotated[list[str], Parameter(name=["--pair", "-p"], help="Direction as SOURCE-TARGET, such as `en-fr`.")]
OnePair = Annotated[str, Parameter(name=["--pair", "-p"], help="Direction as SOURCE-TARGET, such as `en-fr`.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="Where to compute; auto takes the GPU if any.")]
Beams = Annotated[PositiveInt, Parameter(help="Beams; 1 is greedy.")]
