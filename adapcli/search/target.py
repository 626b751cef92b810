"""What a search should meet: a budget, or a score."""

import math
from dataclasses import dataclass

from adapcli.errors import InfeasibleError, UsageError
from adapcli.search.landscape import Indices, Landscape


@dataclass(frozen=True)
class Target:
    """At most one of `fraction`, a hard limit in (0, 1] of the full cost, and `min_score`, in [0, 1].

    Raises UsageError for anything else.
    """

    fraction: float | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise UsageError(f"target {self.fraction}: expected a fraction in (0, 1]: write 0.7")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise UsageError(f"minimum score {self.min_score}: expected a fraction in [0, 1]: write 0.7")
        if self.fraction is not None and self.min_score is not None:
            raise UsageError("a target on cost and one on the score exclude each other", "give one of them")

    def __bool__(self) -> bool:
        return self.fraction is not None or self.min_score is not None

    def within(self, landscape: Landscape, among: Indices) -> Indices:
        """Those `among` that keep the budget. InfeasibleError, telling the feasible range, if none does."""
        if self.fraction is None:
            return among
        limit = self.fraction * landscape.cost[landscape.table.full]
        kept: Indices = among[landscape.cost[among] <= limit]
        if len(kept) == 0:
            cheapest = rounded_up(float(landscape.fraction[among].min()))
            raise InfeasibleError(
                f"{landscape.objective.name} target {self.fraction:g}: the cheapest is {cheapest:g} of full",
                f"choose a target from {cheapest:g} to 1",
            )
        return kept

    def choose(self, landscape: Landscape, among: Indices) -> int:
        """The best calibration score within the budget, or the cheapest to reach the score; ties: cheaper.

        Raises InfeasibleError, telling the feasible range, if nothing meets the target.
        """
        kept = self.within(landscape, among)
        cost, score = landscape.cost[kept], landscape.score[kept]
        if self.min_score is None:
            return int(min(zip(-score, cost, kept, strict=True))[2])
        reaching = score >= self.min_score
        if not reaching.any():
            best = math.floor(1e4 * float(score.max())) / 1e4
            raise InfeasibleError(
                f"minimum score {self.min_score:g}: the best configuration reaches {best:g} on calibration",
                f"choose a minimum score up to {best:g}",
            )
        return int(min(zip(cost[reaching], -score[reaching], kept[reaching], strict=True))[2])


def rounded_up(value: float, digits: int = 3) -> float:
    """`value` to three significant digits, never below it, so that it can be typed back as a target."""
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(value))) if value > 0 else 1.0
    return min(1.0, math.ceil(value * scale) / scale)
