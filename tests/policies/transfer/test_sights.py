"""What is recorded of a policy's sights is what it sees: the same paths, signals and costs as `select`."""

from dataclasses import replace

import numpy as np
import pytest

from policies import registry
from policies.errors import FileError
from policies.grid import Grid
from policies.live import Stopper
from policies.threshold import Threshold, depth_chains
from policies.transfer.sights import Walked, require, sights


@pytest.fixture
def table(telling):
    return telling(600)


STOPPERS = ("gate", "threshold")


@pytest.mark.parametrize("algo", STOPPERS)
def test_walking_a_table_ends_and_costs_as_select(table, algo):
    rows = table.rows("test")
    for policy in registry.train(algo, table).family[::7]:
        assert isinstance(policy, Stopper)
        walked = Walked.begin(policy, table, rows)
        for at in policy.reachable():
            here = np.flatnonzero(walked.at == at)
            if len(here):
                walked.look(policy, table, here)
        decision = policy.select(table, rows)
        np.testing.assert_array_equal(walked.at, decision.configuration)
        np.testing.assert_allclose(walked.cost, decision.cost_flops)


def test_who_gets_where_and_sees_what(table):
    """By hand: a chain of three, of which the last has nothing to decide."""
    chain = depth_chains(table)[-1]
    rows, policy = table.rows("test"), Threshold(Grid.of(table), chain, 0.7)
    first, second = sights(policy, table, rows)
    seen = table.signal("confidence")
    assert (first.configuration, second.configuration) == chain[:2]
    np.testing.assert_array_equal(first.rows, rows)
    np.testing.assert_array_equal(second.rows, rows[seen[rows, chain[0]] < np.float32(0.7)])
    np.testing.assert_array_equal(second.values[:, 0], seen[second.rows, chain[1]])
    assert first.names == ("confidence",)


def test_choosers_see_their_features_before_the_model_runs(table):
    policy, rows = registry.train("linear", table).policy, table.rows("test")
    (sight,) = sights(policy, table, rows)
    assert (sight.configuration, sight.names) == (None, table.feature_names)
    np.testing.assert_array_equal(sight.values, table.features[rows])


@pytest.mark.parametrize("algo", ["static", "random"])
def test_the_blind_see_nothing(table, algo):
    assert not list(sights(registry.train(algo, table).policy, table, table.rows("test")))


def test_what_lacks_is_named(table):
    gate, linear = (registry.train(algo, table).policy for algo in ("gate", "linear"))
    with pytest.raises(FileError, match="gate needs the signal margin, which the table lacks") as found:
        require(gate, replace(table, signal_names=("confidence", "other")))
    assert found.value.hint == "it has: confidence, other"
    with pytest.raises(FileError, match="linear needs the features mean, edges, which the table lacks"):
        require(linear, replace(table, feature_names=("a", "spread", "b")))
