"""The verbs that look: at a run, a model, a machine, the languages and the options."""

from typing import Annotated, Literal

from cyclopts import App, Group, Parameter
from cyclopts.types import PositiveInt

from dragoman.cli import output, reports, settings
from dragoman.cli.grammar import LOOK, RUNS, AsJson, Beams, ConfigFile, Device, Options, PairFlag, app, epilogue, verb
from dragoman.config import RunConfig
from dragoman.errors import ExitCode, InputError


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
    inline_tags: Annotated[
        Literal["strip", "keep"], Parameter(help="Tags in segments of TMX and XLIFF, as they were in training.")
    ] = "strip",
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
        compared = compare.compare(model, pair, data, base, num_beams, max_samples, device, inline_tags)
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
    query: Annotated[str, Parameter(help="A tag, code or part of a name.")] = "",
    /,
    *,
    model: Annotated[
        str | None, Parameter(help="Those of this run folder, model folder or Hub id, which may have been taught more.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List NLLB's 202 languages, or those that match QUERY.

    With --json QUERY is one tag, and the answer says which code it means.

    Examples:

        dragoman languages portu

        dragoman languages zh --json

        dragoman languages tyv --model runs/demo
    """
    from dragoman import languages as known

    also: tuple[str, ...] = ()
    if model:
        from dragoman.deploy.directions import new_codes

        also = new_codes(model)
    if not json:
        rows = known.search(query, also)
        if not rows:
            raise InputError(f"no language of NLLB matches {query!r}", "dragoman languages lists all of them")
        for code, name in rows:
            output.data(f"{code}\t{name}")
        return
    if not query:
        output.print_json([{"code": code, "name": name} for code, name in known.search("", also)])
        return
    found = known.lookup(query, also)
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
