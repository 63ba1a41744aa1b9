"""The verbs that use a model which a run has made."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from dragoman.cli import output, reports, settings
from dragoman.cli.grammar import RUNS, USE, AsJson, Beams, Device, OnePair, PairFlag, app, verb


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
        Path, Parameter(name="--output", help="Folder for the model; it gets this name when all is there.")
    ],
    checkpoint: Annotated[
        list[str] | None,
        Parameter(
            help="A whole checkpoint with its training state, by folder or step; without a value: the newest. "
            "Left out: the published model, which is the best one."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Bring the model of a run, or one of its checkpoints, to this machine, and prove every byte of it.

    The same command again goes on where it stopped.

    Examples:

        dragoman download hf://USER/REPO --output my-model

        dragoman download s3://BUCKET/RUN --output newest --checkpoint

        dragoman download USER/REPO --output step-500 --checkpoint 500
    """
    from dragoman.checkpoint import download as downloading
    from dragoman.checkpoint.place import open_run
    from dragoman.store.address import Access

    name = downloading.one_name(checkpoint)
    with output.Display() as echo:
        progress = downloading.Progress(echo)
        log = open_run(url, Access(progress=progress.arrived))
        found = downloading.download(log, into, name, report=reports.passed_over, progress=progress)
    reports.downloaded(found, as_json=json)


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
    reports.exported(done, as_json=json)
