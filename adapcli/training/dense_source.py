"""Folders of pictures with masks or depth maps, to train on: batches, and the splits that judge."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.dataset import FOLDER, Batch, Dataset, open_dataset
from adapcli.data.dense_folder import PairLoader, names_of
from adapcli.data.images import UnreadableImageError
from adapcli.data.pairs import PairEntry, list_pairs
from adapcli.errors import FileError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.schema import Recipe

AHEAD = 2
TRIES = 100

Loaded = tuple[Tensor, Tensor, PairEntry]


class ShuffledPairs:
    """Pairs, every one once an epoch, in an order that depends on (seed, epoch) alone.

    Batch n holds the pairs n * size.. of all epochs put end to end, or `rows` of these. One that cannot be
    read is counted in `skipped`, name to reason, and the next one of the epoch takes its place. Use it as a
    context: threads read `AHEAD` batches before they are asked for.
    """

    def __init__(self, entries: Sequence[PairEntry], load: PairLoader, *, size: int, seed: int) -> None:
        self.entries, self.load, self.size, self.rows = entries, load, size, range(size)
        self.skipped: dict[str, str] = {}
        self._order = lru_cache(maxsize=4)(lambda epoch: _order(len(entries), seed, epoch))
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._waiting: dict[int, list[Future[Loaded]]] = {}
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> "ShuffledPairs":
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, which is harmless
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._quiet.__exit__(kind, error, trace)

    def batch(self, number: int) -> Batch:
        """See loop.Feed. FileError if no pair of a long stretch can be read, or a target is a wrong one."""
        for waiting in [known for known in self._waiting if known < number]:
            del self._waiting[waiting]
        for wanted in range(number, number + AHEAD + 1):
            if wanted not in self._waiting:
                places = (wanted * self.size + row for row in self.rows)
                self._waiting[wanted] = [self._pool.submit(self._at, place) for place in places]
        images, targets, entries = zip(*(f.result() for f in self._waiting.pop(number)), strict=True)
        return Batch(torch.stack(images), torch.stack(targets), [entry.name for entry in entries])

    def _at(self, place: int) -> Loaded:
        """The pair at a place of all epochs, or the first that can be read after it."""
        epoch, first = divmod(place, len(self.entries))
        order = self._order(epoch)
        for index in range(first, first + min(TRIES, len(order))):
            entry = self.entries[order[index % len(order)]]
            try:
                return *self.load(entry), entry
            except UnreadableImageError as error:
                self.skipped[entry.name] = str(error)
        raise FileError(
            f"{entry.path}: {self.skipped[entry.name]}", f"nor could those before it: {len(self.skipped)}"
        )


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


class PairedPictures:
    """A folder of pairs with a part to train on; see `pairs` for its layouts.

    Classes are those that the folder tells, or `classes` of them, or as many as its training masks hold.
    """

    def __init__(
        self, root: Path, task: Task, classes: int | None = None, depth_scale: float | None = None
    ) -> None:
        self.root, self.task, self.depth_scale = root, task, depth_scale
        self.pairs = list_pairs(root, task, depth_scale)
        entries = self.pairs.catalogue.parts.get("train")
        if not entries:
            raise FileError(f"{root}: nothing to train on", "expected parts train, val and test")
        self._entries = [entry for entry in entries if isinstance(entry, PairEntry)]
        known = [str(number) for number in range(classes)] if classes else None
        self.class_names = names_of(
            self.pairs, task, None if self.pairs.class_names else known, self._entries
        )
        looked_at = self._entries[:: len(self._entries) // 32 + 1]
        self.channels = 1 if all(map(_is_grey, looked_at)) else 3
        self.samples: int | None = len(self._entries)
        self.fingerprint = _names_and_marks(self._entries, repr(self.pairs.coding))

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source. The whole of the shorter side is seen: a dense task is not one of the middle."""
        known = Preprocessing.published(size, channels)
        return Preprocessing(size, size, known.mean, known.std)

    def feed(self, recipe: Recipe, preprocessing: Preprocessing) -> ShuffledPairs:
        """See Source."""
        load = PairLoader(self.task, preprocessing, self.pairs.coding, len(self.class_names) or None)
        return ShuffledPairs(self._entries, load, size=recipe.batch, seed=recipe.seed)

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return open_dataset(
            f"{FOLDER}{self.root}",
            split=name,
            preprocessing=preprocessing,
            limit=size,
            class_names=self.class_names,
            task=self.task,
            depth_scale=self.depth_scale,
        )


def _is_grey(entry: PairEntry) -> bool:
    try:
        return entry.is_grey()
    except UnreadableImageError:
        return True  # it says nothing, and is skipped when it is read


def _names_and_marks(entries: Sequence[PairEntry], coding: str) -> str:
    """Cheap enough for large folders, whose content is read once an epoch anyway."""
    digest = hashlib.sha256(coding.encode())
    for entry in entries:
        digest.update(f"{entry.name} {entry.mark()}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:16]
