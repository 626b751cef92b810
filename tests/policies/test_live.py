"""Deciding while the model runs is deciding from the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.baselines import Static
from policies.errors import UsageError
from policies.grid import Grid
from policies.live import Chooser, Looks, Stopper
from policies.threshold import Threshold, depth_chains


def walk(policy, table, row):
    """Follow the verdicts of one sample over the table's signals; where it stopped and what it paid."""
    at = policy.reachable()[0]
    cost = table.cost_flops[at]
    looks = Looks.first(table.signal_names, at, table.signals[row : row + 1, at], [cost])
    while (target := int(policy.verdict(looks).go_to[0])) != at:
        cost += table.increment_flops[at, target]
        at, looks = target, looks.then(target, table.signals[row : row + 1, target], [cost])
    return at, cost


@settings(max_examples=30, deadline=None)
@given(tau=st.floats(0.05, 0.95), which=st.integers(0, 5))
def test_a_threshold_stops_where_the_table_says(make_table, tau, which):
    table = make_table(60)
    chain = depth_chains(table)[which]
    policy = Threshold(Grid.of(table), chain, tau)
    expected = policy.select(table, np.arange(60))
    walked = [walk(policy, table, row) for row in range(60)]
    assert [at for at, _ in walked] == expected.configuration.tolist()
    np.testing.assert_allclose([cost for _, cost in walked], expected.cost_flops)


def test_slack_is_the_distance_to_another_verdict(make_table):
    table = make_table(40)
    policy = Threshold(Grid.of(table), (0, 5), 0.5)
    looks = Looks.first(table.signal_names, 0, table.signals[:, 0], np.zeros(40))
    np.testing.assert_allclose(policy.verdict(looks).slack, np.abs(table.signals[:, 0, 0] - 0.5), rtol=1e-6)
    at_the_end = looks.then(5, table.signals[:, 5], np.zeros(40))
    assert np.isinf(policy.verdict(at_the_end).slack).all()


def test_looks_remember_the_readout_before_and_rows_stay_together(make_table):
    table = make_table(30)
    first = Looks.first(table.signal_names, 0, table.signals[:, 0], np.arange(30))
    assert np.isnan(first.signals_before).all()
    second = first.then(3, table.signals[:, 3], np.arange(30) + 100)
    np.testing.assert_array_equal(second.signals_before, first.signals)
    halves = [second.take(np.arange(20, 30)), second.take(np.arange(20))]
    back = Looks.join(halves).take(np.r_[10:30, 0:10])
    for name in ("at", "signals", "cost_flops", "before", "signals_before"):
        np.testing.assert_array_equal(getattr(back, name), getattr(second, name))


def test_a_missing_signal_and_a_chain_in_a_circle_are_refused(make_table):
    table = make_table(10)
    looks = Looks.first(("margin",), 0, table.signals[:, :1, 0], np.zeros(10))
    with pytest.raises(UsageError, match="needs the signal confidence"):
        Threshold(Grid.of(table), (0, 1), 0.5).verdict(looks)
    with pytest.raises(UsageError, match="appears twice"):
        Threshold(Grid.of(table), (0, 1, 0), 0.5)


def test_who_decides_when(make_table):
    grid = Grid.of(make_table(10))
    assert isinstance(Threshold(grid, (0, 1), 0.5), Stopper)
    assert isinstance(Static(grid, 2), Chooser)
    assert not isinstance(Static(grid, 2), Stopper)
    assert Static(grid, 2).choose(np.empty((3, 0))).tolist() == [2, 2, 2]
