"""What the processes of a job tell one another.

Tensors go through torch's collectives (gloo between CPUs, NCCL between GPUs), texts and counts through the
store where the processes met; nothing that arrives is ever executed. B samples of a batch of all processes.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from adapcli.distributed.launch import Launch, LostError
from adapcli.errors import UnavailableError, UsageError

MEETING_S = 300
SILENCE_S = 1800
PATIENCE_S = 1.0
"""How long the others are waited for, at the start and later: an evaluation between two exchanges is long."""


@dataclass(eq=False)
class Group:
    """This process among those of its job. `store` is None, and nothing is exchanged, if it is alone.

    What needs all processes must be called by all of them, in the same order.
    """

    launch: Launch = field(default_factory=Launch)
    store: Any = None
    _calls: int = 0

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.launch.size

    @property
    def rank(self) -> int:
        """The number of this one, from 0."""
        return self.launch.rank

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.launch.first

    def rows(self, total: int) -> range:
        """This process's part of `total` samples: each is in one. UsageError if one gets none."""
        if total < self.size:
            raise UsageError(f"batch {total}: {self.size} processes need a sample each", "a larger batch")
        return range(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def device(self, name: str) -> str:
        """Of `auto`, `cpu`, `cuda` or `cuda:N`: the one for this process. UsageError for one GPU for all."""
        if self.size == 1 or name == "cpu":
            return name
        if ":" in name:
            raise UsageError(f"--device {name}: {self.size} processes need a GPU each", "write --device cuda")
        available = torch.cuda.device_count()
        if not available or (name == "auto" and available < self.launch.local_size):
            return "cpu" if name == "auto" else name
        if available < self.launch.local_size:
            raise UnavailableError(f"{self.launch.local_size} processes, but {available} CUDA devices here")
        torch.cuda.set_device(self.launch.local_rank)
        return f"cuda:{self.launch.local_rank}"

    def barrier(self) -> None:
        """Wait until every process is here. LostError if one no longer comes."""
        self.sum(torch.zeros(1))

    def sum(self, values: Tensor) -> Tensor:
        """`values` of all processes added up, in place. LostError if one no longer answers."""
        if self.store is not None:
            with self.exchanging():
                dist.all_reduce(values)
        return values

    def total(self, value: Tensor) -> Tensor:
        """As `sum`, and differentiable: the gradient of a part is that of all processes' losses together."""
        if self.store is None:
            return value
        with self.exchanging():
            found: Tensor = _Total.apply(value)  # type: ignore[no-untyped-call]
            return found

    def largest(self, value: int) -> int:
        """The largest of all processes' values."""
        if self.store is None:
            return value
        found = torch.tensor(value)
        with self.exchanging():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def whole(self, part: Tensor, total: int) -> Tensor:
        """The rows (B, ...) of which every process holds `rows(total)`."""
        if self.store is None:
            return part
        everything = part.new_zeros((total, *part.shape[1:]))
        mine = self.rows(total)
        everything[mine.start : mine.stop] = part
        return self.sum(everything)

    def merged(self, found: Mapping[str, str]) -> dict[str, str]:
        """The texts by name of all processes together."""
        texts = self._texts(json.dumps(dict(found)))
        return {name: text for each in texts for name, text in json.loads(each).items()}

    def agree(self, value: Any, what: str) -> None:
        """UsageError, in every process, unless all give the same `value` for `what`."""
        digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
        found = self._texts(digest)
        others = [rank for rank, other in enumerate(found) if other != found[0]]
        if others:
            raise UsageError(
                f"{what}: not the same in process {_listed(others)} as in process 0",
                "all processes need the same arguments and files",
            )

    def pieces(self, count: int) -> Iterator[int]:
        """Numbers 0..count-1, each given to one process: the one that is free first."""
        taken = self.counter()
        while (number := taken(1) - 1) < count:
            yield number

    def counter(self) -> Callable[[int], int]:
        """A count of all processes together, from 0: it is given an amount to add, and tells the sum."""
        self._calls += 1
        name, alone = f"count {self._calls}", [0]

        def add(amount: int) -> int:
            if self.store is None:
                alone[0] += amount
                return alone[0]
            with self.exchanging():
                return int(self.store.add(name, amount))

        return add

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Turns what torch raises when another process is gone into a LostError that says which."""
        try:
            yield
        except RuntimeError as error:
            if self.store is None or not _is_lost(error):
                raise
            raise self.lost() from error

    def lost(self) -> LostError:
        """Says which process ended, and why if it told."""
        ended = self.ended(patience=5.0)
        who = f"process {_listed(ended)} of {self.size}" if ended else "another process"
        told = next((text for rank in ended if (text := self._read(f"failure {rank}"))), "")
        hint = "the same command with --resume goes on; any number of processes will do"
        return LostError(f"{who} ended: {told or 'was killed'}", hint, explained=bool(told))

    def told(self, message: str) -> bool:
        """Whether another process says this already; if not, this one does. The first is let go first."""
        with suppress(RuntimeError):
            key = f"told {hashlib.sha256(message.encode()).hexdigest()}"
            until = time.monotonic() + (0.0 if self.first else PATIENCE_S)
            while time.monotonic() < until and not self.store.check([key]):
                time.sleep(0.05)
            return bool(self.store.compare_set(key, "", str(self.rank)) != str(self.rank).encode())
        return False

    def fail(self, message: str) -> None:
        """Leave word for the others of why this process ends."""
        with suppress(RuntimeError):
            self.store.set(f"failure {self.rank}", message)

    def introduce(self) -> None:
        """Tell the others where this process lives, so that they notice its end."""
        self.store.set(f"place {self.rank}", f"{os.getpid()} {socket.gethostname()}")

    def _texts(self, own: str) -> list[str]:
        """Every process's text, in order."""
        if self.store is None:
            return [own]
        self._calls += 1
        with self.exchanging():
            self.store.set(f"text {self._calls} {self.rank}", own)
            return [self.store.get(f"text {self._calls} {rank}").decode() for rank in range(self.size)]

    def ended(self, patience: float) -> list[int]:
        """The processes of this machine that are no more, and those of all that told why they fail."""
        until = time.monotonic() + patience
        while not (found := [rank for rank in range(self.size) if self._is_gone(rank)]):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return found

    def _is_gone(self, rank: int) -> bool:
        if rank == self.rank:
            return False
        if self._read(f"failure {rank}"):
            return True
        number, _, host = self._read(f"place {rank}").partition(" ")
        return host == socket.gethostname() and not _lives(int(number))

    def _read(self, name: str) -> str:
        """A text of the store, empty if it is not there or the store is gone."""
        with suppress(RuntimeError):
            return str(self.store.get(name).decode()) if self.store.check([name]) else ""
        return ""


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        found = value.clone()
        dist.all_reduce(found)
        return found

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        found = gradients[0].clone()
        dist.all_reduce(found)
        return found


ALONE = Group()


def meet(launch: Launch) -> Group:
    """The group of all processes of this launch. UnavailableError if they do not find one another."""
    if launch.size == 1:
        return Group(launch)
    try:
        found = rendezvous("env://", timeout=timedelta(seconds=MEETING_S))
        store, rank, size = next(iter(found))
        # torchrun's store outlives those it starts again: what they said before must not be heard.
        store = PrefixStore(f"attempt {launch.restarts}", store)
        dist.init_process_group(
            store=PrefixStore("torch", store),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=SILENCE_S),
        )
    except (RuntimeError, ValueError, OSError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UnavailableError(
            f"process {launch.rank} of {launch.size} cannot meet the others at {place}: {_first_line(error)}",
            "start them all with torchrun; another --master-port if this one is taken",
        ) from error
    group = Group(launch, PrefixStore("adap", store))
    group.introduce()
    group.barrier()
    return group


def _is_lost(error: RuntimeError) -> bool:
    text = str(error)
    told = ("gloo", "NCCL", "onnection", "Broken pipe", "imed out", "timeout", "failed to recv")
    return isinstance(error, dist.DistError) or any(word in text for word in told)


def _lives(process: int) -> bool:
    """Whether a process of this machine runs; one that ended and was not yet buried does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True


def _listed(ranks: list[int]) -> str:
    return " and ".join(map(str, ranks)) if len(ranks) < 3 else ", ".join(map(str, ranks))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
