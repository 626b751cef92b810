"""Samples of a sweep, read by other processes before they are asked for."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from adapcli.data.dataset import Batch, Dataset
from adapcli.data.workers import ahead


class Cut(NamedTuple):
    """Samples low..high-1 of a split."""

    split: str
    low: int
    high: int


def cuts(splits: dict[str, Dataset], start: int, stop: int, size: int) -> Iterator[Cut]:
    """Rows start..stop-1 of all splits, one after the other, at most `size` at once; none crosses a split."""
    first = 0
    for split, data in splits.items():
        begin, end = max(start - first, 0), min(stop - first, len(data))
        for low in range(begin, end, size):
            yield Cut(split, low, min(low + size, end))
        first += len(data)


@dataclass(frozen=True)
class Read:
    """Reads a cut; can be sent to another process."""

    splits: dict[str, Dataset]

    def __call__(self, cut: Cut) -> Batch:
        """The samples."""
        return self.splits[cut.split].batch(cut.low, cut.high)


class Reading:
    """Ranges of rows that `workers` processes read, some batches further than they are asked for.

    `ranges` is advanced as they need more, so it may be shared with others that work on the same rows.
    """

    def __init__(
        self, splits: dict[str, Dataset], ranges: Iterable[tuple[int, int]], size: int, workers: int
    ) -> None:
        self.splits, self.size = splits, size
        self._ranges: deque[tuple[int, int]] = deque()
        self._cuts: deque[Cut] = deque()
        self._results = ahead(Read(splits), self._planned(ranges), workers)
        self._found: deque[Batch] = deque()

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The ranges, each once all samples of the one before were taken."""
        while True:
            if not self._ranges:  # whoever reads has not come to the next
                self._wait()
            if not self._ranges:
                return
            yield self._ranges.popleft()

    def take(self, cut: Cut) -> Batch | None:
        """The samples of a cut, if it is the next that was planned."""
        if not self._cuts:
            self._wait()
        if not self._cuts or self._cuts[0] != cut:
            return None
        if not self._found:
            self._wait()
        self._cuts.popleft()
        return self._found.popleft()

    def close(self) -> None:
        """End the processes."""
        self._results.close()

    def _wait(self) -> None:
        """For the next samples, if there are any; what is asked for first may only be known then."""
        self._found.extend(itertools.islice(self._results, 1))

    def _planned(self, ranges: Iterable[tuple[int, int]]) -> Iterator[Cut]:
        for start, stop in ranges:
            self._ranges.append((start, stop))
            for cut in cuts(self.splits, start, stop, self.size):
                self._cuts.append(cut)
                yield cut
