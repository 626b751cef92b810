"""Exact tests of a mean loss: of hits and misses in pairs, and of a share.

A pair of hits or misses loses 1 (only the full configuration is right), gains 1 (only the policy is), or
neither. Of n independent pairs, `worse` and `better` count the first two: a trinomial.
"""

import math
from itertools import pairwise

import numpy as np
from scipy.special import betainc, betaincinv, gammaln, xlog1py, xlogy  # type: ignore[import-untyped]

from policies.base import FloatArray

CELLS = 64


def trinomial_p_value(worse: int, better: int, n: int, limit: float, gamma: float = 0.0025) -> float:
    """P-value of "the mean loss is `limit` or more", limit in [-1, 1], valid for every n.

    The statistic is worse - better. Under the hypothesis it is stochastically smallest where the mean is just
    `limit`. What remains unknown there, the rate x of the rarer kind, is bounded by Clopper and Pearson at
    confidence 1 - gamma; the largest p-value within, plus gamma, is valid (Berger and Boos 1994). It lies at
    the bound itself while x <= (1 - |limit|)^2 / 4: there the statistic is a sum of independent hits and
    misses, so its mode is its mean (Darroch 1964), and the derivative in x is a difference of neighbouring
    probabilities below the mode. Beyond, short intervals of x are bounded from above. Where the observed loss
    reaches the limit the answer is 1; it is never needed.
    """
    lead, apart = worse - better, abs(limit)
    if lead + 1 > math.floor((n - 1) * limit):
        return 1.0
    most = min(share_bound(better if limit >= 0 else worse, n, 1 - gamma), (1 - apart) / 2)
    smooth = min(most, (1 - apart) ** 2 / 4)
    cells = [(smooth, smooth)]
    if most > smooth:
        edges = np.linspace(smooth, most, CELLS + 1).tolist()
        cells += pairwise(edges)
    rates = [(low + apart, high) if limit >= 0 else (low, high + apart) for low, high in cells]
    return min(1.0, gamma + max(at_most(lead, n, *pair) for pair in rates))


def at_most(lead: int, n: int, worse: float, better: float) -> float:
    """P(losses - gains <= lead) of n pairs with these rates of losses and gains; rounding aside, exact."""
    gains = _likely(n, better)
    weight = np.exp(_log_binomial(gains, n, better))
    below = share_at_most(lead + gains, n - gains, min(1.0, worse / (1 - better)) if better < 1 else 0.0)
    # What lies outside the likely gains (1e-17 or so) counts as if it were below.
    return float(min(1.0, weight @ below + max(0.0, 1 - weight.sum())))


def binomial_p_value(count: int, n: int, limit: float) -> float:
    """P-value of "the share is `limit` or more" when `count` of n are seen; exact."""
    return float(share_at_most(np.array([count]), np.array([n]), limit)[0])


def share_bound(count: int, n: int, confidence: float) -> float:
    """One-sided upper bound of a share of which `count` of n are seen (Clopper and Pearson 1934)."""
    return 1.0 if count >= n else float(betaincinv(count + 1, n - count, confidence))


def share_at_most(count: FloatArray, n: FloatArray, rate: float) -> FloatArray:
    """P(Binomial(n, rate) <= count), elementwise."""
    inside = (count >= 0) & (count < n)
    k, size = np.where(inside, count, 0), np.where(inside, n, 1)
    return np.where(inside, betainc(size - k, k + 1, 1 - rate), (count >= 0).astype(np.float64))


def _likely(n: int, rate: float) -> FloatArray:
    """The counts that Binomial(n, rate) gives, but for about 1e-17 of its mass."""
    spread = 9 * math.sqrt(n * rate * (1 - rate)) + 20
    low, high = max(0, math.floor(n * rate - spread)), min(n, math.ceil(n * rate + spread))
    return np.arange(low, high + 1, dtype=np.float64)


def _log_binomial(count: FloatArray, n: int, rate: float) -> FloatArray:
    ways = gammaln(n + 1) - gammaln(count + 1) - gammaln(n - count + 1)
    return np.asarray(ways + xlogy(count, rate) + xlog1py(n - count, -rate), dtype=np.float64)
