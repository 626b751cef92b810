"""Training samples by the number of their batch: always the same ones, whatever was asked for before."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.dataset import Batch, Dataset
from adapcli.data.images import UnreadableImageError, formats, read_image
from adapcli.data.listing import Entry
from adapcli.data.transforms import picture_mode, preprocess
from adapcli.errors import FileError
from adapcli.model.preprocessing import Preprocessing

AHEAD = 2
TRIES = 100


class Endless:
    """A data set whose samples never repeat (`digits`): batch n is its n-th stretch, or `rows` of that."""

    def __init__(self, data: Dataset, size: int) -> None:
        self.data, self.size, self.rows = data, size, range(size)
        self.skipped: dict[str, str] = {}

    def batch(self, number: int) -> Batch:
        """See loop.Feed."""
        first = number * self.size
        return self.data.batch(first + self.rows.start, first + self.rows.stop)


class _Loaded(NamedTuple):
    image: Tensor
    entry: Entry


class Shuffled:
    """Pictures of a folder, every one once an epoch, in an order that depends on (seed, epoch) alone.

    Batch n holds the pictures n * size.. of all epochs put end to end, or `rows` of these. A picture that
    cannot be read is counted in `skipped`, path to reason, and the next one of the epoch that can takes its
    place, so a batch depends on the files alone. Use it as a context: threads read `AHEAD` batches before
    they are asked for.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        labels: dict[str, int],
        preprocessing: Preprocessing,
        *,
        size: int,
        seed: int,
    ) -> None:
        self.entries, self.labels, self.preprocessing = entries, labels, preprocessing
        self.size, self.mode = size, picture_mode(len(preprocessing.mean))
        self.rows = range(size)
        self.skipped: dict[str, str] = {}
        self._order = lru_cache(maxsize=4)(lambda epoch: _order(len(entries), seed, epoch))
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._waiting: dict[int, list[Future[_Loaded]]] = {}
        self._quiet = warnings.catch_warnings()

    def __enter__(self) -> "Shuffled":
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, which is harmless
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._quiet.__exit__(kind, error, trace)

    def batch(self, number: int) -> Batch:
        """See loop.Feed. FileError if no picture of a long stretch can be read."""
        for waiting in [known for known in self._waiting if known < number]:
            del self._waiting[waiting]
        for wanted in range(number, number + AHEAD + 1):
            if wanted not in self._waiting:
                places = (wanted * self.size + row for row in self.rows)
                self._waiting[wanted] = [self._pool.submit(self._at, place) for place in places]
        loaded = [future.result() for future in self._waiting.pop(number)]
        targets = torch.tensor([self.labels[picture.entry.label] for picture in loaded])
        images = torch.stack([picture.image for picture in loaded])
        return Batch(images, targets, [picture.entry.name for picture in loaded])

    def _at(self, place: int) -> _Loaded:
        """The picture at a place of all epochs, or the first that can be read after it."""
        epoch, first = divmod(place, len(self.entries))
        order = self._order(epoch)
        for index in range(first, first + min(TRIES, len(order))):
            entry = self.entries[order[index % len(order)]]
            try:
                return _Loaded(preprocess(read_image(entry.path, self.mode), self.preprocessing), entry)
            except UnreadableImageError as error:
                self.skipped[entry.name] = str(error)
        raise FileError(
            f"{entry.path}: {self.skipped[entry.name]}", f"nor could those before it: {len(self.skipped)}"
        )


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def channels_of(entries: Sequence[Entry], sample: int = 32) -> int:
    """1 if all of the first pictures are grey, else 3. FileError if none of them can be read."""
    from PIL import Image

    found: set[bool] = set()
    for entry in entries[:: max(1, len(entries) // sample)]:
        try:
            with Image.open(entry.path, formats=formats()) as image:
                found.add(image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16"))
        except Exception:  # whatever a damaged file makes Pillow raise: it is skipped when it is read, too
            continue
    if not found:
        raise FileError(f"{Path(entries[0].path).parent}: none of {sample} pictures can be read")
    return 1 if found == {True} else 3
