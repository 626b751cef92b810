import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from policies.encoding import CLIP
from policies.env import Configure, ConfigureEnv
from policies.errors import UsageError
from policies.gym import CONFIGURE
from policies.rl.vec_env import TaskVecEnv

VARIANTS = [
    {},
    {"actions": "factored"},
    {"lambda_": (0.1, 5.0)},
    {"lambda_": (0.1, 5.0), "actions": "factored"},
    {"split": "test", "overhead_flops": 1000.0},
]


@pytest.fixture
def table(make_table):
    return make_table(200)


@pytest.mark.parametrize("given", VARIANTS)
def test_gymnasium_finds_nothing_wrong(table, given):
    check_env(gymnasium.make(CONFIGURE, table=table, **given).unwrapped)


@pytest.mark.parametrize("given", VARIANTS)
def test_rewards_are_score_minus_price_times_share(table, given):
    env = gymnasium.make(CONFIGURE, table=table, **given)
    env.action_space.seed(0)
    rows = table.rows(given.get("split", "fit"))
    overhead = given.get("overhead_flops", table.feature_flops)
    for seed in range(30):
        seen, info = env.reset(seed=seed)
        action = env.action_space.sample()
        _, reward, terminated, truncated, _ = env.step(action)
        chosen = env.unwrapped.task.actions.configuration(np.asarray([action]))[0]
        share = (table.cost_flops[chosen] + overhead) / table.cost_flops.max()
        assert reward == pytest.approx(table.score[rows[info["row"]], chosen] - info["lambda"] * share)
        assert (terminated, truncated) == (True, False)
        assert np.abs(seen).max() <= CLIP


@pytest.mark.parametrize("given", VARIANTS)
def test_many_at_once_equal_one_at_a_time(table, given):
    env = ConfigureEnv(table, **given)
    many = TaskVecEnv(Configure.of(table, **given), 1, seed=7)
    env.action_space.seed(0)
    seen, _ = env.reset(seed=7)
    np.testing.assert_array_equal(many.reset()[0], seen)
    for _ in range(50):
        action = env.action_space.sample()
        _, reward, *_ = env.step(action)
        seen, _ = env.reset()
        after, rewards, ended, _ = many.step(np.asarray([action]))
        assert rewards[0] == np.float32(reward)
        np.testing.assert_array_equal(after[0], seen)
        assert ended.all()


def test_scaled_rewards_keep_the_order_of_choices(table):
    task = Configure.of(table, lambda_=(0.1, 5.0))
    plain, scaled = TaskVecEnv(task, 64, seed=1), TaskVecEnv(task, 64, seed=1, scale_rewards=True)
    plain.reset(), scaled.reset()
    price = plain.episodes.lambda_
    action = np.arange(64) % table.n_configs
    np.testing.assert_allclose(plain.step(action)[1], scaled.step(action)[1] * (1 + price), rtol=1e-5)


def test_what_is_returned_is_a_copy(table):
    env, many = ConfigureEnv(table), TaskVecEnv(Configure.of(table), 3)
    seen, _ = env.reset(seed=0)
    seen[:] = 99
    assert env.step(0)[0].max() < 99
    many.reset()[:] = 99
    assert Configure.of(table).features.max() < 99


def test_the_price_is_shown_only_if_it_varies(table):
    assert ConfigureEnv(table).observation_space.shape == (3,)
    assert ConfigureEnv(table, lambda_=(0.1, 1.0)).observation_space.shape == (11,)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf"), (0.0, 1.0), (2.0, 1.0)])
def test_senseless_prices_are_refused(table, price):
    with pytest.raises(UsageError):
        ConfigureEnv(table, lambda_=price)
