"""Many samples under way at once, each on its own path, every step with as full a batch as there is.

Samples that go the same way next wait for each other, new ones are admitted while too few do, and those that
are done leave: late stages run full batches although most samples never reach them. A sample's answer is that
of the sample alone (to rounding), whatever its batch-mates.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import Generic

import numpy as np
import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.inference.answers import Images, Indices, Piece, portions
from adapcli.inference.waiting import N, Part, Waiting
from adapcli.model.perceiver import AdaPerceiver

IN_FLIGHT_BYTES = 1 << 30
"""What samples under way may hold by default, beside the weights."""


class Run(ABC, Generic[N]):
    """The loop that every executor shares. Iterating runs it, and yields each Piece as soon as it is known.

    An executor says what happens to images admitted (`admit`) and to samples that waited (`advance`); both
    put the samples that go on into `waiting` and yield the answers of those that are done.
    """

    def __init__(
        self, model: AdaPerceiver, x: Images, *, batch: int, max_in_flight: int | None, sample_bytes: int
    ) -> None:
        """sample_bytes: what a sample under way holds; by default as many are as fit IN_FLIGHT_BYTES."""
        if max_in_flight is not None and max_in_flight < 1:
            raise UsageError(f"max_in_flight {max_in_flight}: expected 1 or more")
        self.model = model
        self.limit = max_in_flight or max(batch, IN_FLIGHT_BYTES // sample_bytes)
        self.waiting: Waiting[N] = Waiting(min(batch, self.limit))
        self._portions = portions(x, self.waiting.batch)

    @abstractmethod
    def admit(self, x: Tensor, index: Indices) -> Iterator[Piece]:
        """Begin with images (n, channels, height, width), on the model's device; their places (n,)."""

    @abstractmethod
    def advance(self, key: Hashable, part: Part[N]) -> Iterator[Piece]:
        """One step for samples that waited under `key`."""

    def __iter__(self) -> Iterator[Piece]:
        admitted, more = 0, True
        while True:
            key = self.waiting.full()
            if key is None and more and len(self.waiting) + self.waiting.batch <= self.limit:
                x = next(self._portions, None)
                more = x is not None
                if x is not None:
                    x = x.to(self.model.device, non_blocking=True)
                    yield from self._step(self.admit(x, np.arange(admitted, admitted + len(x))))
                    admitted += len(x)
                continue
            if key is None:
                key = self.waiting.fullest() if more else self.waiting.hindmost()
            if key is None:
                return
            yield from self._step(self.advance(key, self.waiting.take(key)))

    def _step(self, pieces: Iterator[Piece]) -> list[Piece]:
        """Run a step without gradients; the caller of the stream keeps the mode it is in."""
        with torch.no_grad():
            return list(pieces)
