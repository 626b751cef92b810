"""The static choices that one would make from a run, as they turn out on samples they were not made from."""

from dataclasses import dataclass

import numpy as np

from adapcli.report.marks import Curve, Floats
from policies import pareto
from policies.table import OutcomeTable


@dataclass(frozen=True, eq=False)
class StaticFront:
    """Corners of the calibration split's hull. cost_flops (K,) ascending; scores (n, K) on the test split."""

    cost_flops: Floats
    scores: Floats

    @classmethod
    def of(cls, table: OutcomeTable, split: str = "test") -> "StaticFront":
        """The front of a table. Without calibration samples it is drawn from `split` itself."""
        rows = table.rows("calibration") if len(table.rows("calibration")) else table.rows(split)
        corners = pareto.hull(table.cost_flops, np.asarray(table.score[rows]).mean(0, dtype=np.float64))
        scores = np.asarray(table.score[table.rows(split)][:, corners], np.float64)
        return cls(table.cost_flops[corners], scores)

    @property
    def score(self) -> Floats:
        """Mean score of each corner, (K,)."""
        return np.asarray(self.scores.mean(0), np.float64)

    def curve(self, label: str) -> Curve:
        """For drawing."""
        return Curve(label, self.cost_flops, self.score)

    def mixture(self, budget_flops: float) -> Floats:
        """Expected score of each sample, (n,), with two neighbouring corners mixed to cost `budget_flops`."""
        place = np.interp(budget_flops, self.cost_flops, np.arange(len(self.cost_flops)))
        left = int(min(place, len(self.cost_flops) - 1))
        right = min(left + 1, len(self.cost_flops) - 1)
        share = float(place) - left
        return np.asarray((1 - share) * self.scores[:, left] + share * self.scores[:, right], np.float64)

    def cost_at(self, score: Floats) -> Floats:
        """The least mean cost that reaches each score, (L,)."""
        return pareto.cost_at(self.cost_flops, self.score, score)
