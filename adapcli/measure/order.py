"""Where fewer FLOPs are not less time: the order by one against the order by the other."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from policies.table import OutcomeTable
from policies.table.latency import Condition, measured


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
    cost, median, low, high = (
        np.asarray(values, np.float64) for values in (flops, median_ms, q25_ms, q75_ms)
    )
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
    return float(pd.Series(first).rank().corr(pd.Series(second).rank()))


@dataclass(frozen=True)
class Comparison:
    """FLOPs against latency under one condition, among some configurations of a table.

    order: its positions count `among`, rows of the table. overall: rank correlation of all `measured`.
    """

    condition: Condition
    among: tuple[int, ...]
    flops: tuple[float, ...]
    median_ms: tuple[float, ...]
    order: Order
    measured: int
    overall: float | None

    def warning(self, name: Callable[[int], str]) -> str:
        """What a reader of FLOPs must know; empty where both orders agree within the noise.

        name: what a row of the table is called.
        """
        if self.order.worst is None:
            return ""
        few, many = self.order.worst
        share = self.flops[few] / self.flops[many]
        slow, fast = self.median_ms[few], self.median_ms[many]
        text = (
            f"FLOPs and latency disagree ({self.condition}): in {self.order.reversed} of "
            f"{self.order.compared} pairs of front configurations the one with fewer FLOPs is measurably "
            f"slower, most of all {name(self.among[few])} with {share:.2f} of the FLOPs of "
            f"{name(self.among[many])} and {self.order.ratio:.2f} times its latency "
            f"({slow:.3g} against {fast:.3g} ms)"
        )
        if self.overall is not None:
            text += f"; rank correlation over {self.measured} configurations {self.overall:.2f}"
        return text


def compare(table: OutcomeTable, condition: Condition, among: Iterable[int]) -> Comparison:
    """Compare FLOPs and latency of the rows `among` that were measured under `condition`."""
    assert table.latency is not None
    found = measured(table.latency, condition)
    wanted = set(among)
    kept = np.array([position for position, row in enumerate(found.index) if int(row) in wanted], np.intp)
    flops = table.cost_flops[found.index]
    few = order(flops[kept], found.median_ms[kept], found.q25_ms[kept], found.q75_ms[kept])
    return Comparison(
        condition,
        tuple(found.index[kept].tolist()),
        tuple(flops[kept].tolist()),
        tuple(found.median_ms[kept].tolist()),
        few,
        len(found.index),
        rank_correlation(flops, found.median_ms),
    )
