"""How many calibration samples a promise needs."""

import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import numpy as np

from policies.base import FloatArray
from policies.guarantee.bounds import NUISANCE_SHARE, Kind
from policies.guarantee.exact import share_at_most, trinomial_p_value

POWER = 0.8
BETTING_PRICE = 2.0
"""Betting needs about this many times the samples of the exact test, measured at 0.5 to 4 % disagreement."""
QUANTILES = 9
STEP = 1.03
ROUGH_ABOVE = 10**6
"""From here on a normal approximation says how many samples it takes."""
LARGEST = 10**9


def needed(
    limit: float,
    loss: float,
    disagreement: float,
    *,
    confidence: float = 0.95,
    kind: Kind = "trinomial",
    power: float = POWER,
) -> int | None:
    """Samples from which a policy with this mean loss is certified with probability `power`, to about 3 %.

    disagreement: the share of samples that lose or gain (for graded losses their mean square). None if no
    number suffices: the loss is not below the limit, or there would have to be more than 10^9.
    """
    if loss >= limit:
        return None
    spread = max(disagreement, abs(loss))
    z = NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(power)
    n = z**2 * (spread - loss**2) / (limit - loss) ** 2 + 3 / limit

    def enough(size: float) -> bool:
        return power_of(int(size), limit, loss, spread, confidence, kind) >= power

    step = 1.25
    while n < ROUGH_ABOVE and not enough(n):
        n *= step
    while n < ROUGH_ABOVE and step > STEP:
        step = math.sqrt(step)
        n = n / step if n / step >= 1 and enough(n / step) else n
    found = n * BETTING_PRICE if kind == "betting" else n
    return math.ceil(found) if found < LARGEST else None


def power_of(
    n: int, limit: float, loss: float, disagreement: float, confidence: float, kind: Kind = "trinomial"
) -> float:
    """The probability that n samples of such a policy certify the limit."""
    level = 1 - confidence
    if kind == "binomial":
        most = _largest(lambda count: float(share_at_most(*_pair(count, n), limit)[0]) <= level, n)
        return float(share_at_most(*_pair(most, n), disagreement)[0])
    worse, better = (disagreement + loss) / 2, (disagreement - loss) / 2
    gamma, found = NUISANCE_SHARE * level, 0.0
    for gains in _quantiles(n, better):
        most = _largest(partial(_certifies, gains, n, limit, gamma, level), n - gains)
        found += float(share_at_most(*_pair(most, n - gains), min(1.0, worse / (1 - better)))[0])
    return found / QUANTILES


def _certifies(better: int, n: int, limit: float, gamma: float, level: float, worse: int) -> bool:
    return trinomial_p_value(worse, better, n, limit, gamma) <= level


def _quantiles(n: int, rate: float) -> list[int]:
    """Counts that stand for equal parts of Binomial(n, rate)."""
    if rate <= 0:
        return [0] * QUANTILES
    spread = 6 * math.sqrt(n * rate) + 10
    counts = np.arange(max(0, int(n * rate - spread)), min(n, int(n * rate + spread)) + 1)
    below = share_at_most(counts.astype(np.float64), np.full(len(counts), float(n)), rate)
    wanted = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return [int(counts[min(i, len(counts) - 1)]) for i in np.searchsorted(below, wanted)]


def _largest(holds: Callable[[int], bool], n: int) -> int:
    """The largest count in 0..n for which `holds`, which is true up to some count; -1 if for none."""
    low, high = -1, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _pair(count: int, n: int) -> tuple[FloatArray, FloatArray]:
    return np.array([float(count)]), np.array([float(n)])
