import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import InfeasibleError, UsageError
from policies.objective import Objective

SCORE, COST = np.array([0.5, 0.7, 0.8, 0.8]), np.array([20.0, 40.0, 80.0, 100.0])


def choose(score=SCORE, cost=COST, **given):
    return Objective(**given).choose(
        np.asarray(score), np.asarray(cost), full_score=0.8, full_cost_flops=100.0
    )


def test_each_objective_picks_what_it_says():
    assert choose(lambda_=0.0) == (2, True)  # ties go to the cheaper
    assert choose(lambda_=100.0) == (0, True)
    assert choose(flops_target=0.5) == (1, True)
    assert choose(flops_target=0.4) == (1, True)
    assert choose(max_drop=0.1) == (1, True)
    assert choose() == (2, True)


def test_what_no_candidate_reaches_is_told():
    assert choose(score=[0.1, 0.7, 0.7, 0.6]) == (1, False)
    with pytest.raises(InfeasibleError, match=r"flops target 0\.1: the cheapest is 0\.2 of full"):
        choose(flops_target=0.1)


@pytest.mark.parametrize(
    "given",
    [
        {"lambda_": 0.1, "flops_target": 0.5},
        {"lambda_": -1.0},
        {"lambda_": float("nan")},
        {"flops_target": 0.0},
        {"flops_target": 70.0},
        {"flops_target": float("nan")},
        {"max_drop": -0.1},
        {"max_drop": 2.0},
    ],
)
def test_senseless_objectives_are_refused(given):
    with pytest.raises(UsageError):
        Objective(**given)


def test_percent_is_understood():
    with pytest.raises(UsageError) as refused:
        Objective(flops_target=70)
    assert refused.value.hint == "write 0.7"


points = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=20)


@given(points, st.floats(0.01, 1), st.floats(0, 5))
def test_the_choice_is_the_best_of_those_allowed(found, target, price):
    score, cost = np.array(found).T
    allowed = [s for s, c in found if c <= target * (1 + 1e-12)]
    if allowed:
        at = Objective(flops_target=target).choose(score, cost, full_score=1, full_cost_flops=1).position
        assert score[at] == max(allowed)
        assert cost[at] <= target * (1 + 1e-9)
    at = Objective(lambda_=price).choose(score, cost, full_score=1, full_cost_flops=1).position
    assert score[at] - price * cost[at] == pytest.approx(max(s - price * c for s, c in found))
