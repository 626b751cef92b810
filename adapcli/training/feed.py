"""Training samples by the number of their batch: always the same ones, whatever was asked for before."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.dataset import Batch, Dataset
from adapcli.data.entries import Entry
from adapcli.data.images import DECODING, Decoding, UnreadableImageError, no_warnings
from adapcli.data.transforms import picture_mode, preprocess
from adapcli.data.workers import ReadAhead
from adapcli.errors import FileError
from adapcli.limits import cpus
from adapcli.model.preprocessing import Preprocessing

E = TypeVar("E", bound=Entry)

AHEAD = 2
TRIES = 100
BLOCKS_AT_ONCE = 8
"""Of pictures that are cheaply read by the block, so many blocks are mixed at a time."""
SKIPPED_SHARE, SKIPPED_ALWAYS = 0.05, 10
"""Pictures that may be unreadable before training stops: a share of all, and so many in any case."""


@dataclass(frozen=True)
class Stretch:
    """Batch n of data that never repeat is their n-th stretch of `size` samples, or `rows` of it."""

    data: Dataset
    size: int
    rows: range

    def __call__(self, number: int) -> Batch:
        """See loop.Feed."""
        first = number * self.size
        return self.data.batch(first + self.rows.start, first + self.rows.stop)


class Endless:
    """A data set whose samples never repeat (`digits`): batch n is its n-th stretch, or `rows` of that.

    workers: processes that render ahead; 0: none. Use it as a context if there are some.
    """

    def __init__(self, data: Dataset, size: int, *, workers: int = 0) -> None:
        self.data, self.size, self.workers, self.rows = data, size, workers, range(size)
        self.skipped: dict[str, str] = {}
        self._ahead: ReadAhead[Batch] | None = None

    def __enter__(self) -> "Endless":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def batch(self, number: int) -> Batch:
        """See loop.Feed."""
        if self._ahead is None:
            self._ahead = ReadAhead(Stretch(self.data, self.size, self.rows), self.workers)
        return self._ahead.get(number)


@dataclass(frozen=True)
class Labelled:
    """Reads a picture as a model takes it, with the number of its class."""

    labels: Mapping[str, int]
    preprocessing: Preprocessing
    how: Decoding = DECODING

    def __call__(self, entry: Entry) -> tuple[Tensor, Tensor]:
        """Image (C, size, size), class (). Raises UnreadableImageError."""
        picture = entry.read(picture_mode(len(self.preprocessing.mean)), self.how)
        return preprocess(picture, self.preprocessing), torch.tensor(self.labels[entry.label])


class Loaded(NamedTuple):
    """A picture and its target, its name, and what could not be read before it: names and reasons."""

    image: Tensor
    target: Tensor
    name: str
    skipped: dict[str, str]


@dataclass(frozen=True)
class Pictures(Generic[E]):
    """Every picture once an epoch, in an order that depends on (seed, epoch) alone; can be sent elsewhere."""

    entries: Sequence[E]
    load: Callable[[E], tuple[Tensor, Tensor]]
    seed: int
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    def at(self, place: int) -> Loaded:
        """The picture at a place of all epochs put end to end, or the first that can be read after it."""
        epoch, first = divmod(place, len(self.entries))
        order, skipped = self._order(epoch), dict[str, str]()
        for index in range(first, first + min(TRIES, len(order))):
            entry = self.entries[order[index % len(order)]]
            try:
                return Loaded(*self.load(entry), entry.name, skipped)
            except UnreadableImageError as error:
                skipped[entry.name] = str(error)
        raise FileError(f"{entry.name}: {skipped[entry.name]}", f"nor could those before it: {len(skipped)}")

    def batch(self, loaded: Sequence[Loaded]) -> Batch:
        """Pictures put together."""
        targets = torch.stack([picture.target for picture in loaded])
        images = torch.stack([picture.image for picture in loaded])
        return Batch(images, targets, [picture.name for picture in loaded])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order = self._orders.get(epoch)
        if order is None:
            for old in sorted(self._orders)[:-3]:
                self._orders.pop(old, None)
            order = self._orders[epoch] = _order(self.entries, self.seed, epoch)
        return order


@dataclass(frozen=True)
class Numbered:
    """Batch n of pictures, as a process of its own reads it: with what could not be read."""

    pictures: Pictures[Any]
    size: int
    rows: range

    def places(self, number: int) -> list[int]:
        """Of the pictures of a batch, in all epochs put end to end."""
        return [number * self.size + row for row in self.rows]

    def __call__(self, number: int) -> tuple[Batch, dict[str, str]]:
        """Read it here, one picture after another."""
        with no_warnings():
            loaded = [self.pictures.at(place) for place in self.places(number)]
        return self.pictures.batch(loaded), _skipped(loaded)


class Shuffled(Generic[E]):
    """Pictures, every one once an epoch, in an order that depends on (seed, epoch) alone.

    Batch n holds the pictures n * size.. of all epochs put end to end, or `rows` of these. A picture that
    cannot be read is counted in `skipped`, name to reason, and the next one of the epoch that can takes its
    place, so a batch depends on the files alone; FileError once more than `SKIPPED_SHARE` of all cannot.

    load: of an entry the image and the target, or UnreadableImageError. Use it as a context: `workers`
    processes, or threads of this one if 0, read before they are asked.
    """

    def __init__(
        self,
        entries: Sequence[E],
        load: Callable[[E], tuple[Tensor, Tensor]],
        *,
        size: int,
        seed: int,
        workers: int = 0,
    ) -> None:
        self.pictures = Pictures(entries, load, seed)
        self.size, self.workers, self.rows = size, workers, range(size)
        self.skipped: dict[str, str] = {}
        self._ahead: ReadAhead[tuple[Batch, dict[str, str]]] | None = None
        self._pool = ThreadPoolExecutor(cpus())
        self._waiting: dict[int, list[Future[Loaded]]] = {}
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> "Shuffled[E]":
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, which is harmless
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._pool.shutdown(cancel_futures=True)
        self._quiet.__exit__(kind, error, trace)

    def batch(self, number: int) -> Batch:
        """See loop.Feed. FileError if no picture of a long stretch can be read, or too many cannot."""
        numbered = Numbered(self.pictures, self.size, self.rows)
        if not self.workers:
            loaded = self._in_threads(number, numbered)
            batch, skipped = self.pictures.batch(loaded), _skipped(loaded)
        else:
            self._ahead = self._ahead or ReadAhead(numbered, self.workers)
            batch, skipped = self._ahead.get(number)
        self._count(skipped)
        return batch

    def _in_threads(self, number: int, numbered: Numbered) -> list[Loaded]:
        for waiting in [known for known in self._waiting if known < number]:
            del self._waiting[waiting]
        for wanted in range(number, number + AHEAD + 1):
            if wanted not in self._waiting:
                places = numbered.places(wanted)
                self._waiting[wanted] = [self._pool.submit(self.pictures.at, place) for place in places]
        return [future.result() for future in self._waiting.pop(number)]

    def _count(self, skipped: dict[str, str]) -> None:
        self.skipped |= skipped
        count, all_of_them = len(self.skipped), len(self.pictures.entries)
        if count > max(SKIPPED_ALWAYS, SKIPPED_SHARE * all_of_them):
            raise FileError(
                f"{count} of {all_of_them} pictures cannot be read, more than {SKIPPED_SHARE:.0%}",
                "first: {}: {}".format(*next(iter(self.skipped.items()))),
            )


def _skipped(loaded: Sequence[Loaded]) -> dict[str, str]:
    return {name: reason for picture in loaded for name, reason in picture.skipped.items()}


def _order(entries: Sequence[Entry], seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation; entries of a block stay near one another, among those of a few other blocks."""
    rng = np.random.default_rng([seed, epoch])
    if not entries[0].block:
        return rng.permutation(len(entries))
    _, block = np.unique([entry.block for entry in entries], return_inverse=True)
    turn = rng.permutation(block.max() + 1)[block] // BLOCKS_AT_ONCE
    return np.lexsort((rng.random(len(entries)), turn))


def channels_of(entries: Sequence[Entry], sample: int = 32) -> int:
    """1 if all of the first pictures are grey, else 3. FileError if none of them can be read."""
    found: set[bool] = set()
    with no_warnings():
        for entry in entries[:: max(1, len(entries) // sample)]:
            try:
                found.add(entry.is_grey())
            except UnreadableImageError:  # it is skipped when it is read, too
                continue
    if not found:
        raise FileError(f"{entries[0].name}: nor any other of {sample} pictures can be read")
    return 1 if found == {True} else 3
