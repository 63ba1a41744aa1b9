"""Several ranks: how many, what lies between them, and how long they take to add their gradients.

Bandwidths are those of `platforms/facts.yaml`, as makers and vendors give them; which share
of them is reached nobody says, so a fast and a slow assumption are reckoned with
(`speed.FAST`, `speed.SLOW`). What travels is counted from the code.
"""

from dataclasses import dataclass

from dragoman import platforms
from dragoman.config import RunConfig
from dragoman.model import resident
from dragoman.model.regime import Regime
from dragoman.model.sizes import Sizes
from dragoman.platforms import Link, Offer, Platform

_FLOAT, _HALF = 4, 2
BUCKET_BYTES = 25 << 20
"""Of gradients that DDP sends together."""
FETCHES = 2
"""Of a layer in a microbatch under FSDP2: for its forward pass and for its backward pass."""


@dataclass(frozen=True)
class Team:
    """The ranks of a session."""

    ranks: int = 1
    link: Link | None = None
    """The slowest between two of them; None for one alone, or where it does not count."""


ALONE = Team()


@dataclass(frozen=True)
class Traffic:
    """What each rank sends in a step, and receives as much."""

    beside: float
    """Bytes that travel while it computes, as far as that lasts."""
    after: float
    """Bytes that travel when it has computed."""
    exchanges: float
    """How many there are, each of which has to begin."""


def team_of(config: RunConfig, platform: Platform, offer: Offer) -> Team:
    """The ranks of a run on such a machine, or on `--nodes` of them."""
    per_machine, nodes = config.ranks.devices or offer.num_gpus, config.ranks.nodes
    if nodes > 1:
        return Team(per_machine * nodes, platforms.links()[platform.network or platforms.NETWORK])
    return Team(per_machine, platforms.link_of(offer)) if per_machine > 1 else ALONE


def traffic(sizes: Sizes, regime: Regime, passes: int, ranks: int) -> Traffic:
    """What a step sends: a ring adds in 2 (N - 1) / N of the bytes, and gathers or scatters in half of that.

    Args:
        sizes: The model.
        regime: How the ranks hold it.
        passes: Microbatches of a rank.
        ranks: N.
    """
    if ranks == 1:
        return Traffic(0, 0, 0)
    ring = (ranks - 1) / ranks
    is_lora = regime.adapter == "lora"
    trained = resident.trained_parameters(sizes, regime)
    embedding = 0 if is_lora else regime.rows(sizes) * sizes.width  # its gradient is added by hand
    if regime.shards == 1:
        layers = _FLOAT * (trained - embedding)
        return Traffic(2 * ring * layers, 2 * ring * _FLOAT * embedding, 1 + layers / BUCKET_BYTES)
    divided = resident.divided_parameters(sizes)
    fetched = FETCHES * (_HALF if regime.is_half else _FLOAT) * divided
    given_out = 0 if is_lora else _FLOAT * divided
    whole = trained if is_lora else embedding + sizes.norm_parameters
    num_layers = sizes.encoder_layers + sizes.decoder_layers
    exchanges = 1 + passes * num_layers * (FETCHES + (not is_lora))
    return Traffic(ring * passes * (fetched + given_out), 2 * ring * _FLOAT * whole, exchanges)
