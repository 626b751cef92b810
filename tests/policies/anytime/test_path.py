from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import pareto, registry
from policies.anytime.lattice import Lattice
from policies.anytime.path import Each, One, Path
from policies.anytime.pathfinding import Pathfinder
from policies.base import measure
from policies.encoding import Prices
from policies.errors import FileError, InfeasibleError, UsageError
from policies.grid import Grid
from policies.threshold import Threshold

QUICK = {"trials": 15}


@pytest.fixture(scope="module")
def table(make_walkable):
    return make_walkable(600)


def utility(policy, table, rows, price):
    found = measure([policy], table, rows)
    return float(found.score[0] - price * found.cost_flops[0] / table.cost_flops[table.full])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), price=st.floats(0.01, 3), coarse=st.booleans())
def test_no_other_threshold_of_a_state_is_better(make_walkable, seed, price, coarse):
    """The others as they are; against all that differ at all on the samples learned from."""
    table = make_walkable(60, seed=seed)
    rng = np.random.default_rng(seed)
    signals = rng.integers(0, 3, table.signals.shape) / 2 if coarse else rng.random(table.signals.shape)
    table = replace(table, signals=signals.astype(np.float32))
    rows, chain = table.rows("fit"), (0, 7, 14)
    judge = Each(table, rows, table.score[rows], np.array([price]), "confidence")
    found = judge.policy(chain, 0, "path")
    utility_found = utility(found, table, rows, price)
    assert utility_found >= judge.utilities(chain)[0] - 1e-6
    for state in range(len(found.thresholds)):
        for tau in [*np.unique(table.signals[rows, chain[state], 0]).tolist(), 9.0]:
            taus = (*found.thresholds[:state], tau, *found.thresholds[state + 1 :])
            assert utility(replace(found, thresholds=taus), table, rows, price) <= utility_found + 1e-6


def test_one_threshold_is_what_the_threshold_policy_pays(table):
    rows, chain = table.rows("fit"), (0, 4, 14)
    prices = np.array([0.05, 0.5])
    judge = One(table, rows, table.score[rows], prices, "confidence")
    for at, price in enumerate(prices):
        policy = judge.policy(chain, at, "one")
        assert isinstance(policy, Threshold)
        assert utility(policy, table, rows, price) == pytest.approx(judge.utilities(chain)[at], abs=1e-6)
        others = [replace(policy, tau=tau) for tau in np.linspace(-1, 2, 40).tolist()]
        best = max(utility(other, table, rows, price) for other in others)
        assert judge.utilities(chain)[at] >= best - 0.02


def test_of_two_states_a_threshold_each_is_one_for_all(table):
    """Where there is but one threshold to choose, both choose it; with more, each for itself is better."""
    rows, prices = table.rows("fit"), np.geomspace(0.01, 2, 9)
    each, one = (kind(table, rows, table.score[rows], prices, "confidence") for kind in (Each, One))
    np.testing.assert_allclose(each.utilities((0,)), one.utilities((0,)), atol=1e-6)
    look = 3 * prices / table.cost_flops[table.full]
    assert (each.utilities((6, 14)) >= one.utilities((6, 14)) - look).all()
    gained = each.utilities((0, 4, 8)) - one.utilities((0, 4, 8))
    assert gained.min() > -1e-4
    assert gained.max() > 0.002


def proposals(table, trials, seed):
    """Every path that is judged, in turn."""
    seen = []

    def judged(chain):
        seen.append(chain)
        return np.array([float(len(chain))])

    finder = Pathfinder.of(Lattice.of(table), table, states=4, trials=trials, seed=seed)
    finder.search(judged, np.array([0.1]), Prices(0.05, 0.5))
    return seen


def test_paths_go_on_and_never_back(table):
    """What is proposed has steps that can be gone, on one width, further on some axis and back on none."""
    seen, others = proposals(table, 80, seed=1), proposals(table, 80, seed=2)
    axes = table.configs[["tokens", "width", "depth"]].to_numpy()
    for chain in seen:
        states = axes[list(chain)]
        assert len(set(chain)) == len(chain) <= 4
        assert (np.diff(states, axis=0) >= 0).all()
        assert len(set(states[:, 1])) == 1
        assert np.isfinite(table.increment_flops[list(chain[:-1]), list(chain[1:])]).all()
    assert len(set(seen)) == len(seen)
    assert {len(chain) for chain in seen} == {1, 2, 3, 4}
    assert {states for states in axes[[chain[0] for chain in seen], 1]} == {8, 16}
    assert seen != others


def test_the_search_finds_a_path_that_is_worth_finding(table):
    """Reward the states of one path only: the best that is tried comes within a state of it."""
    wanted = {0, 4, 8}

    def judged(chain):
        return np.array([len(wanted & set(chain)) - 0.1 * len(set(chain) - wanted)])

    finder = Pathfinder.of(Lattice.of(table), table, states=3, trials=80)
    (found,) = finder.search(judged, np.array([0.1]), Prices(0.05, 0.5))
    assert judged(found)[0] >= 1.9


def test_what_one_price_tries_serves_all(table):
    """No price could do better by another price's path."""
    rows, prices = table.rows("fit"), np.geomspace(0.01, 2, 7)
    judge = Each(table, rows, table.score[rows], prices, "confidence")
    best = Pathfinder.of(Lattice.of(table), table, trials=40).search(judge.utilities, prices, Prices(0.02, 1))
    all_of_them = np.stack([judge.utilities(chain) for chain in best])
    np.testing.assert_allclose(np.diag(all_of_them), all_of_them.max(axis=0))


@pytest.mark.parametrize("algo", ["path", "one-threshold"])
def test_looking_pays_where_signals_tell(table, algo):
    rows = table.rows("test")
    family = registry.train(algo, table, **QUICK).family
    found, statics = measure(family, table, rows), table.score[rows].mean(0)
    costs, scores = np.r_[found.cost_flops, table.cost_flops], np.r_[found.score, statics]
    for score in (0.75, 0.8, 0.85):
        static = float(pareto.cost_at(table.cost_flops, statics, score))
        assert float(pareto.cost_at(costs, scores, score)) < 0.8 * static


def test_the_objective_is_met_on_tune(table):
    full = table.score[table.rows("tune")].mean(0)[table.full]
    trained = registry.train("path", table, max_drop=0.02, **QUICK)
    assert trained.met
    assert trained.score >= full - 0.02
    prices = [policy.lambda_ for policy in trained.family]
    assert prices == sorted(prices)
    assert len(prices) == 33
    assert registry.train("path", table, lambda_=0.3, **QUICK).policy.lambda_ == 0.3
    assert registry.train("path", table, flops_target=0.5, **QUICK).cost_flops <= 0.5 * table.cost_flops.max()
    with pytest.raises(InfeasibleError):
        registry.train("path", table, flops_target=0.001, **QUICK)


def test_same_seed_same_policy_and_no_label_for_the_same_answer(table):
    rng = np.random.default_rng(3)
    scrambled = replace(
        table,
        score=rng.random(table.score.shape, np.float32),
        nll=rng.random(table.score.shape, np.float32),
        samples=table.samples.assign(target=rng.permutation(table.samples["target"].to_numpy())),
    )
    one, two = (
        registry.train("path", each, target="same-answer", max_drop=0.05, seed=4, **QUICK).family
        for each in (table, scrambled)
    )
    assert one == two
    assert len({policy.chain for policy in one}) > 1


def test_progress_is_told_and_nothing_is_said(table, capfd):
    told = []
    registry.train("path", table, progress=lambda *done: told.append(done), trials=23)
    assert told[-1] == (23, 23)
    assert told == sorted(told)
    assert capfd.readouterr() == ("", "")


def test_a_table_without_continuation_leaves_static_choices(make_table):
    policy = registry.train("path", make_table(200, increment_flops=None), **QUICK).policy
    assert len(policy.chain) == 1
    assert policy.own_flops == 0


@pytest.mark.parametrize(
    "given",
    [
        {"trials": 0},
        {"states": 0},
        {"states": 99},
        {"seed": -1},
        {"signal": "courage"},
        {"target": "x"},
        {"score": "x"},
        {"along": ("layers",)},
    ],
)
@pytest.mark.parametrize("algo", ["path", "one-threshold"])
def test_wrong_arguments_are_refused(table, algo, given):
    with pytest.raises(UsageError):
        registry.train(algo, table, **given)


@pytest.mark.parametrize(
    "changed",
    [
        {"chain": ()},
        {"chain": (0, 0, 1)},
        {"chain": (0, 1, 99)},
        {"thresholds": (0.5,)},
        {"thresholds": (0.5, float("nan"))},
        {"thresholds": (0.5, float("inf"))},
        {"lambda_": -1.0},
        {"lambda_": float("nan")},
    ],
)
def test_a_path_that_cannot_be_gone_is_refused(table, changed):
    right = {"grid": Grid.of(table), "chain": (0, 1, 2), "thresholds": (0.5, 0.5), "lambda_": 0.1}
    Path(**right)
    with pytest.raises(UsageError):
        Path(**(right | changed))


def test_ways_that_are_closed_are_told(table):
    closed = np.full_like(table.increment_flops, np.inf)
    np.fill_diagonal(closed, 0.0)
    policy = Path(Grid.of(table), (0, 1), (0.5,), 0.1)
    with pytest.raises(FileError, match="no way along"):
        policy.select(replace(table, increment_flops=closed), np.arange(9))
