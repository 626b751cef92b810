"""One way to ask for a p-value or a bound of a mean loss, whatever kind of loss it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from policies.base import FloatArray
from policies.errors import UsageError
from policies.guarantee.betting import betting_p_value
from policies.guarantee.exact import binomial_p_value, share_bound, trinomial_p_value
from policies.statistics import Interval

Kind = Literal["trinomial", "binomial", "betting"]
KINDS: tuple[Kind, ...] = ("trinomial", "binomial", "betting")
NUISANCE_SHARE = 0.05
"""How much of the error that is allowed bounds the trinomial's rate of gains."""
PRECISION = 1e-6


@dataclass(frozen=True)
class Bounds:
    """Tests and bounds of a mean loss in [-1, 1], each of them one-sided.

    kind: trinomial for losses of -1, 0 and 1; binomial for 0 and 1; betting for any between -1 and 1.
    confidence: in (0, 1), such as 0.95.
    """

    kind: Kind
    confidence: float

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence {self.confidence}: expected a fraction in (0, 1), such as 0.95")

    @property
    def level(self) -> float:
        """The chance of error that is allowed."""
        return 1 - self.confidence

    def p_value(self, losses: FloatArray, limit: float) -> float:
        """Of "the mean is `limit` or more", limit in [-1, 1]. UsageError for losses of another kind."""
        return self._test(losses)(limit)

    def upper(self, losses: FloatArray) -> float:
        """The upper bound of the mean: the least limit that the losses (n,) keep, to 1e-6; n >= 1."""
        test = self._test(losses)
        if self.kind == "binomial":
            return share_bound(int(losses.sum()), len(losses), self.confidence)
        low, high = max(-1.0, float(losses.mean())), 1.0
        while high - low > PRECISION:
            middle = (low + high) / 2
            low, high = (low, middle) if test(middle) <= self.level else (middle, high)
        return high

    def lower(self, losses: FloatArray) -> float:
        """The lower bound of the mean, by the same test of the gains."""
        if self.kind == "binomial":
            return 1 - share_bound(int((1 - losses).sum()), len(losses), self.confidence)
        return -self.upper(-losses)

    def _test(self, losses: FloatArray) -> Callable[[float], float]:
        n = len(losses)
        if not n:
            return lambda limit: 1.0
        if losses.min() < -1 or losses.max() > 1:
            raise UsageError(f"losses from {losses.min():g} to {losses.max():g}: expected -1 to 1")
        if self.kind == "betting":
            return lambda limit: betting_p_value(losses, limit)
        worse, better = int((losses == 1).sum()), int((losses == -1).sum())
        if worse + better + int((losses == 0).sum()) < n or (better and self.kind == "binomial"):
            raise UsageError(f"losses that are not hits and misses have no {self.kind} test")
        if self.kind == "binomial":
            return lambda limit: binomial_p_value(worse, n, limit)
        gamma = NUISANCE_SHARE * self.level
        return lambda limit: trinomial_p_value(worse, better, n, limit, gamma)


def interval(losses: FloatArray, kind: Kind, confidence: float = 0.95) -> Interval:
    """Mean of losses (n,), n >= 1, between both one-sided bounds at half the error each."""
    sided = Bounds(kind, (1 + confidence) / 2)
    return Interval(float(losses.mean()), sided.lower(losses), sided.upper(losses))
