"""Deciding while a model runs: what an executor shows a policy, and what the policy answers.

A `Chooser` decides before anything runs, from features. A `Stopper` decides after every readout whether to
stop or to go on, and to which configuration. Both work on plain arrays, so that a policy needs no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from policies.grid import Grid

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Looks:
    """What n samples under way have shown.

    signal_names: S names. at (n,): the position in the grid that was just read out; signals (n, S) float32:
    what that readout says about itself; cost_flops (n,): spent so far. before (n,), signals_before (n, S):
    the readout that this path made before, -1 and NaN where this is the first. count (n,): readouts that this
    path made, this one included.
    """

    signal_names: tuple[str, ...]
    at: IntArray
    signals: Singles
    cost_flops: FloatArray
    before: IntArray
    signals_before: Singles
    count: IntArray

    @classmethod
    def first(
        cls, signal_names: Sequence[str], at: int, signals: npt.NDArray[Any], cost_flops: npt.NDArray[Any]
    ) -> Self:
        """Every sample's first readout, at position `at`."""
        values = np.asarray(signals, dtype=np.float32)
        nowhere, unseen = np.full(len(values), -1), np.full_like(values, np.nan)
        here = np.full(len(values), at)
        cost, count = np.asarray(cost_flops, np.float64), np.ones(len(values), np.int64)
        return cls(tuple(signal_names), here, values, cost, nowhere, unseen, count)

    def then(self, at: int, signals: npt.NDArray[Any], cost_flops: npt.NDArray[Any]) -> Self:
        """The same samples after their next readout, at position `at`."""
        values, here = np.asarray(signals, dtype=np.float32), np.full(len(self.at), at)
        cost = np.asarray(cost_flops, np.float64)
        return type(self)(self.signal_names, here, values, cost, self.at, self.signals, self.count + 1)

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """Some of the samples, in the order of `rows` (m,)."""
        return type(self)(
            self.signal_names,
            self.at[rows],
            self.signals[rows],
            self.cost_flops[rows],
            self.before[rows],
            self.signals_before[rows],
            self.count[rows],
        )

    @classmethod
    def join(cls, parts: "Sequence[Looks]") -> "Looks":
        """The samples of all parts, in order; at least one part."""
        columns = ("at", "signals", "cost_flops", "before", "signals_before", "count")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        return Looks(parts[0].signal_names, **joined)

    def signal(self, name: str) -> Singles:
        """One signal of the readout just made, (n,); KeyError without it."""
        if name not in self.signal_names:
            raise KeyError(name)
        return self.signals[:, self.signal_names.index(name)]


@dataclass(frozen=True)
class Verdict:
    """Where each of n samples goes on to, (n,) positions in the grid; its present position means stop.

    slack (n,): how far the deciding signal is from where the verdict would be another; inf if nothing it
    could have been would change it. What runs in other batches differs in the last digits, so decisions of
    hardly any slack may differ too: executors count them.
    """

    go_to: IntArray
    slack: FloatArray


@runtime_checkable
class Stopper(Protocol):
    """Decides after each readout. Each sample on its own: neighbours never change a verdict."""

    @property
    def grid(self) -> "Grid":
        """The configurations it was made for."""

    @property
    def own_flops(self) -> int:
        """FLOPs per sample of its own computation up to the first verdict.

        A stopper may also have `look_flops`: those of each verdict after the first; without it, none.
        """

    def reachable(self) -> tuple[int, ...]:
        """Every position it may visit, in the order in which it may; each sample begins at the first."""

    def verdict(self, looks: Looks) -> Verdict:
        """Stop, or go on to another configuration, for each of the samples."""


@runtime_checkable
class Chooser(Protocol):
    """Decides before the model runs. Each sample on its own."""

    @property
    def grid(self) -> "Grid":
        """The configurations it was made for."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features it needs, in its own order; none if it does not look."""

    @property
    def own_flops(self) -> int:
        """FLOPs of its own computation per sample, without the features."""

    def choose(self, features: npt.NDArray[Any]) -> IntArray:
        """Positions in the grid (n,) for features (n, F) in the order of `feature_names`."""
