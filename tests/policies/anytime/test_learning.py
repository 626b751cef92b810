"""PPO, A2C and DQN that look: what is easy is learned, what cannot work is refused before training."""

import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from policies import base, registry
from policies.anytime.prices import learned_range, price_range
from policies.base import measure
from policies.errors import InfeasibleError, UnavailableError, UsageError
from policies.guarantee import Promise
from policies.objective import Objective
from policies.rl import anytime, recipes, training
from policies.table import OutcomeTable

QUICK = {"timesteps": 2048, "n_envs": 64}


def coins(n=1200):
    """Depths 1 to 3. A fair coin shows at each of the first two: heads, and the answer is right; 3 is always.

    So stop at heads and go on at tails, unless the last step is too dear.
    """
    both = np.array(list(product((0, 1), repeat=2)))[np.arange(n) % 4]
    cost = np.array([1e7, 2e7, 1e8])
    steps = np.where(np.subtract.outer(cost, cost) >= 0, np.inf, cost[None] - cost[:, None])
    np.fill_diagonal(steps, 0.0)
    return OutcomeTable.from_arrays(
        configs=pd.DataFrame({"depth": [1, 2, 3], "cost_flops": cost, "readout_flops": 0, "memory_bytes": 0}),
        score=np.column_stack([both, np.ones(n)]),
        signals=np.column_stack([both, np.zeros(n)])[..., None],
        signal_names=("coin",),
        samples=pd.DataFrame({"split": np.repeat(["fit", "tune", "calibration", "test"], n // 4)}),
        increment_flops=steps,
    )


def optimum(price):
    """Of the best rule on coins: enter at 1, go on at tails if it pays, and again at tails if that does."""
    last = max(0.0, 1 - 0.8 * price)
    onward = max(0.0, 0.5 + 0.5 * last - 0.1 * price, 1 - 0.9 * price)
    return 0.5 + 0.5 * onward - 0.1 * price


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "timesteps"), [("ppo", 100_000), ("a2c", 100_000), ("dqn", 100_000)])
def test_the_best_rule_is_learned(algo, timesteps):
    """One training, four prices: at least 95 % of what the best rule gains over the best static choice."""
    table = coins()
    given = {"algo": algo, "timesteps": timesteps, "n_envs": 64, "score": "hard"}
    learned = anytime.learn_anytime(table, Objective(lambda_=0.3), **given)
    prices = [0.1, 0.3, 0.6, 1.0]
    for price, policy in zip(prices, learned.family(prices), strict=True):
        found = measure([policy], table, table.rows("test"))
        cost = (found.cost_flops[0] - policy.own_flops * 1.5) / table.cost_flops[2]
        static = max(0.5 - 0.1 * price, 0.5 - 0.2 * price, 1 - price)
        gained = (found.score[0] - price * cost - static) / (optimum(price) - static)
        assert gained >= 0.95, (price, gained)


@pytest.mark.slow
def test_learning_beats_entering_and_statics(make_walkable):
    """On many configurations, at the prices of the family's middle, on samples that nothing was chosen on."""
    table = make_walkable(4000)
    learned = anytime.learn_anytime(table, Objective(), timesteps=150_000, n_envs=128)
    rows, full, gains = table.rows("test"), table.cost_flops[table.full], []
    statics = table.score[rows].mean(0)
    for policy in learned.family([0.1, 0.2, 0.4]):
        found = measure([policy], table, rows)
        utility = found.score[0] - policy.lambda_ * found.cost_flops[0] / full
        outcomes = statics - policy.lambda_ * table.cost_flops / full
        assert utility > outcomes[policy.nodes[0]]
        gains.append(utility - outcomes.max())
    assert min(gains) > 0.01


@pytest.mark.parametrize("algo", ["ppo", "a2c", "dqn"])
def test_same_seed_same_policy_kept_and_loaded(make_walkable, tmp_path, algo):
    table = make_walkable(200)
    timesteps = 2048 if algo != "dqn" else 6144
    first, again, other = (
        anytime.learn_anytime(table, Objective(), algo=algo, seed=seed, timesteps=timesteps, n_envs=64)
        for seed in (3, 3, 4)
    )
    for name, array in first.looking[0].arrays().items():
        np.testing.assert_array_equal(array, again.looking[0].arrays()[name])
    assert any(
        (array != other.looking[0].arrays()[name]).any()
        for name, array in first.looking[0].network.arrays().items()
    )
    policy = first.looking[0].at(0.2)
    base.save(policy, tmp_path)
    loaded = registry.load(tmp_path, table)
    assert (loaded.kind, loaded.name) == (f"anytime-{algo}", f"anytime-{algo}")
    rows = np.arange(table.n_samples)
    np.testing.assert_array_equal(
        loaded.select(table, rows).configuration, policy.select(table, rows).configuration
    )


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_the_kept_network_decides_as_stable_baselines_does(make_walkable, algo):
    """On what is observed in the environment, wherever no two actions lead to one goal."""
    from policies.anytime.env import Anytime
    from policies.rl.vec_env import TaskVecEnv

    table = make_walkable(200)
    task = Anytime.of(table, lambda_=(0.05, 2.0), entries=[0])
    recipe = training.adjusted(recipes.ANYTIME_RECIPES[algo], 1024, 64, 0)
    many = TaskVecEnv(task, 64)
    model = training.model_of(algo, many, recipe, 0)
    seen, network = many.reset(), training.extract(model)
    action, _ = model.predict(seen, deterministic=True)
    np.testing.assert_array_equal(network(seen).argmax(axis=1), action)
    assert recipe.hidden == tuple(len(bias) for bias in network.biases[:-1])


def test_every_objective_and_the_order_of_the_family(make_walkable):
    table = make_walkable(400)
    tune = table.score[table.rows("tune")].mean(0)[table.full]
    trained = registry.train("ppo", table, env="anytime", max_drop=0.05, **QUICK)
    prices = [policy.lambda_ for policy in trained.family]
    assert prices == sorted(prices)
    assert len(prices) >= 33
    assert trained.met == (trained.score >= tune - 0.05)
    within = registry.train("ppo", table, env="anytime", flops_target=0.4, **QUICK)
    assert within.cost_flops <= 0.4 * table.cost_flops.max()
    one = registry.train("a2c", table, env="anytime", lambda_=0.3, **QUICK)
    assert [policy.lambda_ for policy in one.family] == [0.3]
    with pytest.raises(InfeasibleError, match="the cheapest is"):
        registry.train("ppo", table, env="anytime", flops_target=0.001, timesteps=10**9)


def test_a_guarantee_may_be_asked_for(make_walkable):
    table = make_walkable(400)
    for promise in (Promise(0.1), Promise(0.1, loss="answer")):
        trained = registry.train("ppo", table, env="anytime", promise=promise, best_effort=True, **QUICK)
        assert trained.certificate["limit"] == 0.1
        assert trained.policy.kind == "anytime-ppo"


def test_the_same_answer_is_learned_without_a_label(make_walkable):
    table, rng = make_walkable(400), np.random.default_rng(3)
    scrambled = replace(
        table,
        score=rng.random(table.score.shape, np.float32),
        nll=rng.random(table.score.shape, np.float32),
        samples=table.samples.assign(target=rng.permutation(table.samples["target"].to_numpy())),
    )
    one, two = (
        registry.train("ppo", each, env="anytime", target="same-answer", max_drop=0.05, **QUICK)
        for each in (table, scrambled)
    )
    assert one.score == two.score
    for name, array in one.policy.arrays().items():
        np.testing.assert_array_equal(array, two.policy.arrays()[name])


def test_prices_to_learn_end_where_much_is_lost(make_walkable):
    """Unless the objective asks for more."""
    table = make_walkable(400)
    every = price_range(table, Objective())
    usual = learned_range(table, Objective(), every)
    means, share = table.score[table.rows("fit")].mean(0), table.cost_flops / table.cost_flops.max()
    best = (means - usual.high / 1.05 * share).argmax()
    assert means[best] >= means[table.full] - 0.05
    assert usual.low == every.low
    assert usual.high < every.high
    for objective in (Objective(max_drop=0.2), Objective(flops_target=0.2), Objective(lambda_=5.0)):
        assert learned_range(table, objective, price_range(table, objective)).high > usual.high


def test_no_look_where_none_pays(make_walkable):
    """At a price at which everything but the cheapest is too dear, the cheapest is run, and nothing else."""
    table = make_walkable(400)
    learned = anytime.learn_anytime(table, Objective(), **QUICK)
    (policy,) = learned.family([1e6])
    assert (len(policy.nodes), policy.own_flops) == (1, 0)
    decision = policy.select(table, np.arange(50))
    assert (decision.cost_flops == table.cost_flops.min()).all()


@pytest.mark.parametrize(
    ("algo", "given", "told"),
    [
        ("gate", {}, "gate learns in no environment"),
        ("threshold", {"lambda_": 0.1}, "threshold learns in no environment"),
        ("ppo", {"env": "anytme"}, "'anytme': not known, did you mean 'anytime'"),
        ("ppo", {"actions": "factored"}, "ppo in anytime has no option actions"),
        ("ppo", {"env": "configure", "score": "soft"}, "ppo in configure has no option score"),
        ("ppo", {"target": "nothing"}, "target 'nothing'"),
        ("ppo", {"score": "guess"}, "score 'guess'"),
        ("ppo", {"timesteps": 0}, "timesteps 0"),
        ("dqn", {"seed": -1}, "seed -1"),
        ("a2c", {"n_envs": 0}, "n_envs 0"),
    ],
)
def test_what_cannot_work_is_refused_before_training(make_walkable, algo, given, told):
    with pytest.raises(UsageError, match=told):
        registry.train(algo, make_walkable(80), **({"env": "anytime"} | given))


def test_a_table_that_tells_of_no_way_on_is_refused(make_table):
    with pytest.raises(UsageError, match="no way to go on"):
        registry.train("ppo", make_table(80, increment_flops=None), env="anytime")


def test_without_stable_baselines_the_command_is_told(make_walkable, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.logger", None)
    with pytest.raises(UnavailableError, match="learning needs stable_baselines3"):
        registry.train("ppo", make_walkable(80), env="anytime", **QUICK)


def test_the_usual_names(make_walkable):
    assert registry.default_name("ppo") == registry.default_name("ppo", "configure") == "ppo"
    assert registry.default_name("ppo", "anytime") == "anytime-ppo"
    trained = registry.train("ppo", make_walkable(80), env="configure", lambda_=0.1, **QUICK)
    assert trained.policy.kind == "ppo"
