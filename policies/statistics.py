"""Confidence intervals of means: closed forms for one mean, a paired bootstrap for a difference."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.errors import UsageError

Floats = NDArray[np.float64]

BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it, in the unit of the values."""

    mean: float
    low: float
    high: float


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); never leaves [0, 1], exact shape at 0 and n."""
    _check(n, confidence)
    if not 0 <= successes <= n:
        raise UsageError(f"{successes} successes of {n}")
    z, p = _normal_quantile(confidence), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return Interval(p, low, 1.0 if successes == n else min(1.0, centre + half))


def normal_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of `values` (n,), n >= 2."""
    array = _finite(values)
    _check(len(array) - 1, confidence, "2 or more values")
    mean, error = float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))
    half = student_quantile(0.5 + confidence / 2, len(array) - 1) * error
    return Interval(mean, mean - half, mean + half)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of per-sample scores (n,): Wilson for hits and misses, else Student's t, cut to [0, 1]."""
    array = _finite(values)
    _check(len(array), confidence)
    if array.min() < 0 or array.max() > 1:
        return normal_interval(array, confidence)
    if np.all((array == 0) | (array == 1)):
        return wilson(float(array.sum()), len(array), confidence)
    if len(array) == 1:
        return Interval(float(array[0]), 0.0, 1.0)
    interval = normal_interval(array, confidence)
    return Interval(interval.mean, max(0.0, interval.low), min(1.0, interval.high))


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile interval of mean(first - second) over resampled samples; both (n,), paired, seeded."""
    a, b = _finite(first), _finite(second)
    if a.shape != b.shape:
        raise UsageError(f"paired values need one length, got {len(a)} and {len(b)}")
    _check(len(a), confidence)
    means = _resampled_means(a - b, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float((a - b).mean()), float(low), float(high))


def student_quantile(probability: float, degrees: int) -> float:
    """The t distribution's quantile for `degrees` of freedom and probability in (0, 1), to 1e-9 relative.

    Bisection on the finite sum for the cumulative distribution (Abramowitz and Stegun 26.7.3-4);
    from 1 000 degrees on the expansion around the normal quantile (26.7.5).
    """
    z = NormalDist().inv_cdf(probability)
    if degrees >= 1000:
        terms = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        )
        return z + math.fsum(term / degrees ** (power + 1) for power, term in enumerate(terms))
    low, high = 0.0, np.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        below = _student_within(middle, degrees) < abs(2 * probability - 1)
        low, high = (middle, high) if below else (low, middle)
    return float(np.copysign(np.sqrt(degrees) * np.tan((low + high) / 2), probability - 0.5))


def _student_within(angle: float, degrees: int) -> float:
    """P(|t| <= sqrt(degrees) tan(angle))."""
    cosine, sine = np.cos(angle), np.sin(angle)
    odd = degrees % 2
    powers = np.arange(1, (degrees - odd) // 2)
    ratios = np.cumprod((2 * powers - 1 + odd) / (2 * powers + odd)) * cosine ** (2 * powers)
    series = 1.0 + float(ratios.sum()) if degrees > 1 else 0.0
    return float(2 / np.pi * (angle + sine * cosine * series) if odd else sine * series)


def _resampled_means(
    values: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means of resamples, (resamples,). Few distinct values are drawn as counts, which is far faster."""
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 64:
        drawn = rng.multinomial(n, counts / n, size=resamples)
        return np.asarray(drawn @ distinct / n, np.float64)
    means = np.empty(resamples)
    step = max(1, BLOCK_VALUES // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        means[start : start + rows] = values[rng.integers(0, n, (rows, n))].mean(axis=1)
    return means


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _check(n: int, confidence: float, needed: str = "1 or more values") -> None:
    if n < 1:
        raise UsageError(f"an interval needs {needed}")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence {confidence}: expected a fraction in (0, 1), such as 0.95")


def _finite(values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise UsageError("an interval needs one list of finite numbers")
    return array
