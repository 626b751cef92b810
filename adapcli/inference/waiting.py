"""Samples under way, grouped by where they are and where they go next, so that steps run full batches."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.inference.answers import Indices, on
from adapcli.inference.session import AnytimeSession


class Notes(Protocol):
    """What is known of n samples under way."""

    def take(self, rows: Indices) -> Self:
        """Of some of them."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Of all samples of all parts, in order."""


N = TypeVar("N", bound=Notes)


@dataclass(frozen=True)
class Part(Generic[N]):
    """Samples at one point: `rows` (n,) of a session, their places in the stream (n,), and notes on them."""

    session: AnytimeSession
    rows: Indices
    index: Indices
    notes: N

    @classmethod
    def whole(cls, session: AnytimeSession, index: Indices, notes: N) -> "Part[N]":
        """All samples of a session."""
        return cls(session, np.arange(len(session)), index, notes)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Indices) -> "Part[N]":
        """Some of its samples. The session is shared, and made smaller only once half of it is not needed."""
        chosen = Part(self.session, self.rows[rows], self.index[rows], self.notes.take(rows))
        return gather([chosen]) if 2 * len(chosen) <= len(self.session) else chosen


def gather(parts: Sequence[Part[N]]) -> Part[N]:
    """All samples of all parts in one session; copied once, or not at all if they are one whole session."""
    index = np.concatenate([part.index for part in parts])
    session = AnytimeSession.gather([(part.session, _rows(part)) for part in parts])
    notes = parts[0].notes if len(parts) == 1 else type(parts[0].notes).join([part.notes for part in parts])
    return Part.whole(session, index, notes)


class Waiting(Generic[N]):
    """Parts by key: all samples of a key are at the same point and do the same next."""

    def __init__(self, batch: int) -> None:
        """`batch`: how many samples a step takes at most. UsageError below 1."""
        if batch < 1:
            raise UsageError(f"batch {batch}: expected 1 or more")
        self.batch = batch
        self._parts: dict[Hashable, list[Part[N]]] = {}
        self._ranks: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return sum(map(self._size, self._parts))

    def put(self, key: Hashable, part: Part[N], rank: float) -> None:
        """Let samples wait. rank: how far they are; the same for all of a key."""
        if len(part):
            self._parts.setdefault(key, []).append(part)
            self._ranks[key] = rank

    def full(self) -> Hashable | None:
        """The key furthest on of those with a whole batch."""
        ready = [key for key in self._parts if self._size(key) >= self.batch]
        return max(ready, key=self._ranks.__getitem__, default=None)

    def fullest(self) -> Hashable | None:
        """The key with the most samples; of equals the furthest on."""
        return max(self._parts, key=lambda key: (self._size(key), self._ranks[key]), default=None)

    def hindmost(self) -> Hashable | None:
        """The key least far on: what runs then joins others further on."""
        return min(self._parts, key=self._ranks.__getitem__, default=None)

    def take(self, key: Hashable) -> Part[N]:
        """At most a batch of a key's samples, those first that came first."""
        parts, taken, missing = self._parts.pop(key), [], self.batch
        while parts and missing:
            part = parts.pop(0)
            if len(part) > missing:
                parts.insert(0, part.take(np.arange(missing, len(part))))
                part = part.take(np.arange(missing))
            taken.append(part)
            missing -= len(part)
        if parts:
            self._parts[key] = parts
        return gather(taken)

    def _size(self, key: Hashable) -> int:
        return sum(map(len, self._parts[key]))


def _rows(part: Part[N]) -> Tensor | None:
    whole = np.array_equal(part.rows, np.arange(len(part.session)))
    return None if whole else on(part.rows, part.session.model.device)
