"""The two scripts of the guide: its flags and its expectations, in front of `dragoman train` and `dragoman download`.

The guide never names the repository when it trains, and always the same one afterwards:
USER/fine-tuned-nllb-600M. So that is where a run goes that names no store. The guide also
scales up, from two pairs to five, under that one name: then the finished run with the
fewer pairs is moved aside as it is, and said to be.
"""

from collections.abc import Sequence
from typing import Any

from cyclopts import CycloptsError

from dragoman import host
from dragoman.cli import output, settings
from dragoman.cli.app import refuse, run, speak_utf8
from dragoman.cli.grammar import app
from dragoman.config import RunConfig
from dragoman.errors import DragomanError, InputError

MODEL_NAME = "--model-name"
"""The guide's own name of an option, in one of its spellings."""
SPACE = "SPACE_ID"
"""The variable by which a process knows that it is in a Space: of one Space only one container is meant to run."""


def train(words: Sequence[str]) -> int:
    """`train_nllb_hf_spaces.py`: `dragoman train`, with the guide's repository where no store is named.

    Args:
        words: Of the command line; what is not the guide's own goes to `dragoman train` as it is.

    Returns:
        The exit code.
    """
    speak_utf8()
    ours = as_train(words)
    try:
        return run([*ours, *added(ours[1:])])
    except DragomanError as error:
        return refuse(error)


def download(words: Sequence[str]) -> int:
    """`download_finetuned_model.py`: `dragoman download`, with the repository behind `--model_name`.

    Args:
        words: Of the command line; all others go to `dragoman download` as they are.

    Returns:
        The exit code.
    """
    speak_utf8()
    try:
        return run(as_download(words))
    except InputError as error:
        return refuse(error)


def as_train(words: Sequence[str]) -> list[str]:
    """The words of `dragoman train` that mean the same, before anything is added."""
    return ["train", *(_renamed(word) for word in words)]


def as_download(words: Sequence[str]) -> list[str]:
    """The words of `dragoman download` that mean the same.

    Raises:
        InputError: They name no model.
    """
    parts = [part for word in words for part in _parts(word)]
    if {"--help", "-h"} & set(parts):
        return ["download", *parts]
    at = next((i for i, part in enumerate(parts) if part.replace("_", "-") == MODEL_NAME), None)
    if at is None or at + 1 == len(parts):
        raise InputError("--model_name is missing: which model?", "--model_name YOUR_USERNAME/fine-tuned-nllb-600M")
    return ["download", parts[at + 1], *parts[:at], *parts[at + 2 :]]


def _renamed(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"{'--model' if name.replace('_', '-') == MODEL_NAME else name}{equals}{value}"


def _parts(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if equals and name.replace("_", "-") == MODEL_NAME else [word]


def added(words: Sequence[str]) -> list[str]:
    """What is said for the user: the repository, and that a machine which is started anew does not wait.

    Raises:
        InputError: Options or token are wrong.
        StoreUnavailable: The Hub cannot be asked.
    """
    try:
        _, bound, *_ = app.parse_args(["train", *words], exit_on_error=False, print_error=False)
    except CycloptsError:
        return []  # `dragoman train` says it
    given: dict[str, Any] = bound.arguments
    options: RunConfig = given.get("options", RunConfig())
    if bound.signature.parameters.keys().isdisjoint({"options"}):
        return []  # --help
    resumes = options.store.resume_from_checkpoint is not None
    added = ["--take-over"] if resumes or host.options(SPACE) else []
    if resumes or (config := settings.load(options, given.get("config"))).store.url:
        return added
    repo = _repository(config)
    output.say(f"checkpoints go to https://huggingface.co/{repo}  (--hub_model_id names another repository)")
    return [*added, "--hub-model-id", repo]


def _repository(config: RunConfig) -> str:
    """USER/fine-tuned-nllb-600M, free for this run.

    Raises:
        InputError: There is no token, or it may not write.
        StoreUnavailable: The Hub cannot be asked.
    """
    from dragoman.store.hub_access import Tokens, check_identity
    from dragoman.store.hub_repos import owner, usual_name
    from dragoman.store.outcome import NEW_TOKEN

    if Tokens().choose() is None:
        raise InputError(
            "HF_TOKEN is missing: checkpoints go to the Hub, which is all that outlives a Space", NEW_TOKEN
        )
    who = owner()
    repo = f"{who['name']}/{usual_name(config.model.model)}"
    check_identity(who, repo)
    _move_aside_if_done(repo, config)
    return repo


def _move_aside_if_done(repo: str, config: RunConfig) -> None:
    """Give another finished run in the repository a name of its own; one that is not finished is refused later."""
    from dragoman.checkpoint.log import RunLog
    from dragoman.config import differences
    from dragoman.store import hub_repos
    from dragoman.store.address import HUB, Access, open_store
    from dragoman.training.durable import stored_settings
    from dragoman.training.pinning import like

    host.be_gentle()
    from dragoman.training import session

    session.check(config)  # what is wrong with the options is said before anything is moved
    log = RunLog(open_store(f"{HUB}{repo}", Access()))
    if log.finished is None or log.finished.outcome != "done":
        return
    before = stored_settings(log)
    if not differences(before, like(config, before)):
        return
    pairs = "-".join(before.data.language_pairs)
    aside = hub_repos.move_aside(repo, hub_repos.plain(f"{repo.partition('/')[2]}-{pairs}"))
    output.say(f"{repo} held a finished run of {' '.join(before.data.language_pairs)}: it is {aside} from now on")
