"""The verbs that use a model which a run has made."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from dragoman.cli import model_reports, output, settings
from dragoman.cli.grammar import RUNS, USE, AsJson, Beams, Device, OnePair, PairFlag, app, verb
from dragoman.errors import InputError

if TYPE_CHECKING:
    from dragoman.checkpoint.download import Downloaded
    from dragoman.checkpoint.foreign import Foreign


@verb(app, USE)
def translate(
    *text: Annotated[str, Parameter(help="Sentences; left out: lines of --input or of standard input.")],
    pair: OnePair,
    model: Annotated[
        str | None, Parameter(help="A run folder, a model folder, or a Hub id; left out: the newest run below runs/.")
    ] = None,
    input: Annotated[Path | None, Parameter(help="Translate the lines of this file.")] = None,
    num_beams: Beams = 4,
    device: Device = "auto",
) -> None:
    """Translate sentences, one line out for each line in.

    Examples:

        dragoman translate -p en-fr "Save your changes."

        dragoman translate --model runs/demo -p en-de < english.txt > german.txt
    """
    from dragoman.checkpoint.status import newest_run
    from dragoman.deploy.directions import direction_of

    model = model or str(newest_run(RUNS))
    with settings.without_run_options():
        direction = direction_of(pair, model)
    lines = settings.lines(text, input)
    from dragoman.deploy import translate as translating

    for line in translating.load(model, device).translate(lines, direction, num_beams):
        output.data(line)
        sys.stdout.flush()


@verb(app, USE)
def download(
    url: Annotated[str, Parameter(help="URL of a run's store, USER/REPO on the Hub, or a run folder.")],
    /,
    *,
    into: Annotated[
        Path | None,
        Parameter(
            name="--output", help="Folder for the model; it gets this name when all is there. Left out: models/NAME."
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        Parameter(
            help="A whole checkpoint with its training state, by folder or step; without a value: the newest. "
            "Left out: the published model, which is the best one."
        ),
    ] = None,
    test: Annotated[
        bool, Parameter(help="Translate held-out sentences of every direction too; exit 4 when one is no translation.")
    ] = False,
    sentences: Annotated[PositiveInt, Parameter(help="With --test: how many of each direction.")] = 3,
    pair: PairFlag = [],  # noqa: B006  cyclopts never changes it
    data: Annotated[
        list[str], Parameter(help="With --test: pairs to try it on; left out: those that the model brings along.")
    ] = [],  # noqa: B006
    base: Annotated[
        str | None, Parameter(help="With --test: a model to compare with; left out: the one that it was tuned from.")
    ] = None,
    num_beams: Beams = 4,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Bring the model of a run, or one of its checkpoints, to this machine, and prove every byte of it.

    The same command again goes on where it stopped. With --test it says whether the model translates at all: one line
    for each sentence, what its base makes of it, and exit code 4 when a translation is empty, loops, or is in the wrong
    language.

    Examples:

        dragoman download hf://USER/REPO --output my-model

        dragoman download USER/fine-tuned-nllb-600M --test

        dragoman download s3://BUCKET/RUN --output newest --checkpoint

        dragoman download USER/REPO --output step-500 --checkpoint 500
    """
    from dragoman.checkpoint import download as downloading

    if not test and (pair or data or base):
        raise InputError("--pair, --data and --base are for --test, which is missing", "with --test, or without them")
    found = _brought(url, into or downloading.usual_folder(url), checkpoint)
    if not (test and json):
        model_reports.downloaded(found, as_json=json)
    if test:
        from dragoman.deploy import tryout

        with settings.without_run_options():
            texts = tryout.held_out(found.folder, sentences, pair, data)
        compared = tryout.base_of(found.folder, base, url)
        tried = tryout.try_out(found.folder, texts, compared, num_beams, device)
        model_reports.tried(found, tried, as_json=json)
        tryout.require(tried)


def _brought(url: str, folder: Path, checkpoint: list[str] | None) -> "Downloaded | Foreign":
    """The model at `url`, in `folder`: a run's, or without --checkpoint any that is on the Hub."""
    from dragoman.checkpoint import download as downloading
    from dragoman.checkpoint import foreign
    from dragoman.checkpoint.place import open_run
    from dragoman.store.address import HUB, Access, named

    name = downloading.one_name(checkpoint)
    with output.Display() as echo:
        progress = downloading.Progress(echo)
        access = Access(progress=progress.arrived)
        try:
            log = open_run(url, access)
        except InputError as error:
            if checkpoint is not None or not named(url).startswith(HUB):
                raise
            return foreign.download(named(url), folder, access, no_run=error)
        return downloading.download(log, folder, name, report=model_reports.passed_over, progress=progress)


@verb(app, USE)
def export(
    model: Annotated[str, Parameter(help="A run folder, a model folder, or a Hub id.")],
    /,
    *,
    into: Annotated[Path, Parameter(name="--output", help="Folder for the result; it must not be there yet.")],
    trim: Annotated[bool, Parameter(help="Leave out the rows of the vocabulary that the texts cannot use.")] = False,
    pair: PairFlag = [],  # noqa: B006  cyclopts never changes it
    data: Annotated[
        list[str], Parameter(help="Texts that are written by the same pieces as before; left out: those of the run.")
    ] = [],  # noqa: B006
    to: Annotated[
        Literal["transformers", "ctranslate2"], Parameter(help="For whom; CTranslate2 needs the extra `serve`.")
    ] = "transformers",
    quantization: Annotated[
        Literal["none", "int8", "int8_float16", "float16", "bfloat16"], Parameter(help="Of the weights, CTranslate2's.")
    ] = "none",
    json: AsJson = False,
) -> None:
    """Write a model in the form in which it is shipped: smaller, or for CTranslate2.

    With --trim it keeps the pieces of the given texts, all pieces these are merged from, all characters and all
    language codes. On those texts tokens and logits stay the same; other texts fall back to smaller pieces.

    Examples:

        dragoman export runs/demo --trim --output small

        dragoman export facebook/nllb-200-distilled-600M --trim --pair en-fr --data en-fr=texts.tsv --output small

        dragoman export runs/demo --to ctranslate2 --quantization int8 --output fast
    """
    from dragoman.deploy import export as exporting

    with settings.without_run_options():
        done = exporting.export(
            model, into.expanduser(), trimmed=trim, pair=pair, data=data, target=to, quantization=quantization
        )
    model_reports.exported(done, as_json=json)
