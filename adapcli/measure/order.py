"""Where fewer FLOPs are not less time: the order by one against the order by the other."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Order:
    """How well FLOPs predict latency among n configurations measured together.

    compared: pairs with different FLOPs; reversed: those of them in which the one with fewer FLOPs is
    measurably slower, that is, its lower quartile lies above the other's upper quartile: a difference within
    the noise is none. worst: positions (fewer FLOPs, more FLOPs) of the reversed pair with the largest ratio
    of medians, `ratio`; None if there is none. rank_correlation: Spearman's; None if it has no value.
    """

    compared: int
    reversed: int
    worst: tuple[int, int] | None
    ratio: float
    rank_correlation: float | None


def order(flops: ArrayLike, median_ms: ArrayLike, q25_ms: ArrayLike, q75_ms: ArrayLike) -> Order:
    """Compare all pairs of configurations; everything (n,)."""
    cost, median, low, high = (np.asarray(values, np.float64) for values in (flops, median_ms, q25_ms, q75_ms))
    fewer = cost[:, None] < cost[None, :]
    slower = fewer & (low[:, None] > high[None, :])
    ratio = np.where(slower, median[:, None] / median[None, :], 0.0)
    worst = None
    if slower.any():
        first, second = np.unravel_index(int(ratio.argmax()), ratio.shape)
        worst = (int(first), int(second))
    largest = float(ratio.max(initial=0.0))
    return Order(int(fewer.sum()), int(slower.sum()), worst, largest, rank_correlation(cost, median))


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's correlation, ties at their mean rank; None where one of them does not vary."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])
