"""What a search should meet: a budget, or a score."""

import math
from dataclasses import dataclass

from adapcli.errors import InfeasibleError, UsageError
from adapcli.search.landscape import Indices, Landscape


@dataclass(frozen=True)
class Target:
    """At most one of three; a hard limit or a score.

    fraction: in (0, 1], of the full cost; limit: above 0, in the objective's unit; min_score: in [0, 1].
    Raises UsageError for anything else.
    """

    fraction: float | None = None
    min_score: float | None = None
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise UsageError(f"target {self.fraction}: expected a fraction in (0, 1]: write 0.7")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise UsageError(f"minimum score {self.min_score}: expected a fraction in [0, 1]: write 0.7")
        if self.limit is not None and not 0 < self.limit < math.inf:
            raise UsageError(f"limit {self.limit}: expected a number above 0")
        if sum(given is not None for given in (self.fraction, self.limit, self.min_score)) > 1:
            raise UsageError("a target on cost and one on the score exclude each other", "give one of them")

    def __bool__(self) -> bool:
        return any(given is not None for given in (self.fraction, self.limit, self.min_score))

    def told(self, unit: str) -> float | str | None:
        """The limit on the cost as a study keeps it; None without one."""
        return self.fraction if self.limit is None else amount(self.limit, unit)

    def within(self, landscape: Landscape, among: Indices) -> Indices:
        """Those `among` that keep the budget. InfeasibleError, telling the feasible range, if none does."""
        if self.fraction is not None:
            limit = self.fraction * landscape.cost[landscape.table.full]
        elif self.limit is not None:
            limit = self.limit
        else:
            return among
        kept: Indices = among[landscape.cost[among] <= limit]
        if len(kept) == 0:
            raise self._infeasible(landscape, among)
        return kept

    def _infeasible(self, landscape: Landscape, among: Indices) -> InfeasibleError:
        """Tells the feasible range in the words of the target."""
        name, unit = landscape.objective.name, landscape.objective.unit
        if self.fraction is not None:
            cheapest = rounded_up(float(landscape.fraction[among].min()))
            return InfeasibleError(
                f"{name} target {self.fraction:g}: the cheapest is {cheapest:g} of full",
                f"choose a target from {cheapest:g} to 1",
            )
        assert self.limit is not None
        low, high = (
            amount(float(end), unit) for end in (landscape.cost[among].min(), landscape.cost[among].max())
        )
        where = f" ({landscape.objective.condition})" if landscape.objective.condition else ""
        return InfeasibleError(
            f"{name} target {amount(self.limit, unit)}: the least is {low}{where}",
            f"choose a target from {low} to {high}",
        )

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
    """A fraction to three significant digits, never below it, so that it can be typed back as a target."""
    return min(1.0, _ceiling(value, digits))


def amount(value: float, unit: str) -> str:
    """An amount of a cost, never below it, so that it can be typed back as a limit: 3.42 ms, 1.09MiB."""
    if unit != "bytes":
        return f"{_ceiling(value, 4):g} {unit}"
    step = min(4, int(math.log(max(value, 1), 1024)))
    return f"{_ceiling(value / 1024**step, 4):g}{('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"


def _ceiling(value: float, digits: int) -> float:
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(value))) if value > 0 else 1.0
    return math.ceil(value * scale) / scale
