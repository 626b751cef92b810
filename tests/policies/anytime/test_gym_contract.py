"""Both environments, alone and vectorised, as Gymnasium and Stable-Baselines3 expect them."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.env_checker import check_env as check_for_sb3
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from policies import gym
from policies.encoding import Prices
from policies.errors import UsageError

BOTH = [gym.ANYTIME, gym.CONFIGURE]
KINDS = [(gym.ANYTIME, {}), (gym.CONFIGURE, {}), (gym.CONFIGURE, {"actions": "factored"})]
INFO = ["configuration", "cost_share", "lambda", "row"]


@pytest.fixture(scope="module")
def table(make_walkable):
    return make_walkable(160)


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    place = tmp_path_factory.mktemp("gym") / "table"
    table.save(place)
    return place


@pytest.mark.parametrize(("name", "given"), KINDS)
def test_both_checkers_pass_without_a_warning(table, name, given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name, table=table, **given).unwrapped)
        check_for_sb3(gymnasium.make(name, table=table, lambda_=[0.1, 1.0], **given).unwrapped)


def wrong_actions(space):
    """Of one episode: below, beyond, far beyond, other types, other shapes, nothing, masked out."""
    good = np.asarray(space.sample())
    beyond = good * 0 + (space.nvec if good.ndim else space.n)
    masked = np.ma.masked_array(good, mask=np.ones(good.shape, bool))
    return [good * 0 - 1, beyond, good * 0 + 99, good * 1.0, good > 0, [[0]], None, "0", masked]


@pytest.mark.parametrize(("name", "given"), KINDS)
def test_actions_that_there_are_not_are_refused(table, name, given):
    one = gymnasium.make(name, table=table, **given).unwrapped
    many = gymnasium.make_vec(name, num_envs=3, table=table, **given)
    sb3 = gym.vec_env(name, table=table, n_envs=3, **given)
    many.reset(), sb3.reset()
    good = np.asarray(one.action_space.sample())
    for action in wrong_actions(one.action_space):
        one.reset()
        with pytest.raises(UsageError, match="action"):
            one.step(action)
        if np.shape(action) != good.shape:
            continue
        masked = isinstance(action, np.ma.MaskedArray)
        batch = (np.ma.stack if masked else np.stack)([good.astype(np.asarray(action).dtype), action, action])
        for envs in (many, sb3):
            with pytest.raises(UsageError, match="action"):
                envs.step(batch)
    for envs in (many, sb3):
        with pytest.raises(UsageError, match="actions of shape"):
            envs.step(np.stack([good, good]))


@pytest.mark.parametrize("name", BOTH)
def test_the_message_says_which_episode_and_what_is_allowed(table, name):
    envs = gym.vec_env(name, table=table, n_envs=3)
    envs.reset()
    with pytest.raises(
        UsageError, match=rf"action 99 of episode 2: not in Discrete\({envs.action_space.n}\)"
    ):
        envs.step([0, 1, 99])


@pytest.mark.parametrize("name", BOTH)
def test_no_step_before_reset_nor_after_the_end(table, name):
    one = gymnasium.make(name, table=table).unwrapped
    with pytest.raises(UsageError, match="not begun"):
        one.step(0)
    one.reset()
    assert one.step(0)[2]
    with pytest.raises(UsageError, match="has ended"):
        one.step(0)
    for envs in (gymnasium.make_vec(name, num_envs=2, table=table), gym.vec_env(name, table=table, n_envs=2)):
        with pytest.raises(UsageError, match="no episode has begun"):
            envs.step([0, 0])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "price",
    [[0.02, 0.5], (0.02, 0.5), np.array([0.02, 0.5]), Prices(0.02, 0.5)],
    ids=lambda p: type(p).__name__,
)
def test_a_range_of_prices_is_any_pair(table, name, price):
    seen = gymnasium.make(name, table=table, lambda_=price).reset(seed=1)[0]
    np.testing.assert_array_equal(
        seen, gymnasium.make(name, table=table, lambda_=(0.02, 0.5)).reset(seed=1)[0]
    )


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "price", [[0.1], [0.1, 0.2, 0.3], [], ["a", "b"], "0.1", None, True, [0.5, 0.02], {}]
)
def test_other_prices_are_refused(table, name, price):
    with pytest.raises(UsageError, match=r"lambda|prices from"):
        gymnasium.make(name, table=table, lambda_=price)


@pytest.mark.parametrize("name", BOTH)
def test_a_spec_survives_json(folder, name):
    given = {"table": folder, "lambda_": np.array([0.02, 0.5]), "split": "test", "render_mode": "ansi"}
    first = gymnasium.make(name, **given)
    again = gymnasium.make(EnvSpec.from_json(first.spec.to_json()))
    assert again.render_mode == "ansi"
    for seed in range(5):
        np.testing.assert_array_equal(first.reset(seed=seed)[0], again.reset(seed=seed)[0])
        assert first.step(1)[1] == again.step(1)[1]
    many = gymnasium.make_vec(
        name, num_envs=3, table=folder, lambda_=Prices(0.02, 0.5), autoreset_mode=AutoresetMode.SAME_STEP
    )
    spec = EnvSpec.from_json(many.spec.to_json())
    again = gymnasium.make_vec(spec)
    assert (again.num_envs, again.metadata["autoreset_mode"]) == (3, AutoresetMode.SAME_STEP)
    np.testing.assert_array_equal(many.reset(seed=2)[0], again.reset(seed=2)[0])


@pytest.mark.parametrize("name", BOTH)
def test_it_renders_a_line_of_text_or_nothing(table, name):
    env = gymnasium.make(name, table=table, render_mode="ansi")
    _, info = env.reset(seed=0)
    assert f"row {info['row']}: " in env.render()
    _, _, _, _, info = env.step(1)
    chosen = table.configs.iloc[info["configuration"]]
    assert f"tokens={chosen.tokens} width={chosen.width} depth={chosen.depth}, cost " in env.render()
    env = gymnasium.make(name, table=table).unwrapped
    env.reset()
    assert env.render() is None
    envs = gymnasium.make_vec(name, num_envs=2, table=table, render_mode="ansi")
    envs.reset()
    assert [line[:4] for line in envs.render()] == ["row ", "row "]
    sb3 = gym.vec_env(name, table=table, n_envs=3, render_mode="ansi")
    sb3.reset()
    assert len(sb3.env_method("render", indices=[0, 2])) == 2
    for mode in ("human", "rgb_array"):
        with pytest.raises(UsageError, match=f"render_mode '{mode}'"):
            gym.vec_env(name, table=table, render_mode=mode)
        with pytest.raises(UsageError), pytest.warns(UserWarning, match="render_mode"):
            gymnasium.make(name, table=table, render_mode=mode)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize(("name", "given"), [*KINDS, (gym.ANYTIME, {"lambda_": [0.05, 2.0]})])
def test_make_vec_is_the_single_environment(table, name, given, mode):
    """Many episodes of one environment, against Gymnasium's own vectorisation of `make`: all it returns."""
    plain = gymnasium.make_vec(name, 1, "sync", vector_kwargs={"autoreset_mode": mode}, table=table, **given)
    fast = gymnasium.make_vec(name, 1, "vector_entry_point", autoreset_mode=mode, table=table, **given)
    assert fast.metadata["autoreset_mode"] == plain.metadata["autoreset_mode"]
    assert (fast.action_space, fast.observation_space) == (plain.action_space, plain.observation_space)
    same(plain.reset(seed=3), fast.reset(seed=3))
    plain.action_space.seed(0)
    ends = 0
    for _ in range(60):
        action = plain.action_space.sample()
        first, second = plain.step(action), fast.step(action)
        same(first, second)
        ends += first[2].sum()
    assert ends > 10


@pytest.mark.parametrize("name", BOTH)
def test_many_of_make_vec_are_single_environments_of_their_rows(table, name):
    rows, prices = np.array([5, 0, 31]), np.array([0.1, 0.3, 1.0])
    many = gymnasium.make_vec(name, num_envs=3, table=table, lambda_=(0.05, 2.0))
    ones = [gymnasium.make(name, table=table, lambda_=(0.05, 2.0)) for _ in rows]
    seen, _ = many.reset(options={"row": rows, "lambda": prices})
    for place, one in enumerate(ones):
        alone, info = one.reset(options={"row": int(rows[place]), "lambda": float(prices[place])})
        np.testing.assert_array_equal(seen[place], alone)
        assert info["row"] == rows[place]
    seen, rewards, ended, cut, infos = many.step(np.array([1, 2, 0]))
    for place, (one, action) in enumerate(zip(ones, (1, 2, 0), strict=True)):
        alone, reward, over, _, info = one.step(action)
        np.testing.assert_array_equal(seen[place], alone)
        assert (rewards[place], ended[place], cut[place]) == (reward, over, False)
        assert {key: infos[key][place] for key in INFO} == info


def same(one, other):
    """Equal arrays, numbers and infos, nested as they come; an array of objects holds arrays or None."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = [one[key] for key in one], [other[key] for key in one]
    if isinstance(one, tuple | list) or (isinstance(one, np.ndarray) and one.dtype == object):
        for first, second in zip(one, other, strict=True):
            same(first, second)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "options",
    [{"row": -1}, {"row": 40}, {"row": 1.0}, {"row": [1, 2]}, {"lambda": -1}, {"lambda": "x"}, {"seed": 1}],
)
def test_reset_options_out_of_range_are_refused(table, name, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        gymnasium.make(name, table=table).reset(options=options)


@pytest.mark.parametrize("given", [{"num_envs": 0}, {"autoreset_mode": "Disabled"}, {"render_mode": "human"}])
def test_senseless_arguments_of_make_vec_are_refused(table, given):
    with pytest.raises(UsageError, match=next(iter(given))):
        gymnasium.make_vec(gym.ANYTIME, table=table, **{"num_envs": 2, **given})


def test_gymnasiums_own_statistics_work(table):
    envs = RecordEpisodeStatistics(gymnasium.make_vec(gym.ANYTIME, num_envs=4, table=table))
    envs.reset(seed=0)
    infos = envs.step(np.zeros(4, int))[4]
    assert infos["episode"]["l"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", BOTH)
def test_infos_are_those_of_stable_baselines_own_vectorisation(table, name):
    """Every step of many episodes: the same dictionaries as DummyVecEnv makes of the single environment."""
    plain = DummyVecEnv([lambda: gymnasium.make(name, table=table)])
    fast = gym.vec_env(name, table=table, n_envs=1, seed=7)
    plain.seed(7)
    np.testing.assert_array_equal(plain.reset(), fast.reset())
    same(plain.reset_infos, list(fast.reset_infos))
    rng, steps = np.random.default_rng(0), [plain, fast]
    for _ in range(60):
        action = rng.integers(fast.action_space.n, size=1)
        (seen, reward, ended, infos), (seen2, reward2, ended2, infos2) = (env.step(action) for env in steps)
        same([seen, reward, ended], [seen2, reward2, ended2])
        same(infos, list(infos2))
        assert ("terminal_observation" in infos2[0]) == ended[0]


def test_infos_read_late_are_those_of_their_step(table):
    """A learner may keep them: what happens afterwards does not change them."""
    late, early = (gym.vec_env(gym.ANYTIME, table=table, n_envs=20, seed=1) for _ in range(2))
    late.reset(), early.reset()
    rng, kept, read = np.random.default_rng(0), [], []
    for _ in range(5):
        action = rng.integers(late.action_space.n, size=20)
        kept.append(late.step(action)[3])
        read.append(list(early.step(action)[3]))
    same(read, [list(infos) for infos in kept])


def test_wrappers_of_stable_baselines_work(table):
    envs = VecMonitor(
        gym.vec_env(gym.ANYTIME, table=table, n_envs=4), info_keywords=("row", "configuration", "cost_share")
    )
    envs.reset()
    episode = envs.step(np.zeros(4, int))[3][0]["episode"]
    assert (episode["l"], episode["configuration"]) == (1, 3)
    size = envs.observation_space.shape[0]
    stacked = VecFrameStack(gym.vec_env(gym.ANYTIME, table=table, n_envs=4), 2)
    first = stacked.reset().copy()
    infos = stacked.step(np.zeros(4, int))[3]
    assert infos[0]["terminal_observation"].shape == (2 * size,)
    np.testing.assert_array_equal(infos[0]["terminal_observation"][:size], first[0, size:])
    normalised = VecNormalize(gym.vec_env(gym.ANYTIME, table=table, n_envs=4))
    normalised.reset()
    infos = normalised.step(np.zeros(4, int))[3]
    seen = normalised.unnormalize_obs(infos[1]["terminal_observation"])
    assert normalised.observation_space.contains(seen.astype(np.float32))


@pytest.mark.parametrize("name", BOTH)
def test_attributes_are_of_the_environments_asked_for(table, name):
    envs = gym.vec_env(name, table=table, n_envs=4)
    envs.reset()
    assert envs.get_attr("num_envs", indices=[0]) == [4]
    assert [info["row"] for info in envs.get_attr("info", indices=[3, 1])] == [
        envs.episodes.row[3],
        envs.episodes.row[1],
    ]
    envs.set_attr("mark", "here", indices=[1, 2])
    assert envs.get_attr("mark", indices=2) == ["here"]
    assert not envs.has_attr("mark")
    assert len(envs.env_method("render", indices=[0])) == 1
    assert envs.env_is_wrapped(gymnasium.Wrapper, indices=[0, 1]) == [False, False]
    with pytest.raises(AttributeError, match="no method fly"):
        envs.env_method("fly")
    with pytest.raises(AttributeError):
        envs.get_attr("nothing")


def test_set_options_chooses_the_samples(table):
    envs = gym.vec_env(gym.CONFIGURE, table=table, n_envs=2)
    envs.set_options([{"row": 4}, {"row": 9}])
    envs.reset()
    assert [info["row"] for info in envs.reset_infos] == [4, 9]
    envs.set_options({"row": 3})
    envs.reset()
    assert [info["row"] for info in envs.reset_infos] == [3, 3]
    envs.set_options([{"row": 4}, {}])
    with pytest.raises(UsageError, match="give it to every environment"):
        envs.reset()
