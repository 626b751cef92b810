from itertools import pairwise

import numpy as np
import pytest

from policies import registry
from policies.base import measure
from policies.errors import FileError, UsageError
from policies.grid import Grid
from policies.threshold import Sweep, Threshold, depth_chains, stage_costs


@pytest.fixture
def table(make_table):
    return make_table(400)


def exit_one_by_one(table, chain, tau, row):
    """The configuration and the cost of one sample, as a person would do it."""
    cost = table.cost_flops[chain[0]]
    for here, after in pairwise(chain):
        if table.signals[row, here, 0] >= tau:
            return here, cost
        cost += table.increment_flops[here, after]
    return chain[-1], cost


def test_every_sample_leaves_as_soon_as_it_is_sure(table):
    chain, rows = depth_chains(table)[3], np.arange(table.n_samples)
    for tau in (0.0, 0.3, 0.8, 2.0):
        found = Threshold(Grid.of(table), chain, tau).select(table, rows)
        expected = [exit_one_by_one(table, chain, tau, row) for row in rows]
        np.testing.assert_array_equal(found.configuration, [e[0] for e in expected])
        np.testing.assert_allclose(found.cost_flops, [e[1] for e in expected])


def test_the_sweep_over_thresholds_equals_one_policy_each(table):
    rows = table.rows("fit")
    sweep = Sweep(table, rows, "confidence", thresholds=17)
    for chain in (depth_chains(table)[0], depth_chains(table)[5][1:], (4,), (0, 2)):
        curve = sweep.curve(chain)
        one_by_one = measure([Threshold(Grid.of(table), chain, tau) for tau in curve.tau], table, rows)
        np.testing.assert_allclose(curve.score, one_by_one.score, atol=1e-12)
        np.testing.assert_allclose(curve.cost_flops, one_by_one.cost_flops)


def test_a_higher_threshold_never_costs_less(table):
    curve = Sweep(table, table.rows("fit"), "margin").curve(depth_chains(table)[-1])
    assert (np.diff(curve.cost_flops) >= -1e-9).all()
    assert curve.cost_flops[0] == table.cost_flops[curve.chain[0]]
    assert curve.cost_flops[-1] == pytest.approx(stage_costs(table, curve.chain)[-1])


def test_chains_follow_the_depth(table):
    chains = depth_chains(table)
    assert len(chains) == 6
    assert sorted(sum(chains, ())) == list(range(table.n_configs))
    for chain in chains:
        part = table.configs.iloc[list(chain)]
        assert part["depth"].tolist() == [1, 2, 3]
        assert len(part[["tokens", "width"]].drop_duplicates()) == 1
    assert len(depth_chains(table, "tokens")) == 6
    with pytest.raises(UsageError, match="no axis layers"):
        depth_chains(table, "layers")


def test_a_confident_table_is_exploited(make_table):
    """Confidence tells right from wrong: a threshold beats every static by far."""
    table = make_table(4000)
    sure = np.stack([table.score, table.score], axis=-1)
    table = make_table(4000, signals=sure)
    trained = registry.train("threshold", table, max_drop=0.0)
    assert trained.met
    statics = table.score[table.rows("tune")].mean(axis=0)
    assert trained.score > statics.max()
    assert len(trained.policy.chain) > 1
    budget = registry.train("threshold", table, flops_target=0.5)
    assert budget.cost_flops <= 0.5 * table.cost_flops.max()


def test_chains_that_cannot_be_are_refused(table):
    with pytest.raises(FileError, match="no way along the chain"):
        Threshold(Grid.of(table), (5, 0), 0.5).select(table, np.arange(3))
    with pytest.raises(UsageError, match="signal fear: not in the table"):
        Threshold(Grid.of(table), (0, 1), 0.5, "fear").select(table, np.arange(3))
    for chain, tau in (((), 0.5), ((0, 99), 0.5), ((0, 1), float("nan")), ((0, 1), 1e308)):
        with pytest.raises(UsageError):
            Threshold(Grid.of(table), chain, tau)


def test_a_table_without_continuation_leaves_static_choices(make_table):
    table = make_table(400, increment_flops=None)
    assert len(registry.train("threshold", table).policy.chain) == 1
