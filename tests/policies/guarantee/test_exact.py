"""The exact tests against enumeration: every outcome of a few samples, every nuisance on a grid."""

from functools import cache
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from policies.guarantee.exact import at_most, binomial_p_value, share_bound, trinomial_p_value

GAMMA = 0.0025


@cache
def outcomes(n):
    """Every (worse, better) of n pairs, and in how many ways."""
    pairs = [(a, b) for a in range(n + 1) for b in range(n + 1 - a)]
    ways = [factorial(n) // (factorial(a) * factorial(b) * factorial(n - a - b)) for a, b in pairs]
    return np.array(pairs), np.array(ways, dtype=float)


def probabilities(n, worse, better):
    pairs, ways = outcomes(n)
    a, b = pairs.T
    return ways * worse**a * better**b * max(0.0, 1 - worse - better) ** (n - a - b)


@pytest.mark.parametrize("n", [1, 2, 7, 15])
def test_the_tail_equals_the_sum_over_all_outcomes(n):
    rng = np.random.default_rng(n)
    pairs, _ = outcomes(n)
    for worse, better, _ in [*rng.dirichlet([1, 1, 1], 12), (0, 0, 1), (1, 0, 0), (0, 1, 0), (0.3, 0.7, 0)]:
        for lead in range(-n - 1, n + 2):
            expected = probabilities(n, worse, better)[pairs[:, 0] - pairs[:, 1] <= lead].sum()
            assert at_most(lead, n, worse, better) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", [5, 14, 30])
@pytest.mark.parametrize("limit", [0.02, 0.1, 0.3, 0.6, 0.0, -0.2])
def test_the_p_value_is_the_largest_over_the_nuisance(n, limit):
    """Enumerated on a fine grid; never below, and above only as far as short intervals are bounded."""
    pairs, _ = outcomes(n)
    for worse, better in pairs[:: max(1, len(pairs) // 40)].tolist():
        lead = worse - better
        found = trinomial_p_value(worse, better, n, limit, GAMMA)
        unknown = better if limit >= 0 else worse
        most = min(share_bound(unknown, n, 1 - GAMMA), (1 - abs(limit)) / 2)
        expected = GAMMA + max(
            probabilities(n, x + max(limit, 0), x + max(-limit, 0))[pairs[:, 0] - pairs[:, 1] <= lead].sum()
            for x in np.linspace(0, most, 80)
        )
        assert found >= min(1, expected) - 1e-9
        if lead + 1 <= np.floor((n - 1) * limit):
            assert found <= expected + 0.02
        else:
            assert found == 1


def test_the_largest_lies_at_the_bound_where_that_is_claimed():
    for n, limit, lead in ((40, 0.1, 2), (200, 0.05, 3), (200, 0.05, -6), (1000, 0.01, 4)):
        rates = np.linspace(0, (1 - limit) ** 2 / 4, 200)
        tails = [at_most(lead, n, x + limit, x) for x in rates]
        assert (np.diff(tails) >= -1e-12).all()


@pytest.mark.parametrize(("n", "limit"), [(60, 0.1), (150, 0.05)])
def test_the_level_is_kept_at_the_limit_for_every_nuisance(n, limit):
    """Not by chance: the probability of a p-value of 0.05 or less, summed over all outcomes that matter."""
    for better in (0.0, 0.01, 0.05, 0.3):
        worse = better + limit
        total = 0.0
        for b in range(n + 1):
            if (weight := stats.binom.pmf(b, n, better)) < 1e-9:
                continue
            low, high = -1, n - b + 1  # the largest count of losses that is rejected
            while high - low > 1:
                middle = (low + high) // 2
                rejected = trinomial_p_value(middle, b, n, limit, GAMMA) <= 0.05
                low, high = (middle, high) if rejected else (low, middle)
            total += weight * stats.binom.cdf(low, n - b, worse / (1 - better))
        assert total <= 0.05


def test_sixty_thousand_samples():
    assert trinomial_p_value(900, 800, 60_000, 0.005) == pytest.approx(GAMMA, abs=1e-5)
    worse, better, n, limit = 700, 560, 60_000, 0.003
    z = (worse - better - n * limit) / np.sqrt(2 * share_bound(better, n, 1 - GAMMA) * n + n * limit)
    expected = stats.norm.cdf(z) + GAMMA
    assert trinomial_p_value(worse, better, n, limit, GAMMA) == pytest.approx(expected, abs=0.01)


counts = st.integers(2, 400).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n // 3), st.integers(0, n // 3))
)


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0, 0.3), st.floats(0, 0.3))
def test_a_wider_limit_is_never_harder(drawn, one, other):
    n, worse, better = drawn
    low, high = sorted((one, other))
    if share_bound(better, n, 1 - GAMMA) <= (1 - high) ** 2 / 4:
        assert (
            trinomial_p_value(worse, better, n, high, GAMMA)
            <= trinomial_p_value(worse, better, n, low, GAMMA) + 1e-9
        )


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0, 0.5))
def test_more_losses_are_never_easier(drawn, limit):
    n, worse, better = drawn
    assert (
        trinomial_p_value(worse, better, n, limit, GAMMA)
        <= trinomial_p_value(worse + 1, better, n, limit, GAMMA) + 1e-9
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.001, 0.999))
def test_shares_equal_scipy(n, part, limit):
    count = int(part * n)
    expected = stats.binomtest(count, n, limit, alternative="less")
    assert binomial_p_value(count, n, limit) == pytest.approx(expected.pvalue, abs=1e-9)
    bound = expected.proportion_ci(0.95, method="exact").high
    assert share_bound(count, n, 0.95) == pytest.approx(bound, abs=1e-9)
