"""The verbs that train: each translates words into a configuration and calls one function."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dragoman import host
from dragoman.cli import output, reports, settings
from dragoman.cli.grammar import TRAIN, AsJson, ConfigFile, Options, app, verb
from dragoman.config import RunConfig
from dragoman.errors import ExitCode, InputError, RankLost
from dragoman.host import cluster


@verb(app, TRAIN)
def prepare(
    *,
    shard: Annotated[
        str | None,
        Parameter(help="Prepare only this machine's part, i/n, such as `1/4`; needs an --output of its own."),
    ] = None,
    merge: Annotated[
        list[Path], Parameter(help="Outputs of all machines that prepared parts: make the whole corpus of them.")
    ] = [],  # noqa: B006  cyclopts never changes it
    dump: Annotated[
        Path | None,
        Parameter(help="Only write every pair as it is read, before any cleaning, to this JSONL file; needs no model."),
    ] = None,
    options: Options = RunConfig(),
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Read, clean, split and encode the data of a run, and show what became of every row.

    One that was interrupted goes on where it was. With --shard several machines share the work: each gets the same
    options and files, and --merge makes of their outputs what one machine alone would have made, byte for byte.

    Examples:

        dragoman prepare --language-pairs en-fr --data en-fr=pairs.tsv --model scratch:tiny

        dragoman prepare -c run.yaml --json

        dragoman prepare -c run.yaml --shard 1/4 --output parts/1

        dragoman prepare -c run.yaml --merge parts/1 parts/2 parts/3 parts/4

        dragoman prepare --language-pairs en-fr --data memory.tmx --dump pairs.jsonl
    """
    from dragoman.training import prepared

    if shard is not None and merge:
        raise InputError("--shard and --merge: one makes a part, the other the whole", "one after the other")
    if dump is not None and (shard is not None or merge):
        raise InputError("--dump reads the data and prepares nothing", "leave --shard and --merge out")
    loaded = settings.load(options, config)
    if dump is not None:
        reports.dumped(prepared.dump(loaded, dump), dump, as_json=json)
    elif shard is not None:
        with output.preparing_shown() as echo:
            part = prepared.prepare_part(loaded, shard, echo)
        reports.prepared_part(part, as_json=json)
    else:
        with output.preparing_shown() as echo:
            report = prepared.prepare(loaded, merge, echo)
        reports.prepared(report, as_json=json)


@verb(app, TRAIN)
def train(*, options: Options = RunConfig(), config: ConfigFile = None) -> ExitCode:
    """Train until the last step, the deadline or a signal; continue by itself.

    Examples:

        dragoman train --language-pairs en-fr en-de --data gettext:django,wagtail --model scratch:tiny

        dragoman train --language_pairs en-fr --data en-fr=pairs.tsv --max_samples 20000 --epochs 3 --batch_size 4

        dragoman train -c run.yaml --max-hours 2
    """
    if (place := cluster.rank()) and place.number:
        return _follow(place)
    loaded = settings.load(options, config)
    if (resumed := loaded.store.resume_from_checkpoint) is None:
        return _train(loaded)
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

    Of the options below these may be new: --max-hours --deadline --platform --save-steps --save-minutes --keep
    --log-steps --single-writer --gradient-checkpointing --store --hub-model-id --public --store-data --lease-minutes
    --drain-minutes --snapshot --upload-megabytes --commits-per-hour --prepare-processes --devices --nodes --node-rank
    --main-address --parallel --offload --max-restarts.
    The others make another run, and are refused when they differ. --output says where a run from a store goes.

    Examples:

        dragoman resume runs/en-fr-nllb-200-distilled-600M

        dragoman resume hf://USER/fine-tuned-nllb-600M --max-hours 1

        dragoman resume s3://BUCKET/RUN --output runs/here
    """
    from dragoman.checkpoint.run_folder import stored_config

    if (place := cluster.rank()) and place.number:
        return _follow(place)
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
    from dragoman.checkpoint.stored import stored_settings
    from dragoman.store.address import FILE, named, normal, open_store

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


@verb(app, TRAIN)
def space(
    *,
    port: Annotated[int, Parameter(help="Port of the page; 0 for any that is free.")] = 7860,
    bind: Annotated[str, Parameter(help="Address that the page listens on; 0.0.0.0 in a container.")] = "127.0.0.1",
    page_minutes: Annotated[
        float, Parameter(help="Minutes for which the page says why training stopped, before the machine is released.")
    ] = 10.0,
    options: Options = RunConfig(),
    config: ConfigFile = None,
) -> ExitCode:
    """Train in a container: with a page, started again after a crash, and released in the end so that nobody pays.

    It takes the words of `train`, and a run.yaml beside it. It is what the image of a Docker Space runs, and serves on
    Hugging Face Jobs, RunPod, vast.ai and Lambda too. After a restart with an empty disk it goes on from the store,
    which in a Space is the model repository of its name when none is given. What a person must change is shown; five
    ends in a row without one more safe step are enough.

    Examples:

        dragoman space -c run.yaml --store hf://USER/REPO

        dragoman space --language-pairs en-fr --hub-model-id USER/fine-tuned-nllb-600M --bind 0.0.0.0
    """
    from dragoman.launch.container.voice import Signals

    signals = Signals()
    from dragoman.launch.container import entry

    beside = Path("run.yaml")
    file = config or (beside if beside.exists() else None)
    said = options.machine.platform or host.variable("DRAGOMAN_PLATFORM")
    code = entry.run(
        lambda: settings.load(options, file),
        signals,
        said or host.platform_name(),
        bind=bind,
        port=port,
        page_minutes=page_minutes,
        shown=lambda port: output.say(f"the page is at http://{bind}:{port}/"),
    )
    return ExitCode(code)


def _noted(config: RunConfig) -> Callable[[str, int], None]:
    """Writes into the run's journal that a rank was lost; on the machine that has one."""
    from dragoman.checkpoint.run_folder import JOURNAL, run_folder
    from dragoman.journal import Journal, RanksLost

    def note(reason: str, restart: int) -> None:
        path = run_folder(config) / JOURNAL
        if path.exists():
            event = RanksLost(reason=reason, restart=restart, max_restarts=config.ranks.max_restarts)
            Journal(path).append(event)

    return note


def _follow(place: cluster.Rank) -> ExitCode:
    """The part of every rank but the first; what goes wrong is said by that one, or by who started both."""
    host.be_gentle()
    from dragoman.training import following

    try:
        return following.run(place)
    except RankLost as error:
        if host.variable(cluster.STARTER) is None:  # else our starter says it, once
            output.say(f"rank {place.number}: {error.message}")
        return ExitCode.RANK_LOST


def _train(config: RunConfig) -> ExitCode:
    host.be_gentle()
    from dragoman.training import crew

    if crew.is_needed(config):
        return ExitCode(crew.run(sys.argv[1:], config, output.say, _noted(config)))
    from dragoman.training import loop

    with output.Display() as echo:
        ending = loop.run(config, echo)
    reports.ending(ending)
    return ending.exit_code
