import random
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import policies
from policies import base
from policies.env import Configure
from policies.errors import InfeasibleError, UsageError
from policies.evaluate import evaluate
from policies.rl import recipes, training
from policies.rl.vec_env import TaskVecEnv
from policies.table import OutcomeTable

QUICK = {"timesteps": 2048, "n_envs": 64}


def easy_table(n=4000, *, share=0.5, seed=0):
    """One feature of four decides: where it is high, only the dear configuration is right."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4)).astype(np.float32)
    hard = features[:, 2] > np.quantile(features[:, 2], 1 - share)
    grid = [(t, d) for t in (1, 2) for d in (1, 2)]
    cost = np.array([10_000, 30_000, 40_000, 100_000])
    score = np.stack([~hard, ~hard, ~hard, np.ones(n, bool)], axis=1)
    return OutcomeTable.from_arrays(
        configs=pd.DataFrame(grid, columns=["tokens", "depth"]).assign(
            cost_flops=cost, readout_flops=0, memory_bytes=0
        ),
        score=score.astype(np.float32),
        samples=pd.DataFrame({"split": np.resize(["fit", "fit", "tune", "test"], n)}),
        features=features,
        feature_flops=10,
    )


def utility(policy, table, price):
    rows = table.rows("test")
    decision = policy.select(table, rows)
    score = table.score[rows, decision.configuration]
    return float((score - price * (decision.cost_flops - policy.own_flops) / table.cost_flops.max()).mean())


def gain(policy, table, price):
    """Of what the oracle gains over the best static choice, the part that the policy gains."""
    outcome = table.score[table.rows("test")] - price * table.cost_flops / table.cost_flops.max()
    static, oracle = outcome.mean(axis=0).max(), outcome.max(axis=1).mean()
    return (utility(policy, table, price) - static) / (oracle - static)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algo", "actions", "timesteps"),
    [("ppo", "discrete", 100_000), ("ppo", "factored", 100_000), ("a2c", "discrete", 100_000)],
)
def test_what_is_easy_is_learned(algo, actions, timesteps):
    """At least 90 % of what the oracle gains over the best static, at three prices, from one training."""
    table = easy_table()
    policy = policies.train(algo, table, lambda_=0.3, actions=actions, timesteps=timesteps, n_envs=256).policy
    for price in (0.2, 0.3, 0.5):
        assert gain(policy.at(price), table, price) >= 0.9


@pytest.mark.slow
def test_dqn_learns_too_only_slower():
    table = easy_table()
    policy = policies.train("dqn", table, lambda_=0.5, timesteps=100_000).policy
    assert gain(policy, table, 0.5) >= 0.75


@pytest.mark.slow
def test_a_budget_is_kept_on_tune_and_told_on_test():
    table = easy_table()
    network = 2 * (12 * 64 + 64 * 64 + 64 * 4) + 2 * 4
    for target in (0.7, 0.85):
        trained = policies.train("ppo", table, flops_target=target, timesteps=60_000, n_envs=256)
        assert trained.cost_flops <= target * table.cost_flops.max()
        found = evaluate(trained.policy, table, resamples=100)
        assert found.policy_flops == network
        assert found.overhead_flops == pytest.approx(network + 10)
        assert found.score.mean > 0.95


@pytest.mark.parametrize(
    ("algo", "actions"), [("ppo", "discrete"), ("ppo", "factored"), ("a2c", "factored"), ("dqn", "discrete")]
)
def test_the_kept_network_decides_as_stable_baselines_does(make_table, algo, actions):
    table = make_table(400)
    recipe = training.adjusted(recipes.recipe(algo), 2048, 64, 0)
    objective = policies.registry.Objective(lambda_=0.3)
    policy = training._untrained(table, algo, objective, actions, algo)
    task = Configure.of(table, lambda_=policy.prices, actions=actions)
    model = training.model_of(algo, TaskVecEnv(task, 64), recipe, 0)
    model.learn(2048)
    policy = training.replace(policy, network=training.extract(model))
    seen = task.observe(task.begin(np.random.default_rng(1), 500))
    action, _ = model.predict(seen, deterministic=True)
    np.testing.assert_array_equal(
        policy.actions.best(policy.network(seen)), policy.actions.configuration(action)
    )
    rows = np.arange(table.n_samples)
    shown = np.concatenate(
        [policy.scale(table.features), np.repeat(policy.prices.code(np.array([0.3])), len(rows), axis=0)],
        axis=1,
    )
    action, _ = model.predict(shown.astype(np.float32), deterministic=True)
    np.testing.assert_array_equal(
        policy.select(table, rows).configuration, policy.actions.configuration(action)
    )


@pytest.mark.parametrize("algo", ["ppo", "a2c", "dqn"])
def test_same_seed_same_policy(make_table, algo):
    table = make_table(200)
    first, again, other = (
        policies.train(algo, table, lambda_=0.5, seed=seed, timesteps=6144, n_envs=64).policy.arrays()
        for seed in (3, 3, 4)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert any((array != other[name]).any() for name, array in first.items())


def test_the_world_is_left_as_it_was(make_table, capfd, tmp_path, monkeypatch):
    """Random generators, threads, stdout and the temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    threads = torch.get_num_threads()
    policies.train("ppo", make_table(100), lambda_=0.1, **QUICK)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_progress_is_told(make_table):
    told = []
    policies.train("ppo", make_table(100), progress=lambda *done: told.append(done), **QUICK)
    assert told[-1] == (2048, 2048)
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"algo": "dqn", "actions": "factored"}, "dqn takes no factored actions"),
        ({"actions": "free"}, "actions free: not known"),
        ({"timesteps": 0}, "timesteps 0"),
        ({"seed": 2**70}, "seed"),
        ({"n_envs": -1}, "n_envs -1"),
    ],
)
def test_wrong_arguments_are_refused_before_training(make_table, given, told):
    with pytest.raises(UsageError, match=told):
        policies.train(given.pop("algo", "ppo"), make_table(100), **given)


def test_a_hopeless_budget_is_refused_before_training(make_table):
    table = make_table(100)
    with pytest.raises(InfeasibleError, match="the cheapest is"):
        policies.train("ppo", table, flops_target=0.5, timesteps=10**9)


def test_a_table_without_features_still_trains(make_table):
    table = make_table(200, features=None, feature_names=None, feature_flops=0)
    policy = policies.train("ppo", table, lambda_=0.1, **QUICK).policy
    assert len(set(policy.select(table, np.arange(200)).configuration)) == 1


def test_another_price_is_another_policy_of_the_same_network(make_table):
    policy = policies.train("ppo", make_table(200), lambda_=0.1, **QUICK).policy
    dear = policy.at(2.0)
    assert (policy.lambda_, dear.lambda_) == (0.1, 2.0)
    assert dear.network is policy.network


@pytest.mark.slow
def test_the_default_recipe_is_quick_enough(make_table):
    """One million episodes of 64 features and 60 configurations: half a minute alone, so 120 s in company."""
    import time

    rng = np.random.default_rng(0)
    table = make_table(
        8000,
        tokens=(1, 2, 4, 8, 16),
        depths=(1, 2, 3, 4, 5, 6),
        features=rng.random((8000, 64)),
        feature_names=None,
    )
    with warnings.catch_warnings():
        start = time.process_time()
        trained = policies.train("ppo", table, timesteps=100_000)
    assert time.process_time() - start < 12
    assert isinstance(trained, base.Trained)
