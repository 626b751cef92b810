"""Reading ahead in other processes: the same results in the same order, however many there are.

torch's DataLoader starts the processes, each with one thread, by the platform's usual way or another.
"""

import itertools
import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from adapcli.errors import AdapError

T = TypeVar("T")
K = TypeVar("K")

MOST_WORKERS = 256
AHEAD = 2
"""Results that every process has ready, at most."""


def ahead(
    load: Callable[[K], T], keys: Iterable[K], workers: int, *, context: str | None = None
) -> Generator[T, None, None]:
    """`load` of every key, in order, by `workers` processes that read ahead; by this one alone if 0.

    What `load` gives must depend on the key alone. An AdapError that it raises is raised here, when its turn
    comes. Closing the generator ends the processes. context: how they are started, such as "spawn", for which
    `load` must be picklable. AdapError if one of them is killed.
    """
    if not workers:
        yield from map(load, keys)
        return
    found = iter(_loader(load, keys, workers, context))
    try:
        for result in _told(found):
            if isinstance(result, _Failed):
                raise result.error
            yield result
    finally:
        del found


class ReadAhead(Generic[T]):
    """`load` of numbers that are mostly asked for one after another; any other starts anew from there."""

    def __init__(self, load: Callable[[int], T], workers: int, *, context: str | None = None) -> None:
        self.load, self.workers, self.context = load, workers, context
        self._results: Generator[T, None, None] | None = None
        self._next = -1

    def get(self, number: int) -> T:
        """`load(number)`; AdapError as `ahead`."""
        if self._results is None or number != self._next:
            self.close()
            self._results = ahead(self.load, itertools.count(number), self.workers, context=self.context)
        self._next = number + 1
        return next(self._results)

    def close(self) -> None:
        """End the processes."""
        if self._results is not None:
            self._results.close()
        self._results = None


@dataclass(frozen=True)
class _Failed:
    """What went wrong in another process, for this one to raise: torch would make a page of text of it."""

    error: AdapError


class _Loads(Dataset[Any]):
    def __init__(self, load: Callable[[Any], Any]) -> None:
        self.load = load

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.load(key)
        except AdapError as error:
            return _Failed(error)


class _Keys:
    """An iterable without a length: torch would ask for it."""

    def __init__(self, keys: Iterable[Any]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


def _loader(
    load: Callable[[Any], Any], keys: Iterable[Any], workers: int, context: str | None
) -> Iterable[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than processors
        return iter(
            DataLoader(
                _Loads(load),
                batch_size=None,
                sampler=_Keys(keys),
                num_workers=workers,
                collate_fn=_as_it_is,
                worker_init_fn=_leave_interrupts,
                prefetch_factor=AHEAD,
                multiprocessing_context=context,
                generator=torch.Generator(),  # else the seed of its processes comes from the global one
            )
        )


def _told(found: Iterator[Any]) -> Iterator[Any]:
    """The same, where the end of a process is one line."""
    while True:
        try:
            yield next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).splitlines()[0][:160]
            raise AdapError(
                f"a process that reads data has ended: {reason}",
                "too little memory, or shared memory (/dev/shm)? fewer --workers need less",
            ) from error


def _as_it_is(result: Any) -> Any:
    return result


def _leave_interrupts(number: int) -> None:
    """Ctrl-C reaches every process of a terminal; what to do about it is up to the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
