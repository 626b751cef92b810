"""What a network sees of a readout: the environment (training) and the kept policy (use) share it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.anytime.lattice import Lattice
from policies.base import split_rows
from policies.encoding import CLIP
from policies.errors import UsageError
from policies.table import OutcomeTable

Singles = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sight:
    """mean, per_unit (K, S): of each signal at each of K configurations; level (K, axes): their place.

    A signal that never varies has per_unit 0.
    """

    mean: Singles
    per_unit: Singles
    level: Singles

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.per_unit.shape:
            raise UsageError(f"means of shape {self.mean.shape} and scales of {self.per_unit.shape}")
        if self.level.ndim != 2 or len(self.level) != len(self.mean):
            raise UsageError(f"{len(self.level)} places for {len(self.mean)} configurations")
        if not all(np.isfinite(values).all() for values in (self.mean, self.per_unit, self.level)):
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
        return cls(mean, per_unit, lattice.level.astype(np.float32))

    def take(self, configurations: IntArray) -> "Sight":
        """Of some of the configurations, in the order given."""
        return Sight(self.mean[configurations], self.per_unit[configurations], self.level[configurations])

    @property
    def size(self) -> int:
        """Numbers that are seen: 2 S + 1 + axes + 1."""
        return 2 * int(self.mean.shape[1]) + int(self.level.shape[1]) + 2

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
        seen[:, 2 * n_signals + 1 : -1] = self.level.take(at, axis=0)
        seen[:, -1] = cost
        return np.clip(seen, -CLIP, CLIP, out=seen)
