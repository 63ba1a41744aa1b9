"""The ranks of a session: the first one runs the run and tells the others what to do next.

Whatever all ranks compute together begins with an order of the first one, so no two of
them can wait for different things. With the order travel the words of the others: a
signal that one of them received is known to the first before the next step. Orders are
small texts over TCP; tensors go through torch.distributed's groups.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dragoman import host
from dragoman.errors import InputError, RankLost
from dragoman.host import cluster
from dragoman.host.cluster import Rank
from dragoman.model.pieces import Peers
from dragoman.training import watch
from dragoman.training.watch import Watch

MEETING = timedelta(minutes=5)
"""How long the ranks of a session may take to find one another."""
STUCK = timedelta(minutes=10)
"""How long one exchange of gradients may take; a rank that is gone is noticed sooner (`watch.py`)."""
ANY_TIME = timedelta(days=30)
"""Between two orders: the first rank may prepare data for hours."""
ORDER_BYTES = 1024
CHUNK_BYTES = 64 << 20
"""Of a file that is sent, at a time."""

Order = dict[str, Any]


@dataclass
class Ranks:
    """This process among the ranks of its session."""

    place: Rank
    peers: Peers
    watch: Watch
    at_loss: list[Callable[[str], None]] = field(default_factory=list[Callable[[str], None]])
    """What this process does before it leaves because one is lost; given what happened."""
    said: str = ""
    """What another rank wants to stop for; empty while none does."""
    _words: Any = field(default=None, repr=False)
    """The group that orders go through."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that gives orders."""
        return self.place.number == 0

    def order(self, do: str, **facts: Any) -> None:
        """Tell the other ranks what comes next, and learn whether one of them wants to stop.

        Raises:
            RankLost: One is gone.
        """
        told = self._exchanged({"do": do, **facts})
        self.said = next((word["stop"] for word in told[1:] if word["stop"]), self.said)

    def hear(self, stop: str = "") -> Order:
        """What the first rank wants done next.

        Args:
            stop: Why this rank wants to stop; empty to go on.

        Raises:
            RankLost: One is gone.
        """
        return self._exchanged({"stop": stop})[0]

    def tell(self, text: str | None = None) -> str:
        """A text of any length, from the first rank, which gives it, to the others, which do not.

        Raises:
            RankLost: One is gone.
        """
        with lost_ranks():
            encoded = (text or "").encode()
            size = torch.tensor([len(encoded)])
            dist.broadcast(size, 0, group=self._words)
            data = torch.zeros(int(size), dtype=torch.uint8)
            if text is not None:
                data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8) if encoded else data
            if len(data):
                dist.broadcast(data, 0, group=self._words)
            return bytes(data.numpy()).decode()

    def ask(self, answer: bool) -> list[bool]:
        """A yes or no of every rank, by number; all of them ask."""
        with lost_ranks():
            all_ = [torch.zeros(1, dtype=torch.long) for _ in range(self.place.count)]
            dist.all_gather(all_, torch.tensor([int(answer)]), group=self._words)
            return [bool(each) for each in all_]

    def shared(self, stored: Mapping[str, Tensor] | None) -> "Shared":
        """Tensors that the first rank reads and all get; every rank asks for the same ones in the same order."""
        return Shared(self, stored)

    def spread_file(self, path: Path, num_bytes: int, receives: bool) -> None:
        """Send a file of the first rank to the others, some of which write it.

        Args:
            path: The same on all ranks.
            num_bytes: Its size.
            receives: Whether this rank writes it.
        """
        with path.open("rb" if self.is_first else "wb") if self.is_first or receives else open_nothing() as file:
            for start in range(0, num_bytes, CHUNK_BYTES):
                size = min(CHUNK_BYTES, num_bytes - start)
                data = torch.zeros(size, dtype=torch.uint8)
                if self.is_first:
                    data = torch.frombuffer(bytearray(file.read(size)), dtype=torch.uint8)
                with lost_ranks():
                    dist.broadcast(data, 0, group=self._words)
                if receives:
                    written: Any = data.numpy()
                    file.write(memoryview(written))

    def _exchanged(self, word: Order) -> list[Order]:
        encoded = json.dumps(word).encode()
        assert len(encoded) <= ORDER_BYTES, "longer ones go through `tell`"
        mine = torch.frombuffer(bytearray(encoded.ljust(ORDER_BYTES)), dtype=torch.uint8)
        all_ = [torch.empty_like(mine) for _ in range(self.place.count)]
        with lost_ranks():
            dist.all_gather(all_, mine, group=self._words)
        return [json.loads(bytes(each.numpy())) for each in all_]


@contextmanager
def open_nothing() -> Iterator[Any]:
    """In place of a file that this rank has no use for."""
    yield None


class Shared(Mapping[str, Tensor]):
    """Tensors by name that the first rank has; each is sent to all when it is asked for."""

    def __init__(self, ranks: Ranks, stored: Mapping[str, Tensor] | None) -> None:
        self._ranks, self._stored = ranks, stored
        self._names: list[str] = json.loads(ranks.tell(json.dumps(list(stored)) if stored is not None else None))

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of this name, on the device."""
        ranks, device = self._ranks, self._ranks.peers.device
        tensor = self._stored[name] if self._stored is not None else None
        if tensor is not None:
            ranks.tell(json.dumps([list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]))
            tensor = tensor.to(device)
        else:
            shape, dtype = json.loads(ranks.tell())
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        with lost_ranks():
            dist.broadcast(tensor, 0)
        return tensor

    def __iter__(self) -> Iterator[str]:
        """All names, in the order of the first rank."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)


@contextmanager
def lost_ranks() -> Iterator[None]:
    """Give what torch raises when another rank is gone its name."""
    try:
        yield
    except RuntimeError as error:
        if is_loss(error):
            raise RankLost(words_of_loss(error), "nothing: the run goes on from its newest checkpoint") from None
        raise


def is_loss(error: RuntimeError) -> bool:
    """Whether an exchange between ranks failed, as it does when one of them is gone."""
    signs = ("gloo", "NCCL", "Connection reset", "Connection closed", "Broken pipe", "Timed out waiting", "TCPStore")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def words_of_loss(error: RuntimeError) -> str:
    """What to tell of it."""
    first = next((line for line in str(error).splitlines() if line.strip()), "no reason")
    return f"another rank of this session was lost ({first.strip()[:160]})"


@contextmanager
def joined(place: Rank, config: str | None, leave: Callable[[str], None]) -> Iterator[tuple[Ranks, str]]:
    """Meet the other ranks; left with all of this process's connections closed.

    Args:
        place: Which rank this is.
        config: The run's configuration as the first rank has it; None on the others.
        leave: Called from a thread when a rank is gone, with what happened; ends this process.

    Yields:
        The ranks, and the configuration.

    Raises:
        InputError: The others do not come, or there are fewer GPUs than ranks.
    """
    cluster.know_meeting_place()
    try:
        store = _met(place)
        if config is not None:
            store.set("config", config)
        told: str = store.get("config").decode()
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise RankLost(f"rank {place.number} did not find the others in {MEETING} ({first[:160]})") from None
    at_loss: list[Callable[[str], None]] = []

    def leave_at_last(why: str) -> None:
        for each in at_loss:
            each(why)
        leave(why)

    with lost_ranks():
        # Before the groups: a rank that is lost while they come to be would be waited for as for a slow one.
        watching = Watch.begun(place, store, leave_at_last)
    try:
        kind = _device(place, told)
        words, saving = _groups(place, store, kind)
        yield Ranks(place, Peers(place.number, place.count, kind, saving), watching, at_loss, _words=words), told
    finally:
        watching.end()
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()
        # With NCCL that could wait for a rank that is gone; the process ends anyway.


def _groups(place: Rank, store: Any, kind: torch.device) -> tuple[Any, Any]:
    """Connect all ranks for tensors of the device, for orders, and for checkpoints; the last two are returned.

    Raises:
        RankLost: One is gone.
    """
    with lost_ranks():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if kind.type == "cuda" else "gloo",
            store=dist.PrefixStore("ranks", store),
            rank=place.number,
            world_size=place.count,
            timeout=STUCK,
        )
        return dist.new_group(backend="gloo", timeout=ANY_TIME), dist.new_group(backend="gloo", timeout=ANY_TIME)


def _met(place: Rank) -> Any:
    """The store in which all ranks meet: torchrun's, or one of the first rank."""
    if host.variable("TORCHELASTIC_USE_AGENT_STORE") == "True":
        from torch.distributed.rendezvous import rendezvous

        return next(iter(rendezvous("env://", place.number, place.count, timeout=MEETING)))[0]
    port = int(host.variable("MASTER_PORT") or 0)
    return watch.server(port, MEETING) if place.number == 0 else watch.client(port, MEETING)


def _device(place: Rank, config: str) -> torch.device:
    """The device of this rank; chosen before anything of CUDA starts."""
    import yaml

    asked = yaml.safe_load(config).get("device", "auto")
    if asked == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if place.local_number >= torch.cuda.device_count():
        have = torch.cuda.device_count()
        raise InputError(
            f"--devices: rank {place.number} needs GPU {place.local_number}, and there are {have}", "fewer"
        )
    torch.cuda.set_device(place.local_number)
    return torch.device("cuda", place.local_number)
