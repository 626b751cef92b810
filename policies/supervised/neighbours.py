"""Nearest neighbours as a predictor: prototypes among the standardised features, and their outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.errors import UsageError

CHUNK = 1024

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Predicts the mean outcome of the `k` nearest of P prototypes.

    prototypes: (P, F); outcomes: (P, K); weights: (P,), how many samples each prototype stands for.
    """

    prototypes: Singles
    outcomes: Singles
    weights: Singles
    k: int

    def __post_init__(self) -> None:
        count = len(self.prototypes)
        if self.prototypes.ndim != 2 or self.outcomes.ndim != 2 or self.weights.shape != (count,):
            raise UsageError(f"prototypes {self.prototypes.shape} with weights {self.weights.shape}")
        if len(self.outcomes) != count or not 1 <= self.k <= count:
            raise UsageError(f"{self.k} neighbours of {count} prototypes with {len(self.outcomes)} outcomes")
        if not all(np.isfinite(part).all() for part in (self.prototypes, self.outcomes)):
            raise UsageError("prototypes are not finite")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise UsageError("a prototype stands for one sample or more")

    @classmethod
    def fit(cls, features: Singles, outcomes: npt.NDArray[Any], *, prototypes: int, seed: int) -> Self:
        """From features (n, F) and outcomes (n, K): up to `prototypes` samples, drawn at random.

        Each stands for the samples nearest to it, itself among them, with their mean outcome; with as many
        prototypes as samples these are plain nearest neighbours.
        """
        n = len(features)
        kept = np.sort(np.random.default_rng(seed).choice(n, min(prototypes, n), replace=False))
        home = _assigned(features, features[kept])
        home[kept] = np.arange(len(kept))
        weights = np.bincount(home, minlength=len(kept))
        order = np.argsort(home, kind="stable")
        starts = np.r_[0, np.cumsum(weights)[:-1]]
        sums = np.add.reduceat(np.asarray(outcomes, np.float64)[order], starts, axis=0)
        means = sums / weights[:, None]
        return cls(features[kept], means.astype(np.float32), weights.astype(np.float32), 1)

    @property
    def inputs(self) -> int:
        """Size of the input."""
        return int(self.prototypes.shape[1])

    @property
    def outputs(self) -> int:
        """Size of the output."""
        return int(self.outcomes.shape[1])

    @property
    def flops(self) -> int:
        """FLOPs per sample.

        Distances as |p|^2 - 2 x p (2 F + 1 per prototype, the norms being known), one comparison per
        prototype, which no selection can do with fewer, and a weighted mean of k outcomes.
        """
        count, size = self.prototypes.shape
        return int(count * (2 * size + 2) + 2 * self.k * self.outputs + self.outputs)

    def __call__(self, x: npt.NDArray[Any]) -> Floats:
        """Predictions (n, K) for standardised features (n, F)."""
        predicted = np.empty((len(x), self.outputs))
        weighted = self.outcomes.astype(np.float64) * self.weights[:, None]
        for start in range(0, len(x), CHUNK):
            near = self._near(_distances(x[start : start + CHUNK], self.prototypes))
            predicted[start : start + CHUNK] = (near @ weighted) / (near @ self.weights)[:, None]
        return predicted

    def _near(self, distances: Floats) -> Floats:
        """1 for the k nearest, else 0, (n, P)."""
        if self.k == distances.shape[1]:
            return np.ones_like(distances)
        nearest = np.argpartition(distances, self.k - 1, axis=1)[:, : self.k]
        near = np.zeros_like(distances)
        np.put_along_axis(near, nearest, 1.0, axis=1)
        return near

    def take(self, columns: Indices) -> "Neighbours":
        """The same for some of the outcomes."""
        return replace(self, outcomes=self.outcomes[:, columns])

    def parameters(self) -> dict[str, Any]:
        """For JSON."""
        return {"neighbours": self.k}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """For safetensors."""
        return {"prototypes": self.prototypes, "outcomes": self.outcomes, "weights": self.weights}

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """From what `parameters` and `arrays` gave. KeyError, UsageError."""
        prototypes, outcomes, weights = (
            arrays[name].astype(np.float32) for name in ("prototypes", "outcomes", "weights")
        )
        return cls(prototypes, outcomes, weights, int(parameters["neighbours"]))


def _distances(x: npt.NDArray[Any], prototypes: Singles) -> Floats:
    """Squared distances (n, P), less |x|^2; in float64, so that its batch does not change a sample's."""
    points = prototypes.astype(np.float64)
    return np.asarray((points**2).sum(axis=1) - 2 * (np.asarray(x, np.float64) @ points.T), np.float64)


def _assigned(x: Singles, prototypes: Singles) -> Indices:
    """The nearest prototype of each sample, (n,)."""
    parts = [_distances(x[i : i + CHUNK], prototypes).argmin(axis=1) for i in range(0, len(x), CHUNK)]
    return np.concatenate(parts)
