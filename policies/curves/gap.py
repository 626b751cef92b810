"""How much of what could be saved a policy saves: cost at equal accuracy, between statics and a ceiling.

C(a) is the least mean cost at accuracy a on the upper hull, that is, mixtures of two points allowed. Every
curve contains the static configurations, so no policy does worse than they do. With f the accuracy of the
full configuration on the same samples,

    gap = sum over drops d of [C_static(f - d) - C_policy(f - d)]
        / sum over drops d of [C_static(f - d) - C_reference(f - d)],  d = 0.1, 0.2, ..., 2.0 points:

0 is what static choices do, 1 what the reference does. The reference knows, for each static r on the front,
the cheapest configuration that answers as r does: hindsight of answers, but not of labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies import pareto
from policies.base import FloatArray, IntArray, split_rows
from policies.baselines import SameAnswerOracle
from policies.curves.curve import Curve, curve_of
from policies.curves.draws import RESAMPLES, Resampling, interval
from policies.evaluate import near_hull
from policies.statistics import Interval
from policies.table import OutcomeTable

GAP_DROPS = tuple(i / 1000 for i in range(1, 21))
DROPS = (0.001, 0.005, 0.01)
PRICES = (0.02, 0.05, 0.1, 0.2)
LEAST_GAP = 1e-5
"""Of the full cost, over all drops: where the reference saves less than this, it is rounding."""

_SHOWN = [GAP_DROPS.index(drop) for drop in DROPS]


@dataclass(frozen=True, eq=False)
class Worth:
    """What a curve is worth, per draw of samples; row 0 is the samples as they are.

    gap: (1 + resamples,), NaN where there is none to close. saving_full: (1 + resamples, 3), 1 - C(f - d)
    over the full configuration's cost, at the drops DROPS; saving_static: the same over C_static(f - d).
    utility_gain: (1 + resamples, 4), at each of PRICES the best of score - price x cost / full cost, less the
    best static's.
    """

    name: str
    gap: FloatArray
    saving_full: FloatArray
    saving_static: FloatArray
    utility_gain: FloatArray

    def minus(self, other: "Worth") -> "Worth":
        """Paired differences, draw by draw."""
        return Worth(
            f"{self.name} - {other.name}",
            self.gap - other.gap,
            self.saving_full - other.saving_full,
            self.saving_static - other.saving_static,
            self.utility_gain - other.utility_gain,
        )

    def to_dict(self) -> dict[str, Any]:
        """Means with 95 % intervals, for JSON; `gap` is null where there is none."""
        savings = [
            {
                "drop": drop,
                "saving_full": told(self.saving_full[:, i]),
                "saving_static": told(self.saving_static[:, i]),
            }
            for i, drop in enumerate(DROPS)
        ]
        utility = [{"lambda": price, "gain": told(self.utility_gain[:, i])} for i, price in enumerate(PRICES)]
        return {"gap": told(self.gap), "savings": savings, "utility": utility}


def told(draws: FloatArray) -> dict[str, float] | None:
    """Mean, low and high of the 95 % interval, for JSON; None if it is not a number."""
    if not np.isfinite(draws).all():
        return None
    found: Interval = interval(draws)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def mean_of(worths: Sequence[Worth], name: str = "") -> Worth:
    """The mean of several, draw by draw: what a learner is worth whatever its seed."""
    parts = ("gap", "saving_full", "saving_static", "utility_gain")
    means = (np.mean([getattr(worth, part) for worth in worths], axis=0) for part in parts)
    return Worth(name or worths[0].name, *means)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What curves on one split of one table are measured against, over one set of draws.

    full_score (1 + resamples,); statics: those that may be on a draw's hull; reference: see the module.
    static_cost, reference_cost (1 + resamples, 20): C at the full score less GAP_DROPS.
    """

    split: str
    resampling: Resampling
    full_score: FloatArray
    full_cost_flops: float
    statics: Curve
    reference: Curve
    static_cost: FloatArray
    reference_cost: FloatArray

    @classmethod
    def of(
        cls, table: OutcomeTable, split: str = "test", *, resamples: int = RESAMPLES, seed: int = 0
    ) -> "Yardstick":
        """FileError if the split is empty."""
        rows = split_rows(table, split)
        resampling = Resampling(len(rows), resamples, seed)
        scores = np.asarray(table.score[rows], dtype=np.float32)
        statics = _statics(table, scores, resampling)
        full_score = resampling.means(scores[:, [table.full]])[:, 0]
        reference = curve_of(references(table, scores), table, split, resampling, name="reference")
        targets = full_score[:, None] - np.array(GAP_DROPS)
        return cls(
            split=split,
            resampling=resampling,
            full_score=full_score,
            full_cost_flops=float(table.cost_flops[table.full]),
            statics=statics,
            reference=reference,
            static_cost=least_cost([statics], targets),
            reference_cost=least_cost([statics, reference], targets),
        )

    @property
    def n(self) -> int:
        """Samples of the split."""
        return self.resampling.n

    @property
    def ceiling(self) -> Worth:
        """What the reference is worth: a gap of 1."""
        return self.worth(self.reference)

    def worth(self, curve: Curve) -> Worth:
        """Gap, savings and utilities of a curve measured over the same draws, statics added to it."""
        cost = least_cost([self.statics, curve], self.full_score[:, None] - np.array(GAP_DROPS))
        closed, whole = ((self.static_cost - c).sum(axis=1) for c in (cost, self.reference_cost))
        closable = whole > LEAST_GAP * self.full_cost_flops
        return Worth(
            name=curve.name,
            gap=np.where(closable, closed / np.where(closable, whole, 1.0), np.nan),
            saving_full=1 - cost[:, _SHOWN] / self.full_cost_flops,
            saving_static=1 - cost[:, _SHOWN] / self.static_cost[:, _SHOWN],
            utility_gain=np.maximum(self._utility(curve) - self._utility(self.statics), 0.0),
        )

    def _utility(self, curve: Curve) -> FloatArray:
        share = curve.cost_flops / self.full_cost_flops
        return np.stack([(curve.score - price * share).max(axis=1) for price in PRICES], axis=1)


def least_cost(curves: Sequence[Curve], targets: FloatArray) -> FloatArray:
    """C at targets (1 + resamples, T) on the hull of all curves together; infinite above the best score."""
    score = np.concatenate([curve.score for curve in curves], axis=1)
    cost = np.concatenate([curve.cost_flops for curve in curves], axis=1)
    return np.stack([pareto.cost_at(*each) for each in zip(cost, score, targets, strict=True)])


def references(table: OutcomeTable, scores: npt.NDArray[np.float32]) -> list[SameAnswerOracle]:
    """One per static on the front of these scores (n, C); of dense tasks only the full configuration's."""
    on_front: IntArray = pareto.front(table.cost_flops, scores.mean(axis=0, dtype=np.float64))
    known = on_front if table.prediction is not None else np.intersect1d(on_front, table.full)
    return [SameAnswerOracle(reference=int(r)) for r in np.union1d(known, table.full)]


def _statics(table: OutcomeTable, scores: npt.NDArray[np.float32], resampling: Resampling) -> Curve:
    kept = np.union1d(near_hull(scores, table.cost_flops), table.full)
    means = resampling.means(np.ascontiguousarray(scores[:, kept]))
    cost = np.broadcast_to(table.cost_flops[kept], means.shape)
    return Curve("static", means, cost, np.full(len(kept), np.nan))
