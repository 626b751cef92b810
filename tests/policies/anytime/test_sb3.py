"""Models of plain Stable-Baselines3 as policies: they decide as `predict` does and need no pickle."""

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.wrappers import FrameStackObservation
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize
from torch import nn

import policies
from policies import base, gym
from policies.errors import InfeasibleError, UsageError

QUICK = {
    "PPO": {"n_steps": 8, "batch_size": 256, "n_epochs": 1, "learning_rate": 3e-3},
    "A2C": {"n_steps": 4, "learning_rate": 3e-3},
    "DQN": {"learning_starts": 64, "learning_rate": 3e-3},
}


def learned(algo, env, steps=2048, **given):
    arguments = {"device": "cpu", "seed": 0, **QUICK[algo], **given}
    model = getattr(stable_baselines3, algo)("MlpPolicy", env, **arguments)
    model.set_logger(Logger(None, []))  # else each makes a folder of logs
    return model.learn(steps)


@pytest.fixture(scope="module")
def table(make_walkable):
    return make_walkable(160)


def varied(model, table):
    """The model with random weights added until its decisions differ from sample to sample; its policy."""
    randomness = torch.Generator().manual_seed(0)
    for _ in range(50):
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=randomness))
        policy = policies.from_sb3(model, table)
        if len(np.unique(policy.select(table, np.arange(table.n_samples)).configuration)) > 1:
            return policy
    raise AssertionError("always the same decision")


def predicted(model, table, name, options, price):
    """Where `predict` leads every sample of the table, one step after the other."""
    found = np.empty(table.n_samples, np.int64)
    for split in ("fit", "tune", "calibration", "test"):
        env = gymnasium.make(name, table=table, **{**options, "split": split}).unwrapped
        for row, sample in enumerate(table.rows(split)):
            seen, info = env.reset(options={"row": row, "lambda": price})
            ended = False
            while not ended:
                seen, _, ended, _, info = env.step(model.predict(seen, deterministic=True)[0])
            found[sample] = info["configuration"]
    return found


CASES = [
    ("PPO", gym.ANYTIME, {"lambda_": (0.02, 0.5)}),
    ("PPO", gym.ANYTIME, {"lambda_": 0.05, "look_flops": 700.0}),
    ("A2C", gym.ANYTIME, {"lambda_": 0.05, "entries": [0]}),
    ("DQN", gym.ANYTIME, {"lambda_": [0.02, 0.5], "along": ["depth"]}),
    ("PPO", gym.CONFIGURE, {"lambda_": (0.02, 0.5), "actions": "factored"}),
    ("A2C", gym.CONFIGURE, {"lambda_": (0.02, 0.5)}),
    ("DQN", gym.CONFIGURE, {"lambda_": 0.1}),
]


@pytest.mark.parametrize(("algo", "name", "options"), CASES)
def test_every_decision_is_that_of_predict_also_after_saving(table, tmp_path, algo, name, options):
    model = learned(algo, gym.vec_env(name, table=table, n_envs=64, **options), steps=256)
    policy, rows = varied(model, table), np.arange(table.n_samples)
    expected = predicted(model, table, name, options, policy.lambda_)
    np.testing.assert_array_equal(policy.select(table, rows).configuration, expected)
    policies.save(policy, tmp_path / "mine", table=table)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "policy.json",
        "policy.safetensors",
        "reference.json",
    }
    loaded = policies.load(tmp_path / "mine", table)
    np.testing.assert_array_equal(loaded.select(table, rows).configuration, expected)
    np.testing.assert_array_equal(
        loaded.select(table, rows).cost_flops, policy.select(table, rows).cost_flops
    )


def test_what_its_own_network_costs_is_charged(table):
    env = gym.vec_env(gym.ANYTIME, table=table, n_envs=64)
    policy = policies.from_sb3(learned("A2C", env), table)
    decision = policy.select(table, np.arange(table.n_samples))
    assert policy.own_flops > policy.network.flops > 0
    assert (decision.cost_flops >= table.cost_flops[decision.configuration] + policy.own_flops).all()


def test_an_objective_picks_the_price_and_the_entry(table):
    env = gym.vec_env(gym.ANYTIME, table=table, n_envs=64, lambda_=(0.01, 2.0), entries=[0, 3])
    model = learned("PPO", env)
    assert policies.from_sb3(model, table, lambda_=0.3).lambda_ == 0.3
    policy = policies.from_sb3(model, table, flops_target=0.9, name="mine")
    cost = policy.select(table, base.split_rows(table, "tune")).cost_flops.mean()
    assert cost <= 0.9 * table.cost_flops.max()
    assert policy.name == "mine"
    with pytest.raises(InfeasibleError):
        policies.from_sb3(model, table, flops_target=1e-6)
    with pytest.raises(UsageError, match="exclude each other"):
        policies.from_sb3(model, table, flops_target=0.5, lambda_=0.1)


def test_one_environment_at_a_time_does_too_and_so_do_harmless_wrappers(table, tmp_path):
    one = learned("DQN", gymnasium.make(gym.ANYTIME, table=table), steps=200)
    assert policies.from_sb3(one, table).name == "sb3-dqn"
    env = VecNormalize(VecMonitor(gym.vec_env(gym.ANYTIME, table=table, n_envs=8)), norm_obs=False)
    assert policies.from_sb3(learned("A2C", env, steps=64), table).name == "sb3-a2c"
    one.save(tmp_path / "model.zip")
    loaded = stable_baselines3.DQN.load(tmp_path / "model.zip", device="cpu")
    with pytest.raises(UsageError, match="no environment"):
        policies.from_sb3(loaded, table)
    env = gymnasium.make_vec(gym.ANYTIME, num_envs=2, table=table)
    policies.from_sb3(loaded, table, env=env)
    with pytest.raises(UsageError, match="observation space"):
        policies.from_sb3(loaded, table, env=gymnasium.make(gym.ANYTIME, table=table, lambda_=(0.1, 1)))


def vectors(table, **given):
    return gym.vec_env(gym.ANYTIME, table=table, n_envs=8, **given)


class OtherExtractor(FlattenExtractor):
    pass


class OtherPolicy(ActorCriticPolicy):
    pass


def with_other_policy(table):
    return stable_baselines3.A2C(OtherPolicy, vectors(table), device="cpu")


REFUSED = {
    "a model with OtherPolicy: expected MlpPolicy": with_other_policy,
    "a network of OtherExtractor, Linear": lambda t: learned(
        "DQN", vectors(t), 8, policy_kwargs={"features_extractor_class": OtherExtractor}
    ),
    "VecNormalize changes what the model observes": lambda t: learned("A2C", VecNormalize(vectors(t)), 64),
    "VecFrameStack: the model was not": lambda t: learned("A2C", VecFrameStack(vectors(t), 2), 64),
    "FrameStackObservation: the model was not": lambda t: learned(
        "A2C", FrameStackObservation(gymnasium.make(gym.ANYTIME, table=t), 2), 20
    ),
    "CartPoleEnv: the model was not": lambda t: learned("A2C", gymnasium.make("CartPole-v1"), 20),
    "activation ELU: not supported": lambda t: learned(
        "A2C", vectors(t), 64, policy_kwargs={"activation_fn": nn.ELU}
    ),
    "type NoneType: expected PPO, A2C or DQN": lambda t: None,
    "not a file": lambda t: "model.zip",
    "lambda 0.3: the model was trained at 0.1 alone": lambda t: learned("A2C", vectors(t), 64),
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_cannot_be_brought_in_is_refused(table, told):
    given = {"lambda_": 0.3} if told.startswith("lambda") else {}
    with pytest.raises(UsageError, match=told):
        policies.from_sb3(REFUSED[told](table), table, **given)


def test_a_model_of_another_table_is_refused(table, make_walkable):
    for name in (gym.ANYTIME, gym.CONFIGURE):
        model = learned("A2C", gym.vec_env(name, table=make_walkable(160, seed=4), n_envs=8), steps=64)
        with pytest.raises(UsageError, match="another outcome table"):
            policies.from_sb3(model, table)


def test_a_policy_is_replaced_only_if_asked_and_takes_its_records_along(table, tmp_path):
    policy = policies.from_sb3(learned("A2C", vectors(table), 64), table)
    policies.save(policy, tmp_path / "p")
    (tmp_path / "p" / "evaluation.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a policy already"):
        policies.save(policy, tmp_path / "p")
    policies.save(policy, tmp_path / "p", overwrite=True)
    assert not (tmp_path / "p" / "evaluation.json").exists()
