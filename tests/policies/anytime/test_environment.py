"""`adap/Anytime-v0`: what it pays is what a policy is charged, and many at once are one at a time."""

import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_for_sb3

from policies import gym
from policies.anytime.env import Anytime, AnytimeEnv
from policies.anytime.lattice import Lattice
from policies.anytime.seen import Sight
from policies.anytime.soft import aimed, scores_of
from policies.encoding import CLIP, Prices
from policies.errors import FileError, UnavailableError, UsageError
from policies.rl import anytime
from policies.rl.recipes import ANYTIME_RECIPES

VARIANTS = [
    {},
    {"lambda_": (0.05, 2.0)},
    {"lambda_": (0.05, 2.0), "entries": (0, 3, 9)},
    {"lambda_": 0.0, "score": "hard", "split": "test"},
    {"target": "same-answer", "look_flops": 700.0},
    {"along": ("depth",)},
]


@pytest.fixture(scope="module")
def table(make_walkable):
    return make_walkable(200)


@pytest.mark.filterwarnings("ignore:.*the action space.*:UserWarning")
@pytest.mark.parametrize("given", VARIANTS)
def test_gymnasium_and_stable_baselines_find_nothing_wrong(table, given):
    check_env(gymnasium.make(gym.ANYTIME, table=table, **given).unwrapped)
    check_for_sb3(AnytimeEnv(table, **given))


@pytest.mark.parametrize("given", VARIANTS)
def test_many_at_once_equal_one_at_a_time(table, given):
    one, many = AnytimeEnv(table, **given), gym.vec_env(gym.ANYTIME, table=table, n_envs=1, seed=7, **given)
    one.action_space.seed(0)
    seen, _ = one.reset(seed=7)
    np.testing.assert_array_equal(many.reset()[0], seen)
    episodes = 0
    for _ in range(200):
        action = one.action_space.sample()
        seen, reward, terminated, truncated, _ = one.step(action)
        after, rewards, ended, _ = many.step(np.asarray([action]))
        assert (ended[0], truncated) == (terminated, False)
        assert rewards[0] == np.float32(reward)
        if terminated:
            seen, _ = one.reset()
            episodes += 1
        np.testing.assert_array_equal(after[0], seen)
    assert episodes > 20


@pytest.mark.parametrize("given", VARIANTS)
def test_an_episode_earns_what_it_gains_less_what_it_executes(table, given):
    """Step by step against the table, with random actions; and no longer than the lattice allows."""
    env = AnytimeEnv(table, **given)
    env.action_space.seed(1)
    aim = aimed(table, given.get("target", "score"))
    rows = table.rows(given.get("split", "fit"))
    scores, full = scores_of(aim, given.get("score"))(aim, rows), table.cost_flops[table.full]
    lattice, look = Lattice.of(table, given.get("along")), given.get("look_flops", 0.0)
    levels = sum(table.configs[axis].nunique() - 1 for axis in ("tokens", "depth"))
    for seed in range(60):
        _, told = env.reset(seed=seed)
        begun, at, total, terminated, steps = told["configuration"], told["configuration"], 0.0, False, 0
        cost = table.cost_flops[at] + look
        while not terminated:
            action = env.action_space.sample()
            _, reward, terminated, _, now = env.step(action)
            goal = lattice.moves[at, action]
            assert now["configuration"] == goal
            assert terminated == (goal == at or lattice.ends[goal])
            assert reward == 0 or goal != at
            cost += 0.0 if goal == at else table.increment_flops[at, goal] + look
            at, total, steps = goal, total + reward, steps + 1
        spent = (cost - table.cost_flops[begun] - look) / full
        gained = scores[told["row"], at] - scores[told["row"], begun]
        assert total == pytest.approx(gained - told["lambda"] * spent, abs=1e-5)
        assert now["cost_share"] == pytest.approx(cost / full, rel=1e-5)
        assert steps <= levels + 1


def random_policy(table, entry, prices, seed=5):
    """A policy over what can be reached from `entry`, with a network of random weights."""
    lattice, rng = Lattice.of(table), np.random.default_rng(seed)
    sight, recipe = Sight.fit(table, lattice), replace(ANYTIME_RECIPES["ppo"], hidden=(9,))
    policy = anytime._untrained(table, lattice, sight, prices, "ppo", "random", recipe)
    policy = anytime.over(policy, lattice, sight, lattice.reachable(entry)).at(0.3)
    weights = tuple(rng.normal(size=layer.shape) for layer in policy.network.weights)
    return replace(policy, network=replace(policy.network, weights=weights))


def test_a_policy_sees_and_pays_in_use_what_it_saw_and_paid_in_learning(table):
    """The same path, sample by sample: what is observed, where it ends, and the utility."""
    prices, entry = Prices(0.05, 2.0), 0
    policy = random_policy(table, entry, prices)
    assert policy.own_flops > 0
    given = {"lambda_": prices, "entries": [entry], "score": "hard", "look_flops": policy.own_flops}
    task = Anytime.of(table, **given)
    rows, full, ends, lengths = table.rows("fit"), table.cost_flops[table.full], [], []
    decision = policy.select(table, rows)
    for row in range(len(rows)):
        walk = task.begin(np.random.default_rng(0), 1)
        walk.row[:], walk.lambda_[:] = row, policy.lambda_
        walk.shown[:] = prices.code(np.array([policy.lambda_]))
        walk.signals = task.signals[[row * table.n_configs + entry]]
        total, ended, steps, before = 0.0, False, 0, np.zeros((1, 2), np.float32)
        while not ended:
            node, seen = policy.nodes.index(walk.at[0]), task.observe(walk)
            cost = np.array([float(walk.cost[0]) * full])
            shown = policy.inputs(node, walk.signals, before, cost)
            np.testing.assert_allclose(shown, seen, atol=1e-5)
            before = walk.signals
            action = policy.advantage(node, walk.signals, before - walk.change, cost).argmax(axis=1)
            reward, (ended,) = task.step(walk, action)
            total, steps = total + float(reward[0]), steps + 1
        score = table.score[rows[row], decision.configuration[row]]
        utility = score - policy.lambda_ * decision.cost_flops[row] / full
        begun = table.score[rows[row], entry] - policy.lambda_ * float(task.entry_share[entry])
        assert walk.at[0] == decision.configuration[row]
        assert begun + total == pytest.approx(utility, abs=1e-5)
        ends.append(walk.at[0])
        lengths.append(steps)
    assert len(set(ends)) > 2
    assert max(lengths) > 1


def test_scaled_rewards_keep_the_order_of_actions(table):
    given = {"table": table, "lambda_": (0.05, 2.0), "n_envs": 64, "seed": 1}
    plain, scaled = gym.vec_env(gym.ANYTIME, **given), gym.vec_env(gym.ANYTIME, scale_rewards=True, **given)
    plain.reset(), scaled.reset()
    price, action = plain.episodes.lambda_.copy(), np.arange(64) % plain.action_space.n
    first, second = plain.step(action)[1], scaled.step(action)[1]
    np.testing.assert_allclose(first, second * (Anytime.reward_unit + price), rtol=1e-5)
    assert first.any()


def test_what_is_returned_is_not_changed_later(table):
    """A learner keeps observations, rewards and ends while the environment goes on."""
    many = gym.vec_env(gym.ANYTIME, table=table, lambda_=(0.05, 2.0), n_envs=50, seed=0)
    rng = np.random.default_rng(0)
    kept = [many.reset()]
    copies = [kept[0].copy()]
    for _ in range(10):
        seen, reward, ended, _ = many.step(rng.integers(many.action_space.n, size=50))
        kept += [seen, reward, ended]
        copies += [seen.copy(), reward.copy(), ended.copy()]
    for one, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(one, copy)


def test_what_is_seen_is_finite_and_within_its_box(table):
    wild = replace(table, signals=(table.signals * 1e30).astype(np.float32))
    many = gym.vec_env(gym.ANYTIME, table=wild, lambda_=(0.05, 2.0), n_envs=50, seed=0)
    assert np.abs(many.reset()).max() <= CLIP
    assert many.observation_space.contains(many.step(np.ones(50, int))[0][0])


def test_the_default_entry_is_the_cheapest_that_reaches_the_full_configuration(table):
    task = Anytime.of(table)
    assert task.entries.tolist() == [3]  # t1 w16 d1: of the full configuration's width
    assert (Anytime.of(table, entries=[0]).entries == [0]).all()


@pytest.mark.parametrize(
    "given",
    [
        {"lambda_": -1.0},
        {"lambda_": float("nan")},
        {"lambda_": (0.0, 1.0)},
        {"entries": []},
        {"entries": [99]},
        {"entries": [-1]},
        {"entries": [0.5]},
        {"target": "nothing"},
        {"score": "none"},
        {"along": ("layers",)},
        {"split": "holdout"},
    ],
)
def test_senseless_arguments_are_refused(table, given):
    with pytest.raises((UsageError, FileError)):
        AnytimeEnv(table, **given)


def test_the_folder_of_a_table_does(table, tmp_path):
    table.save(tmp_path / "table")
    here, there = (gymnasium.make(gym.ANYTIME, table=one) for one in (table, str(tmp_path / "table")))
    assert here.reset(seed=3)[0].tolist() == there.reset(seed=3)[0].tolist()
    with pytest.raises(FileError):
        gymnasium.make(gym.ANYTIME, table=tmp_path / "nowhere")


def test_vec_envs_by_name(table, monkeypatch):
    assert gym.vec_env(gym.CONFIGURE, table=table, n_envs=5, lambda_=(0.1, 1.0)).reset().shape == (5, 11)
    with pytest.raises(UsageError, match="'adap/Anything-v0': not known"):
        gym.vec_env("adap/Anything-v0", table=table)
    with pytest.raises(UsageError, match="n_envs 0"):
        gym.vec_env(gym.ANYTIME, table=table, n_envs=0)
    monkeypatch.setitem(sys.modules, "policies.rl.vec_env", None)
    with pytest.raises(UnavailableError) as refused:
        gym.vec_env(gym.ANYTIME, table=table)
    assert refused.value.hint == "pip install stable-baselines3"
