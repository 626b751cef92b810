"""What a network sees of a readout: the environment (training) and the kept policy (use) share it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.anytime.lattice import Lattice
from policies.base import split_rows
from policies.encoding import CLIP
from policies.errors import UsageError
from policies.table import OutcomeTable

PLACE_NODES = 8

Singles = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sight:
    """mean, per_unit (K, S): of each signal at each of K configurations; place (K, P): where they are.

    A signal that never varies has per_unit 0. A place is told by hat functions along each axis, one per
    level and 8 at most: with a single number per axis less is learned (measured on the packaged digits: 0.91
    against 0.96 of the gain of backward induction).
    """

    mean: Singles
    per_unit: Singles
    place: Singles

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.per_unit.shape:
            raise UsageError(f"means of shape {self.mean.shape} and scales of {self.per_unit.shape}")
        if self.place.ndim != 2 or len(self.place) != len(self.mean):
            raise UsageError(f"{len(self.place)} places for {len(self.mean)} configurations")
        if not all(np.isfinite(values).all() for values in (self.mean, self.per_unit, self.place)):
            raise UsageError("means, scales and places must be finite")

    @classmethod
    def fit(cls, table: OutcomeTable, lattice: Lattice) -> "Sight":
        """Of all configurations of a table, from its fit split."""
        rows = split_rows(table, "fit")
        shape = (table.n_configs, len(table.signal_names))
        mean, per_unit = np.empty(shape, np.float32), np.zeros(shape, np.float32)
        for at in range(table.n_configs):
            values = np.asarray(table.signals[rows, at], dtype=np.float64)
            mean[at], spread = values.mean(axis=0), values.std(axis=0)
            varies = spread > 1e-6 * np.abs(values).max(axis=0, initial=1e-30)
            per_unit[at][varies] = 1 / spread[varies]
        return cls(mean, per_unit, places(lattice.level))

    def take(self, configurations: IntArray) -> "Sight":
        """Of some of the configurations, in the order given."""
        return Sight(self.mean[configurations], self.per_unit[configurations], self.place[configurations])

    @property
    def size(self) -> int:
        """Numbers that are seen: 2 S + 1 + P + 1."""
        return 2 * int(self.mean.shape[1]) + int(self.place.shape[1]) + 2

    def __call__(
        self, at: IntArray, signals: Singles, change: Singles, later: Singles, cost: Singles
    ) -> Singles:
        """at (n,): which of the K; signals, change (n, S), raw; later (n,): 1 after a first readout, else 0;
        cost (n,): as a share of the full one -> (n, size) within [-10, 10]."""
        n_signals = self.mean.shape[1]
        seen = np.empty((len(at), self.size), np.float32)
        unit = self.per_unit.take(at, axis=0)
        np.multiply(signals - self.mean.take(at, axis=0), unit, out=seen[:, :n_signals])
        np.multiply(change, unit, out=seen[:, n_signals : 2 * n_signals])
        seen[:, 2 * n_signals] = later
        seen[:, 2 * n_signals + 1 : -1] = self.place.take(at, axis=0)
        seen[:, -1] = cost
        return np.clip(seen, -CLIP, CLIP, out=seen)


def places(level: npt.NDArray[np.float64]) -> Singles:
    """Hat functions of levels (K, axes) from 0 to 1, (K, P): per axis as many as it has levels, 8 at most."""
    found = [np.zeros((len(level), 0))]
    for along in level.T:
        nodes = min(len(np.unique(along)), PLACE_NODES)
        found.append(np.maximum(0.0, 1.0 - np.abs(along[:, None] * (nodes - 1) - np.arange(nodes))))
    return np.concatenate(found, axis=1).astype(np.float32)
