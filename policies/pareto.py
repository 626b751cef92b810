"""Cheaper and better: fronts, hulls of random mixtures, hypervolume. Cost is minimised, score maximised."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.errors import UsageError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def dominates(cost_a: float, score_a: float, cost_b: float, score_b: float) -> bool:
    """Whether a is at least as cheap and as good as b, and strictly better in one."""
    return cost_a <= cost_b and score_a >= score_b and (cost_a < cost_b or score_a > score_b)


def front(cost: ArrayLike, score: ArrayLike) -> Indices:
    """Indices of the points that no other dominates, by ascending cost, then index.

    Equal points are all kept.
    """
    costs, scores = _points(cost, score)
    order = np.lexsort((-scores, costs))
    cost_o, score_o = costs[order], scores[order]
    first = np.r_[True, cost_o[1:] > cost_o[:-1]][: len(order)]
    group = np.cumsum(first) - 1
    best = score_o[first]  # the best score at each distinct cost
    before = np.r_[-np.inf, np.maximum.accumulate(best)][: len(best)]  # the best score at any lower cost
    kept = (score_o == best[group]) & (score_o > before[group]) if len(order) else np.zeros(0, bool)
    return np.asarray(order[kept], np.intp)


def hull(cost: ArrayLike, score: ArrayLike) -> Indices:
    """Indices of the corners of the upper concave hull, from the cheapest point to the best, one per corner.

    Between two corners lie their random mixtures: the hull is what static choices can reach on average.
    """
    costs, scores = _points(cost, score)
    corners: list[int] = []
    for index in front(costs, scores):
        if corners and costs[corners[-1]] == costs[index]:
            continue
        while len(corners) > 1 and not _turns_down(costs, scores, corners[-2], corners[-1], index):
            corners.pop()
        corners.append(int(index))
    return np.array(corners, np.intp)


def cost_at(cost: ArrayLike, score: ArrayLike, target: ArrayLike) -> Floats:
    """The least mean cost at which the hull reaches each `target` score; infinite above the best score."""
    costs, scores = _points(cost, score)
    corners = hull(costs, scores)
    least: Floats = np.interp(np.asarray(target, np.float64), scores[corners], costs[corners], right=np.inf)
    return least


def score_at(cost: ArrayLike, score: ArrayLike, budget: ArrayLike) -> Floats:
    """The best mean score on the hull for each `budget`; minus infinity below the cheapest point."""
    costs, scores = _points(cost, score)
    corners = hull(costs, scores)
    best: Floats = np.interp(np.asarray(budget, np.float64), costs[corners], scores[corners], left=-np.inf)
    return best


def hypervolume(cost: ArrayLike, score: ArrayLike, reference_cost: float, reference_score: float) -> float:
    """The area that the points dominate up to the reference, in units of cost times score.

    Points that cost as much as the reference or more, or score as little or less, add nothing.
    """
    costs, scores = _points(cost, score)
    inside = (costs < reference_cost) & (scores > reference_score)
    costs, scores = costs[inside], scores[inside]
    kept = front(costs, scores)
    widths = np.diff(np.r_[costs[kept], reference_cost])
    return float(np.sum(widths * (scores[kept] - reference_score)))


def _points(cost: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    costs, scores = np.asarray(cost, np.float64), np.asarray(score, np.float64)
    if costs.shape != scores.shape or costs.ndim != 1:
        raise UsageError(
            f"costs and scores must be lists of one length, got {costs.shape} and {scores.shape}"
        )
    if not (np.isfinite(costs).all() and np.isfinite(scores).all()):
        raise UsageError("costs and scores must be finite numbers")
    return costs, scores


def _turns_down(costs: Floats, scores: Floats, a: Any, b: Any, c: Any) -> bool:
    """Whether the slope from b to c is less than from a to b."""
    left = (scores[b] - scores[a]) * (costs[c] - costs[b])
    right = (scores[c] - scores[b]) * (costs[b] - costs[a])
    return bool(left > right)
