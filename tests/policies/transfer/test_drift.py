"""Drift is found where there is some, and seldom where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from policies import registry
from policies.transfer import Reference, drift
from policies.transfer.drift import LEVEL, holm


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_its_definition(p_values):
    """The adjusted value of a test: the least level at which stepping down rejects it."""
    p_values = np.array(p_values)
    m, order = len(p_values), np.argsort(p_values, kind="stable")
    expected = np.empty(m)
    for place, at in enumerate(order):
        expected[at] = min(1.0, max(p_values[order[i]] * (m - i) for i in range(place + 1)))
    np.testing.assert_allclose(holm(p_values), expected)


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-0.5, 0.5))
def test_the_distance_is_at_most_and_nearly_the_exact_one(make_table, shift):
    """Against scipy's, which looks at every value instead of 31 edges."""
    table = make_table(2000)
    reference = Reference.of(registry.train("linear", table, lambda_=0.3).policy, table)
    policy = registry.train("linear", table, lambda_=0.3).policy
    moved = make_table(2000, seed=1)
    moved.features[:, 0] += np.float32(shift)
    found = {s.name: s for s in drift(policy, reference, moved, moved.rows("test")).shifts}["mean"]
    exact = stats.ks_2samp(table.features[table.rows("fit"), 0], moved.features[moved.rows("test"), 0])
    assert exact.statistic - 1 / 32 - 1e-6 <= found.distance <= exact.statistic + 1e-9
    assert found.p_value >= exact.pvalue * 0.5


@pytest.mark.parametrize("algo", ["gate", "threshold", "linear"])
def test_no_drift_is_seldom_found(telling, algo):
    """40 tables of the same kind: at a level of 1 %, more than 4 false alarms have a chance of 6e-5."""
    table = telling()
    policy = registry.train(algo, table, lambda_=0.3).policy
    reference = Reference.of(policy, table)
    alarms = 0
    for seed in range(1, 41):
        other = telling(seed=seed)
        found = drift(policy, reference, other, other.rows("test"))
        assert found.shifts
        alarms += any(shift.beyond_chance for shift in found.shifts)
    assert stats.binom.sf(4, 40, LEVEL) < 1e-3
    assert alarms <= 4


@pytest.mark.parametrize("algo", ["gate", "threshold", "linear"])
def test_drift_is_found_and_named(telling, algo):
    table = telling()
    policy = registry.train(algo, table, lambda_=0.3).policy
    moved = telling(seed=3, shift=0.2)
    found = drift(policy, Reference.of(policy, table), moved, moved.rows("test"))
    assert found.found
    assert found.shifts[0].drifted
    assert found.shifts[0].name == ("mean" if algo == "linear" else "confidence")
    assert {s.name for s in found.shifts if s.drifted} == {found.shifts[0].name}


def test_shifts_are_sorted_by_evidence(telling):
    """Few samples get far: there the same shift, and chance alone, look larger."""
    table = telling(1200)
    policy = registry.train("threshold", table, lambda_=0.02).policy
    moved = telling(1200, seed=3, shift=0.15)
    shifts = drift(policy, Reference.of(policy, table), moved, moved.rows("test")).shifts
    assert any(shift.drifted for shift in shifts)
    assert [s.drifted for s in shifts] == sorted((s.drifted for s in shifts), reverse=True)
    for group in (True, False):
        p_values = [s.p_value for s in shifts if s.drifted == group]
        assert p_values == sorted(p_values)
    assert [s.distance for s in shifts] != sorted((s.distance for s in shifts), reverse=True)


def test_small_differences_of_many_samples_are_no_drift(make_table):
    """Two points, in 20 000 samples: surely there, but too little to matter."""
    table, moved = make_table(80_000, depths=(1,)), make_table(80_000, depths=(1,), seed=1)
    moved.features[:, 0] += np.float32(0.03)
    policy = registry.train("linear", table, lambda_=0.3).policy
    found = drift(policy, Reference.of(policy, table), moved, moved.rows("test"))
    assert found.shifts[0].beyond_chance
    assert not found.found
    assert found.visible < 0.03


def test_differences_like_those_of_its_own_splits_are_no_drift(make_table):
    """The splits of such data differ among themselves: another sample that differs no more is like them."""
    table, moved = make_table(8000), make_table(8000, seed=1)
    table.features[table.rows("calibration"), 0] += np.float32(0.1)
    moved.features[:, 0] += np.float32(0.1)
    policy = registry.train("linear", table, lambda_=0.3).policy
    reference = Reference.of(policy, table)
    found = drift(policy, reference, moved, moved.rows("test"))
    assert found.shifts[0].distance > 0.08
    assert found.shifts[0].beyond_chance
    assert not found.found
    against = drift(policy, reference, moved, moved.rows("test"), "calibration")
    assert against.shifts[0].distance < 0.05


def test_too_few_samples_say_nothing(telling):
    table, few = telling(), telling(120, seed=1, shift=0.5)
    policy = registry.train("linear", table, lambda_=0.3).policy
    found = drift(policy, Reference.of(policy, table), few, few.rows("test"))
    assert (found.shifts, found.left_out, found.visible) == ((), 1, 1.0)
    assert not found.found
