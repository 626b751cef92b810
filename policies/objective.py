"""What a policy is chosen for: one question, asked of every kind of policy in the same way.

A trainer fits a family of candidates (statics, thresholds, one network at many prices), measures each on the
tune split, and lets the objective pick one. The test split is never seen here.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from policies.errors import InfeasibleError, UsageError

DEFAULT_DROP = 0.01


class Choice(NamedTuple):
    """The position of the chosen candidate, and whether it satisfies the objective."""

    position: int
    met: bool


@dataclass(frozen=True)
class Objective:
    """Exactly one of four; with none given, `max_drop=0.01`.

    lambda_: maximise score - lambda_ * cost / cost of the full configuration; finite, 0 or more.
    flops_target: the best score whose mean cost is at most this fraction of the full one's, in (0, 1].
    max_drop: the least cost whose score is at most this far below the full configuration's, in [0, 1].
    same_answer: the least cost at which at most this share of answers, in [0, 1], differs from the full
        configuration's; the score to choose by is then the agreement.
    """

    lambda_: float | None = None
    flops_target: float | None = None
    max_drop: float | None = None
    same_answer: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in asdict(self).items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other", "give one of them")
        if not given:
            object.__setattr__(self, "max_drop", DEFAULT_DROP)
        check_flops_target(self.flops_target)
        if self.lambda_ is not None and not (math.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError(f"lambda {self.lambda_}: expected a finite price, 0 or more")
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise UsageError(f"max_drop {self.max_drop}: expected a loss of score in [0, 1]")
        if self.same_answer is not None and not 0 <= self.same_answer <= 1:
            raise UsageError(f"same_answer {self.same_answer}: expected a share of answers in [0, 1]")

    def choose(
        self,
        score: npt.NDArray[np.float64],
        cost_flops: npt.NDArray[np.float64],
        *,
        full_score: float,
        full_cost_flops: float,
    ) -> Choice:
        """Pick among candidates with mean `score` (K,) and mean `cost_flops` (K,).

        Ties go to the cheaper candidate. Where no candidate comes within `max_drop`, the best score is taken
        and `met` is False. Raises InfeasibleError, telling the least possible, if none meets `flops_target`.
        """
        share = cost_flops / full_cost_flops
        if self.lambda_ is not None:
            return Choice(_first(score - self.lambda_ * share, share), True)
        if self.flops_target is not None:
            within = share <= self.flops_target * (1 + 1e-12)
            if not within.any():
                raise too_expensive(self.flops_target, float(share.min()))
            return Choice(_first(np.where(within, score, -np.inf), share), True)
        most = self.same_answer if self.max_drop is None else self.max_drop
        assert most is not None
        near = score >= full_score - most - 1e-12
        if near.any():
            return Choice(_first(np.where(near, -share, -np.inf), -score), True)
        return Choice(_first(score, share), False)

    def to_dict(self) -> dict[str, Any]:
        """The one field that is set, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def check_flops_target(value: float | None) -> None:
    """Raise UsageError unless `value` is None or a fraction in (0, 1]."""
    if value is None or 0 < value <= 1:
        return
    hint = f"write {value / 100:g}" if 1 < value <= 100 else "write 0.7 for 70 % of the full configuration"
    raise UsageError(f"flops target {value}: expected a fraction in (0, 1]", hint)


def too_expensive(target: float, least: float) -> InfeasibleError:
    """The error for a budget below the cheapest candidate."""
    rounded = math.ceil(least * 1000) / 1000
    message = f"flops target {target:g}: the cheapest is {rounded:g} of full"
    return InfeasibleError(message, f"choose a target from {rounded:g} to 1")


def _first(value: npt.NDArray[np.float64], tie: npt.NDArray[np.float64]) -> int:
    """Where `value` is largest; among equals, where `tie` is smallest."""
    return int(np.lexsort((tie, -value))[0])
