"""Samples drawn again with replacement, the same draws for every curve: all comparisons are paired."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.base import FloatArray
from policies.errors import UsageError
from policies.statistics import Interval

RESAMPLES = 1000
BLOCK_VALUES = 1 << 23


@dataclass(frozen=True)
class Resampling:
    """`resamples` draws of n samples with replacement (Efron 1979). Equal ones draw the same samples.

    Nothing is kept: the counts are drawn again for each set of columns, which costs less than reading them.
    """

    n: int
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.resamples < 0:
            raise UsageError(f"{self.resamples} resamples of {self.n} samples")

    def means(self, columns: npt.NDArray[np.float32]) -> FloatArray:
        """Means of columns (n, M), of the samples as they are and of each draw: (1 + resamples, M).

        In blocks of draws, as one product in single precision each: right to 1e-6 of the largest value.
        """
        if columns.shape[:1] != (self.n,):
            raise UsageError(f"{len(columns)} samples, but a resampling of {self.n}")
        found = np.empty((1 + self.resamples, columns.shape[1]))
        found[0] = columns.mean(axis=0, dtype=np.float64)
        rng, step = np.random.default_rng(self.seed), max(1, BLOCK_VALUES // self.n)
        for start in range(0, self.resamples, step):
            counts = np.empty((min(step, self.resamples - start), self.n), np.float32)
            for drawn in counts:
                drawn[:] = np.bincount(rng.integers(self.n, size=self.n), minlength=self.n)
            found[1 + start : 1 + start + len(counts)] = counts @ columns
        found[1:] /= self.n
        return found


def interval(draws: FloatArray, confidence: float = 0.95) -> Interval:
    """The value of the samples as they are, draws[0], with the percentile interval of the others.

    Without others the interval is the point.
    """
    others = draws[1:] if len(draws) > 1 else draws
    low, high = np.quantile(others, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(draws[0]), float(low), float(high))
