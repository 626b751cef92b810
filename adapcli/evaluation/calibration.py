"""Does a model that says 80 % get 80 % right?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapcli.errors import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of confidence, each (bins,): how many samples, their mean confidence and accuracy.

    Empty bins have count 0 and NaN means.
    """

    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, weighted by count."""
        filled = self.count > 0
        gap = np.abs(self.confidence - self.accuracy)[filled]
        return float(np.average(gap, weights=self.count[filled]))


def reliability(confidence: ArrayLike, hit: ArrayLike, *, bins: int = 15) -> Reliability:
    """Bin samples by confidence (N,) in [0, 1]; hit (N,) is 0 or 1 (Guo et al. 2017, section 2).

    A bin holds its upper edge but not its lower one. UsageError for no samples or values out of range.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(hit, np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure) or bins < 1:
        raise UsageError(f"cannot bin {sure.shape} confidences and {right.shape} hits in {bins} bins")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise UsageError("confidence: expected values in [0, 1]")
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, weights=values, minlength=bins) / count for values in (sure, right)]
    return Reliability(count, *means)


def calibration_error(confidence: ArrayLike, hit: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error of confidences (N,) against hits (N,), with equal-width bins."""
    return reliability(confidence, hit, bins=bins).calibration_error
