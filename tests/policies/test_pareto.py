import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from policies import pareto
from policies.errors import UsageError

# Few distinct values make ties, which is where fronts go wrong.
coarse = st.integers(0, 6).map(float)
fine = st.floats(0, 6, allow_nan=False).map(lambda x: round(x, 3))
points = st.lists(st.tuples(coarse, coarse) | st.tuples(fine, fine), min_size=1, max_size=30)


def split(pairs):
    return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])


def front_by_brute_force(cost, score):
    return [
        i
        for i in range(len(cost))
        if not any(pareto.dominates(cost[j], score[j], cost[i], score[i]) for j in range(len(cost)))
    ]


@given(points)
def test_front_equals_brute_force(pairs):
    cost, score = split(pairs)
    kept = pareto.front(cost, score)
    assert sorted(kept) == front_by_brute_force(cost, score)
    assert list(kept) == sorted(kept, key=lambda i: (cost[i], i))


@given(points)
def test_front_equals_moocore(pairs):
    cost, score = split(pairs)
    expected = moocore.is_nondominated(np.stack([cost, score], 1), maximise=[False, True], keep_weakly=True)
    assert sorted(pareto.front(cost, score)) == list(np.flatnonzero(expected))


@given(points)
def test_hypervolume_equals_moocore_and_optuna(pairs):
    cost, score = split(pairs)
    value = pareto.hypervolume(cost, score, 5.0, 1.0)
    losses = np.stack([cost, -score], 1)
    assert value == pytest.approx(moocore.hypervolume(losses, ref=[5.0, -1.0]), abs=1e-9)
    inside = losses[(losses < [5.0, -1.0]).all(axis=1)]
    by_optuna = compute_hypervolume(inside, np.array([5.0, -1.0])) if len(inside) else 0.0
    assert value == pytest.approx(by_optuna, abs=1e-9)


@given(points, coarse, coarse)
def test_one_more_point_never_lowers_the_hypervolume(pairs, cost, score):
    before = pareto.hypervolume(*split(pairs), 7.0, -1.0)
    assert pareto.hypervolume(*split([*pairs, (cost, score)]), 7.0, -1.0) >= before - 1e-9


def best_mixture_by_brute_force(cost, score, budget):
    """The best mean score of any mixture of two points whose mean cost is at most `budget`."""
    best = max((s for c, s in zip(cost, score, strict=True) if c <= budget), default=-np.inf)
    for i in range(len(cost)):
        for j in range(len(cost)):
            if cost[i] < budget < cost[j]:
                share = (budget - cost[i]) / (cost[j] - cost[i])
                best = max(best, score[i] + share * (score[j] - score[i]))
    return best


@given(points, st.floats(-1, 7, allow_nan=False))
def test_score_at_is_the_best_mixture(pairs, budget):
    cost, score = split(pairs)
    assert pareto.score_at(cost, score, budget) == pytest.approx(
        best_mixture_by_brute_force(cost, score, budget)
    )


@given(points, st.floats(-1, 7, allow_nan=False))
def test_cost_at_is_the_inverse_of_score_at(pairs, target):
    cost, score = split(pairs)
    least = float(pareto.cost_at(cost, score, target))
    if target > score.max():
        assert least == np.inf
        return
    assert cost.min() <= least <= cost[score == score.max()].min()
    assert pareto.score_at(cost, score, least + 1e-9) >= target - 1e-6
    if least > cost.min() + 1e-3:
        assert best_mixture_by_brute_force(cost, score, least - 1e-3) < target


@given(points)
def test_hull_is_concave_rises_and_lies_above_every_point(pairs):
    cost, score = split(pairs)
    corners = pareto.hull(cost, score)
    assert set(corners) <= set(pareto.front(cost, score))
    assert (np.diff(cost[corners]) > 0).all()
    slopes = np.diff(score[corners]) / np.diff(cost[corners])
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 1e-9).all()
    assert (pareto.score_at(cost, score, cost) >= score - 1e-9).all()


@given(points, st.randoms())
@settings(max_examples=30)
def test_the_order_of_points_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    for first, second in ((split(pairs), split(shuffled)),):
        kept = [
            sorted(zip(c[pareto.front(c, s)], s[pareto.front(c, s)], strict=True)) for c, s in (first, second)
        ]
        assert kept[0] == kept[1]
        assert pareto.hypervolume(*first, 7, 0) == pytest.approx(pareto.hypervolume(*second, 7, 0))


def test_equal_points_are_all_kept():
    assert list(pareto.front([1, 1, 2, 2, 1], [5, 5, 6, 5, 4])) == [0, 1, 2]


def test_no_points():
    assert len(pareto.front([], [])) == 0
    assert pareto.hypervolume([], [], 1, 0) == 0


def test_targets_may_be_an_array():
    np.testing.assert_allclose(pareto.cost_at([1, 3], [0, 1], [-1, 0.5, 1, 1.1]), [1, 2, 3, np.inf])
    np.testing.assert_allclose(pareto.score_at([1, 3], [0, 1], [0, 1, 2, 9]), [-np.inf, 0, 0.5, 1])


@pytest.mark.parametrize(("cost", "score"), [([1, np.nan], [1, 1]), ([1], [np.inf]), ([1, 2], [1])])
def test_bad_points_are_refused(cost, score):
    with pytest.raises(UsageError, match="costs and scores"):
        pareto.front(cost, score)
