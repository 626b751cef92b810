import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from policies.errors import UsageError
from policies.guarantee.betting import betting_p_value
from policies.guarantee.bounds import KINDS, Bounds, interval

TRUTHS = {
    "trinomial": ([-1.0, 0.0, 1.0], [0.02, 0.94, 0.04]),
    "binomial": ([0.0, 1.0], [0.98, 0.02]),
    "betting": ([-0.6, 0.0, 0.1, 0.9], [0.01, 0.77, 0.2, 0.02]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_true_limit_is_seldom_rejected_and_a_far_one_nearly_always(kind):
    values, shares = TRUTHS[kind]
    truth, rng = float(np.dot(values, shares)), np.random.default_rng(0)
    drawn = [rng.choice(values, 1500, p=shares) for _ in range(400)]
    bounds = Bounds(kind, 0.95)
    wrong = sum(bounds.p_value(losses, truth) <= 0.05 for losses in drawn)
    assert wrong <= stats.binom.ppf(0.999, len(drawn), 0.05)
    assert np.mean([bounds.p_value(losses, truth + 0.03) <= 0.05 for losses in drawn]) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_the_least_limit_that_is_kept(kind):
    values, shares = TRUTHS[kind]
    losses = np.random.default_rng(1).choice(values, 3000, p=shares)
    bounds = Bounds(kind, 0.9)
    upper = bounds.upper(losses)
    assert bounds.p_value(losses, upper) <= 0.1 + 1e-9
    assert bounds.p_value(losses, upper - 1e-5) > 0.1
    assert bounds.lower(losses) < losses.mean() < upper


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_the_truth(kind):
    values, shares = TRUTHS[kind]
    truth, rng = float(np.dot(values, shares)), np.random.default_rng(2)
    found = [interval(rng.choice(values, 60, p=shares), kind) for _ in range(25)]
    held = sum(one.low <= truth <= one.high for one in found)
    assert held >= stats.binom.ppf(0.001, len(found), 0.95)


graded = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=80).map(np.array)


@settings(max_examples=80, deadline=None)
@given(graded, st.floats(-0.9, 0.99), st.floats(0, 0.5), st.randoms())
def test_bets_are_monotone_and_know_no_order(losses, limit, more, random):
    here = betting_p_value(losses, limit)
    assert 0 <= here <= 1
    assert betting_p_value(losses, min(1.0, limit + more)) <= here + 1e-9
    assert betting_p_value(np.minimum(losses + more, 1), limit) >= here - 1e-9
    shuffled = losses.copy()
    random.shuffle(shuffled)
    assert betting_p_value(shuffled, limit) == pytest.approx(here, rel=1e-6, abs=1e-12)


def test_bets_on_nothing_lost():
    assert betting_p_value(np.zeros(1000), 0.01) < 0.01
    assert betting_p_value(np.ones(5), 0.5) == 1
    assert betting_p_value(np.array([1.0, 0.0]), 0.0) == 1


@pytest.mark.parametrize("kind", ["trinomial", "betting"])
def test_few_samples_tell_little(kind):
    assert Bounds(kind, 0.95).upper(np.zeros(1)) > 0.9
    assert Bounds(kind, 0.95).upper(np.ones(3)) == pytest.approx(1, abs=1e-5)
    assert Bounds(kind, 0.95).p_value(np.zeros(0), 0.5) == 1
    assert Bounds("binomial", 0.95).upper(np.zeros(59)) == pytest.approx(1 - 0.05 ** (1 / 59))


def test_losses_of_another_kind_are_refused():
    for kind, losses in (("trinomial", [0.5]), ("binomial", [-1.0]), ("binomial", [0.5]), ("betting", [2.0])):
        with pytest.raises(UsageError, match="losses"):
            Bounds(kind, 0.95).p_value(np.array(losses), 0.1)
    with pytest.raises(UsageError, match="confidence"):
        Bounds("trinomial", 95)
