"""The verbs. Each translates words into a configuration and calls one function.

Nothing heavy is imported before a verb runs, so that `--help` answers at once.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.types import PositiveInt
from pydantic import ValidationError

from dragoman import __version__
from dragoman.cli import output, reports, settings
from dragoman.cli.grammar import (
    LOOK,
    RUNS,
    TRAIN,
    USE,
    AsJson,
    Beams,
    ConfigFile,
    Device,
    OnePair,
    Options,
    PairFlag,
    app,
    epilogue,
    verb,
)
from dragoman.config import RunConfig
from dragoman.errors import DragomanError, ExitCode, InputError


@verb(app, TRAIN)
def prepare(*, options: Options = RunConfig(), config: ConfigFile = None, json: AsJson = False) -> None:
    """Read, clean, split and encode the data of a run, and show what became of every row.

    Examples:

        dragoman prepare --language-pairs en-fr --data en-fr=pairs.tsv --model scratch:tiny

        dragoman prepare -c run.yaml --json
    """
    from dragoman.training import prepared

    reports.prepared(prepared.prepare(settings.load(options, config)), as_json=json)


@verb(app, TRAIN)
def train(*, options: Options = RunConfig(), config: ConfigFile = None) -> ExitCode:
    """Train until the last step, the deadline or a signal; continue by itself.

    Examples:

        dragoman train --language-pairs en-fr en-de --data gettext:django,wagtail --model scratch:tiny

        dragoman train --language_pairs en-fr --data en-fr=pairs.tsv --max_samples 20000 --epochs 3 --batch_size 4

        dragoman train -c run.yaml --max-hours 2
    """
    if (resumed := options.store.resume_from_checkpoint) is None:
        return _train(settings.load(options, config))
    return _train(_from_store(resumed, options, config, take_over=False))


@verb(app, TRAIN)
def resume(
    run: Annotated[str, Parameter(help="Folder of the run, URL of its store, or USER/REPO on the Hub.")],
    /,
    *,
    options: Options = RunConfig(),
) -> ExitCode:
    """Continue a run, in its folder or on an empty machine, with the settings that it was started with.

    It does not wait for another machine that may still train it: that one stops.

    Of the options below these may be new: --max-hours --save-steps --save-minutes --keep --log-steps
    --single-writer --store --hub-model-id --public --store-data --lease-minutes --drain-minutes
    --upload-megabytes --commits-per-hour.
    The others make another run, and are refused when they differ. --output says where a run from a store goes.

    Examples:

        dragoman resume runs/en-fr-nllb-200-distilled-600M

        dragoman resume hf://USER/fine-tuned-nllb-600M --max-hours 1

        dragoman resume s3://BUCKET/RUN --output runs/here
    """
    from dragoman.checkpoint.run_folder import stored_config

    folder = Path(run).expanduser()
    stored = stored_config(folder)
    if stored is None:
        return _train(_from_store(run, options, None, take_over=True))
    if options.save.output:
        raise InputError(f"--output: {run} is continued where it is", f"dragoman resume {run}, without --output")
    config = settings.load(options, stored=stored)
    here = config.save.model_copy(update={"output": folder, "resume": "must"})
    there = config.store.model_copy(update={"take_over": True})
    return _train(config.model_copy(update={"save": here, "store": there}))


def _from_store(place: str, options: RunConfig, config_file: Path | None, take_over: bool) -> RunConfig:
    """The settings of the run in a store, to be continued on this machine."""
    from dragoman.checkpoint.log import RunLog
    from dragoman.checkpoint.replicate import access
    from dragoman.store.address import FILE, named, normal, open_store
    from dragoman.training.durable import stored_settings

    url = named(place)
    if url.startswith(FILE) and not Path(url.removeprefix(FILE)).is_dir():
        raise InputError(f"{place}: there is no run here", "the --output folder of a run, or the URL of its store")
    if options.store.url and normal(options.store.url) != url:
        raise InputError(f"--store {options.store.url} is another store than {url}", "name one of them")
    stored = stored_settings(RunLog(open_store(url, access(options))))
    config = settings.load(options, config_file, stored=stored)
    here = config.save.model_copy(update={"resume": "must"})
    there = config.store.model_copy(
        update={"store": url, "hub_model_id": None, "take_over": take_over or config.store.take_over}
    )
    return config.model_copy(update={"save": here, "store": there})


@verb(app, TRAIN)
def replicate(
    run: Annotated[Path, Parameter(help="Folder of the run: its --output.")],
    /,
    *,
    options: Options = RunConfig(),
    beside_trainer: Annotated[bool, Parameter(show=False)] = False,
    owner: Annotated[str, Parameter(show=False)] = "",
) -> ExitCode:
    """Copy the checkpoints in folder RUN to its durable store, until all are there and nobody trains.

    `train` starts this by itself when the run has a store.

    Examples:

        dragoman replicate runs/demo --store hf://USER/REPO

        dragoman replicate runs/demo --store /mnt/disk/demo --take-over
    """
    from dragoman.checkpoint.replicate import replicate as copy
    from dragoman.checkpoint.run_folder import stored_config

    stored = stored_config(run)
    if stored is None:
        raise InputError(f"{run}: there is no run here", "the --output folder of a run")
    config = settings.load(options, stored=stored)
    if beside_trainer:
        ended = copy(run, config, owner=owner, follows=True)
    else:
        with output.Display() as echo:
            ended = copy(run, config, say=output.waiting, echo=echo)
    if ended.exit_code != ExitCode.DONE:
        output.error(ended.message, ended.hint)
    return ExitCode(ended.exit_code)


def _train(config: RunConfig) -> ExitCode:
    from dragoman import host

    host.be_gentle()
    from dragoman.training import loop

    with output.Display() as echo:
        ending = loop.run(config, echo)
    reports.ending(ending)
    return ending.exit_code


@verb(app, LOOK)
def status(
    run: Annotated[
        str | None,
        Parameter(
            help="Folder of the run, URL of its store, or USER/REPO on the Hub; left out: the newest below runs/."
        ),
    ] = None,
    /,
    *,
    json: AsJson = False,
) -> None:
    """Show what a run is doing and what is safe, from its folder or, on any machine, from its durable store.

    A folder is read without a network: what its store holds is what the copying last said.

    Examples:

        dragoman status

        dragoman status runs/demo --json

        dragoman status hf://USER/REPO
    """
    from dragoman.checkpoint import status as reading

    reports.status(reading.status(run or reading.newest_run(RUNS)), as_json=json)


@verb(app, LOOK)
def evaluate(
    model: Annotated[str, Parameter(help="A run folder, a model folder, or a Hub id.")],
    /,
    *,
    pair: PairFlag = [],  # noqa: B006  cyclopts never changes it
    data: Annotated[list[str], Parameter(help="Test pairs; left out: the held-out test split of the run MODEL.")] = [],  # noqa: B006
    base: Annotated[str | None, Parameter(help="Compare with this model; left out: what the run started from.")] = None,
    num_beams: Beams = 4,
    max_samples: Annotated[PositiveInt | None, Parameter(help="Score at most this many pairs per direction.")] = None,
    require: Annotated[float | None, Parameter(help="Exit 4 when the mean chrF++ is lower.")] = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Score a model with chrF++ and BLEU, beside its base and the source copied as it is.

    Examples:

        dragoman evaluate runs/demo

        dragoman evaluate USER/MODEL --pair en-fr --data test.tsv --base facebook/nllb-200-distilled-600M
    """
    from dragoman.deploy import compare

    with settings.without_run_options():
        compared = compare.compare(model, pair, data, base, num_beams, max_samples, device)
    reports.comparison(compared, as_json=json)
    compare.require(compared, require)


@verb(app, LOOK)
def doctor(
    run: Annotated[
        str | None, Parameter(help="Folder of a run, URL of its store, or USER/REPO; left out: a run that begins.")
    ] = None,
    /,
    *,
    options: Options = RunConfig(),
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Try store, token, disks, memory and GPU for a run, before days of work depend on them.

    It takes the words of `train`. What it writes to the store, a megabyte, it removes again. Exit 4 when there is a
    problem; a warning is none.

    Examples:

        dragoman doctor --store hf://USER/REPO

        dragoman doctor --store s3://BUCKET/RUN --model facebook/nllb-200-1.3B --json

        dragoman doctor runs/demo
    """
    from dragoman import host

    host.be_gentle()
    from dragoman.checkpoint.doctor import refuse_problems
    from dragoman.deploy import doctor as examining

    patient = examining.find(run)
    checks = examining.examine(patient, settings.load(options, config, stored=patient.stored))
    refuse_problems(reports.checks(checks, as_json=json))


@verb(app, LOOK)
def languages(
    query: Annotated[str, Parameter(help="A tag, code or part of a name.")] = "", /, *, json: AsJson = False
) -> None:
    """List NLLB's 202 languages, or those that match QUERY.

    With --json QUERY is one tag, and the answer says which code it means.

    Examples:

        dragoman languages portu

        dragoman languages zh --json
    """
    from dragoman import languages as known

    if not json:
        rows = known.search(query)
        if not rows:
            raise InputError(f"no language of NLLB matches {query!r}", "dragoman languages lists all of them")
        for code, name in rows:
            output.data(f"{code}\t{name}")
        return
    if not query:
        output.print_json([{"code": code, "name": name} for code, name in known.search("")])
        return
    found = known.lookup(query)
    output.print_json(found)
    if found["code"] is None:
        raise SystemExit(ExitCode.BAD_INPUT)


config_app = App(
    name="config",
    help="Show or check the options of a run.",
    group=LOOK,
    sort_key=len(list(app)),
    group_commands=Group("Commands"),
    help_epilogue=epilogue(["dragoman config show > run.yaml", "dragoman config check -c run.yaml"]),
)
app.command(config_app)


@verb(config_app)
def show(
    *,
    options: Options = RunConfig(),
    config: ConfigFile = None,
    variables: Annotated[bool, Parameter(help="Print the names of the environment variables instead.")] = False,
) -> None:
    """Print all options as a run file, after file, environment and flags.

    Examples:

        dragoman config show --language-pairs en-fr > run.yaml

        dragoman config show --variables
    """
    if variables:
        for name in settings.variables():
            output.data(name)
        return
    output.data(settings.load(options, config).to_yaml().rstrip())


@verb(config_app)
def check(*, options: Options = RunConfig(), config: ConfigFile = None) -> None:
    """Check options, languages, data paths and device without reading data or writing anything.

    Examples:

        dragoman config check -c run.yaml
    """
    from dragoman.training import inputs, session

    checked = settings.load(options, config)
    folder = session.check(checked)
    inputs.check(checked)
    output.say(f"the options are fine; the run folder is {folder}")


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
    from dragoman.languages import parse_pair

    with settings.without_run_options():
        direction = parse_pair(pair)
    lines = settings.lines(text, input)
    from dragoman.checkpoint.status import newest_run

    model = model or str(newest_run(RUNS))
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


def run(words: Sequence[str]) -> int:
    """Run one command; every mistake of the user becomes one message and its exit code."""
    try:
        result: Any = app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
        return int(result) if isinstance(result, ExitCode) else ExitCode.DONE
    except CycloptsError as error:
        return _refuse(_in_words(error))
    except DragomanError as error:
        return _refuse(error)
    except SystemExit as error:
        return int(error.code or 0)
    except KeyboardInterrupt:
        output.say("interrupted")
        return 130
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            return _refuse(
                InputError(f"{error.filename}: {error.strerror}", "another path, or more rights or space there")
            )
        traceback.print_exc()
        output.error(f"this is a bug in dragoman {__version__}", "report it, with all lines above")
        return ExitCode.BUG


def _refuse(error: DragomanError) -> int:
    output.error(error.message, error.hint)
    return error.exit_code


def _broken_pipe() -> int:
    # Whoever read our lines has gone; Python would complain once more while closing stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


def _in_words(error: CycloptsError) -> InputError:
    """cyclopts' complaint with our hint; pydantic's in our own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            return settings.in_words(cause)
        cause = cause.__cause__ or cause.__context__
    return settings.usage_error(str(error))


def main() -> NoReturn:
    """The `dragoman` command."""
    # As what we read: a terminal in another encoding would lose most of NLLB's languages. File names may be any bytes.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(run(sys.argv[1:]))
