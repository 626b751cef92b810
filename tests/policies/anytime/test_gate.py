from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import pareto, registry
from policies.anytime.gate import Gate, gate_of, gates
from policies.anytime.induction import Regressors, groups, induce
from policies.anytime.lattice import Lattice
from policies.base import measure
from policies.encoding import Standardiser
from policies.errors import FileError, InfeasibleError, UsageError
from policies.grid import Grid
from policies.live import Looks, Stopper
from policies.table import OutcomeTable


def coins(scores, costs):
    """Three depths; the first two show a fair coin each, on which their score depends; the last is right.

    scores: of depth 1 by its coin, of depth 2 by its own. Each split has every combination of coins.
    """
    both = np.array(list(product((0, 1), repeat=2)))
    score = np.column_stack([scores[0][both[:, 0]], scores[1][both[:, 1]], np.ones(4)])
    signals = np.column_stack([both, np.zeros(4)])[..., None]
    cost = np.cumsum(costs)
    steps = np.where(np.subtract.outer(cost, cost) >= 0, np.inf, cost[None] - cost[:, None])
    np.fill_diagonal(steps, 0.0)
    again = ["fit"] * 40 + ["tune", "calibration", "test"]
    return OutcomeTable.from_arrays(
        configs=pd.DataFrame({"depth": [1, 2, 3], "cost_flops": cost, "readout_flops": 0, "memory_bytes": 0}),
        score=np.tile(score, (len(again), 1)),
        signals=np.tile(signals, (len(again), 1, 1)),
        signal_names=("coin",),
        samples=pd.DataFrame({"split": np.repeat(again, 4)}),
        increment_flops=steps,
    )


def best_rule(table, price, look):
    """The utility of the best of all rules (an action per depth and coin), by trying each."""
    rows, best = table.rows("tune"), -np.inf
    coin = table.signals[rows, :, 0].astype(int)
    for rule in product((1, 2, 3), (1, 2, 3), (2, 3), (2, 3)):
        one = np.array(rule[:2])[coin[:, 0]]
        last = np.where(one == 2, np.array(rule[2:])[coin[:, 1]], one)
        looks = 1 + (one > 1).astype(int) + ((one == 2) & (last == 3))
        cost = table.cost_flops[last - 1] + look * looks
        score = table.score[rows, last - 1]
        best = max(best, (score - price * cost / table.cost_flops[2]).mean())
    return best


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=2, max_size=2),
    costs=st.lists(st.floats(1e4, 1e5), min_size=3, max_size=3),
    price=st.floats(0.01, 3),
)
def test_no_rule_is_better(scores, costs, price):
    """Where each readout tells all there is to know, backward induction finds the best of all rules."""
    table = coins(np.array(scores), costs)
    gate = entering(table, 0, price)
    found = measure([gate], table, table.rows("tune"))
    utility = found.score[0] - price * found.cost_flops[0] / table.cost_flops[2]
    # Shrinkage of the regression may cost a thousandth of what is at stake.
    assert utility >= best_rule(table, price, gate.own_flops) - 2e-3 * (1 + price)


def entering(table, entry, price):
    """The gate that enters at a given configuration."""
    lattice, fit, tune = Lattice.of(table), table.rows("fit"), table.rows("tune")
    rows = np.r_[fit, tune]
    rules = induce(table, lattice, table.score[rows], rows, len(fit), np.array([price]))
    return gate_of(table, Grid.of(table), lattice, rules, 0, lattice.reachable(entry))


def dear(table, factor=1000):
    """The same at costs beside which a look is cheap."""
    costs = {name: factor * table.configs[name] for name in ("cost_flops", "readout_flops")}
    return replace(
        table, configs=table.configs.assign(**costs), increment_flops=factor * table.increment_flops
    )


def informative(make_table, n=2000, **given):
    """Signals that tell right from wrong, but not for sure."""
    table = dear(make_table(n, **given))
    rng = np.random.default_rng(7)
    noisy = table.score + 0.4 * rng.normal(size=table.score.shape)
    return replace(table, signals=np.stack([noisy, rng.random(noisy.shape)], -1).astype(np.float32))


def test_what_is_promised_is_what_comes(make_table):
    """The value that backward induction gives an entry is what the policy entering there earns on tune."""
    table = informative(make_table, 800)
    lattice, fit, tune = Lattice.of(table), table.rows("fit"), table.rows("tune")
    prices, rows = np.array([0.05, 0.5]), np.r_[fit, tune]
    rules = induce(table, lattice, table.score[rows], rows, len(fit), prices)
    family = gates(table, lattice, prices, score="hard")
    found = measure(family, table, tune)
    earned = found.score - prices * found.cost_flops / table.cost_flops[table.full]
    np.testing.assert_allclose(earned, rules.value[[0, 1], [g.nodes[0] for g in family]], atol=1e-6)


def test_blocks_of_prices_change_nothing(make_table, monkeypatch):
    table = informative(make_table, 400)
    prices = np.geomspace(0.01, 1, 5)
    whole = gates(table, Lattice.of(table), prices)
    monkeypatch.setattr("policies.anytime.induction.BLOCK_BYTES", 1)
    for one, other in zip(whole, gates(table, Lattice.of(table), prices), strict=True):
        assert one.nodes == other.nodes
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)


def test_signals_that_tell_something_are_used(make_table):
    """Against every static and their mixtures, and against one threshold along the depth."""
    table = informative(make_table)
    rows = table.rows("test")
    statics = table.score[rows].mean(0)

    def cost(algo, score, **given):
        found = measure(registry.train(algo, table, **given).family, table, rows)
        costs, scores = np.r_[found.cost_flops, table.cost_flops], np.r_[found.score, statics]
        return float(pareto.cost_at(costs, scores, score))

    for score in (0.75, 0.8, 0.85):
        static = float(pareto.cost_at(table.cost_flops, statics, score))
        assert cost("gate", score) < 0.7 * static
        assert cost("gate", score) < cost("threshold", score)


def test_signals_that_tell_nothing_are_worth_nothing(make_table):
    """Of random signals nothing is made: the policy is as good as statics, within what chance allows."""
    table = dear(make_table(2000))
    rows = table.rows("test")
    found = measure(registry.train("gate", table).family, table, rows)
    statics = pareto.score_at(table.cost_flops, table.score[rows].mean(0), found.cost_flops)
    assert (np.abs(found.score - statics) < 0.05).all()


def test_the_objective_is_met_on_tune(make_table):
    table = informative(make_table)
    full = table.score[table.rows("tune")].mean(0)[table.full]
    trained = registry.train("gate", table, max_drop=0.02)
    assert trained.met
    assert trained.score >= full - 0.02
    assert len(trained.family) == 33
    assert registry.train("gate", table, flops_target=0.5).cost_flops <= 0.5 * table.cost_flops.max()
    assert registry.train("gate", table, lambda_=0.3).policy.lambda_ == 0.3
    with pytest.raises(InfeasibleError):
        registry.train("gate", table, flops_target=0.01)
    for wrong in ({"target": "x"}, {"score": "x"}, {"along": ("layers",)}, {"lambda_": -1.0}):
        with pytest.raises(UsageError):
            registry.train("gate", table, **wrong)


def test_the_same_answer_is_learned_without_a_label(make_table):
    table = informative(make_table, 800)
    rng = np.random.default_rng(3)
    scrambled = replace(
        table,
        score=rng.random(table.score.shape, np.float32),
        nll=rng.random(table.score.shape, np.float32),
        samples=table.samples.assign(target=rng.permutation(table.samples["target"].to_numpy())),
    )
    one, two = (
        registry.train("gate", each, target="same-answer", max_drop=0.05) for each in (table, scrambled)
    )
    assert one.policy.nodes == two.policy.nodes
    np.testing.assert_array_equal(one.policy.weights, two.policy.weights)
    rows = table.rows("tune")
    decision = one.policy.select(table, rows)
    assert table.agreement[rows, decision.configuration].mean() >= 0.95
    assert one.score == pytest.approx(table.agreement[rows, decision.configuration].mean())


def test_groups_are_what_steps_connect(make_table):
    table = make_table(40)
    steps = table.increment_flops.copy()
    widths = table.configs["width"].to_numpy()
    steps[np.not_equal.outer(widths, widths)] = np.inf
    lattice = Lattice.of(replace(table, increment_flops=steps), ("tokens", "depth"))
    found = groups(lattice)
    assert sorted(map(len, found)) == [9, 9]
    for group in found:
        assert len(set(widths[group])) == 1


def test_verdicts_are_the_decisions_and_slack_is_no_overstatement(make_table):
    """Nudging every signal by less than the slack changes no verdict."""
    table = informative(make_table, 200)
    gate = registry.train("gate", table, lambda_=0.1).policy
    assert isinstance(gate, Stopper)
    rng = np.random.default_rng(0)
    for node in range(len(gate.nodes)):
        at = gate.nodes[node]
        looks = Looks.first(table.signal_names, at, table.signals[:, at], np.zeros(200))
        verdict = gate.verdict(looks)
        chosen = gate.gain(node, table.signals[:, at]).argmax(1)
        np.testing.assert_array_equal(verdict.go_to, np.array(gate.nodes)[gate.moves[node][chosen]])
        size = np.minimum(verdict.slack, 10.0)[:, None]
        nudged = table.signals[:, at] + 0.98 * size * rng.uniform(-1, 1, (200, 2))
        moved = gate.verdict(Looks.first(table.signal_names, at, nudged.astype(np.float32), np.zeros(200)))
        np.testing.assert_array_equal(moved.go_to, verdict.go_to)
        assert np.isfinite(verdict.slack).any() == (node < len(gate.nodes) - 1)


def test_signals_are_found_by_name(make_table):
    table = informative(make_table, 200)
    gate, rows = registry.train("gate", table, lambda_=0.1).policy, np.arange(200)
    turned = replace(table, signals=table.signals[..., ::-1], signal_names=table.signal_names[::-1])
    np.testing.assert_array_equal(
        gate.select(turned, rows).configuration, gate.select(table, rows).configuration
    )
    with pytest.raises(UsageError, match="policy gate needs the signal confidence"):
        gate.select(replace(table, signal_names=("a", "b")), rows)
    with pytest.raises(UsageError, match="policy gate needs the signal confidence"):
        gate.verdict(Looks.first(("a", "b"), gate.nodes[0], table.signals[:, 0], np.zeros(200)))


def test_ways_that_are_closed_are_told(make_table):
    table = informative(make_table, 200)
    gate = registry.train("gate", table, lambda_=0.01).policy
    closed = np.full_like(table.increment_flops, np.inf)
    np.fill_diagonal(closed, 0.0)
    with pytest.raises(FileError, match="no way from configuration"):
        gate.select(replace(table, increment_flops=closed), np.arange(200))


@pytest.mark.parametrize(
    "changed",
    [
        {"nodes": (0, 0, 1)},
        {"nodes": (0, 1, 99)},
        {"nodes": ()},
        {"moves": np.array([[0, 1], [0, 2], [2, 2]])},
        {"moves": np.array([[0, 1], [1, 3], [2, 2]])},
        {"moves": np.array([[1, 1], [1, 2], [2, 2]])},
        {"moves": np.array([0, 1, 2])},
        {"weights": np.zeros((3, 2, 5), np.float32)},
        {"weights": np.full((3, 1, 5), np.nan, np.float32)},
        {"lambda_": float("nan")},
        {"lambda_": -1.0},
        {"signal_names": ("a", "b")},
    ],
)
def test_a_gate_that_leads_in_circles_or_nowhere_is_refused(make_table, changed):
    scale = Standardiser(np.zeros(1), np.ones(1))
    right = {
        "grid": Grid.of(make_table(20)),
        "signal_names": ("confidence",),
        "nodes": (0, 1, 2),
        "moves": np.array([[0, 1], [1, 2], [2, 2]]),
        "regressors": (Regressors(scale, np.zeros((3, 1))),) * 3,
        "weights": np.zeros((3, 1, 5), np.float32),
        "lambda_": 0.1,
    }
    Gate(**right)
    with pytest.raises(UsageError):
        Gate(**(right | changed))


def test_a_table_without_continuation_leaves_static_choices(make_table):
    policy = registry.train("gate", make_table(400, increment_flops=None)).policy
    assert len(policy.nodes) == 1
    assert policy.own_flops == 0


def test_a_signal_that_never_varies_does_no_harm(make_table):
    table = informative(make_table, 400)
    still = np.concatenate([table.signals, np.ones_like(table.signals[..., :1])], axis=-1)
    more = replace(table, signals=still, signal_names=(*table.signal_names, "still"))
    one, two = (registry.train("gate", each, lambda_=0.1) for each in (table, more))
    assert two.score == pytest.approx(one.score, abs=0.02)
