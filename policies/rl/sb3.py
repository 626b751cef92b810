"""A model trained with plain Stable-Baselines3 in one of the environments, as a policy of this project.

    model = PPO("MlpPolicy", policies.gym.vec_env("adap/Anytime-v0", table=table)).learn(100_000)
    policies.save(policies.from_sb3(model, table), "adap-run/policies/mine", table=table)

Only the weights of the network that decides are taken out: the archive of Stable-Baselines3, which holds
pickled objects, is neither read nor written.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from policies.anytime.network import AnytimeNetwork
from policies.anytime.seen import Sight
from policies.anytime.soft import aimed
from policies.base import check_name, measure, split_rows
from policies.encoding import Prices, Standardiser
from policies.errors import UnavailableError, UsageError
from policies.grid import Grid
from policies.network import Network
from policies.objective import Objective
from policies.rl.anytime import PRICES_TRIED, over
from policies.rl.network import NetworkPolicy
from policies.rl.training import extract
from policies.table import OutcomeTable

KIND, ANYTIME_KIND = "sb3", "anytime-sb3"
HARMLESS = {
    "VecMonitor",
    "VecCheckNan",
    "Monitor",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "TimeLimit",
}
"""Wrappers that change neither what is observed nor what an action does."""
RETRAIN = "train it in the environment as policies.gym makes it, see policies/GYM.md"

Imported = AnytimeNetwork | NetworkPolicy


def from_sb3(
    model: Any,
    table: OutcomeTable,
    *,
    env: Any = None,
    lambda_: float | None = None,
    flops_target: float | None = None,
    max_drop: float | None = None,
    name: str | None = None,
) -> Imported:
    """The policy that decides as `model.predict(observation, deterministic=True)` does.

    model: PPO, A2C or DQN of stable-baselines3 with MlpPolicy, tanh or relu, trained over `table` in
    "adap/Configure-v0" or "adap/Anytime-v0". env: the environment it was trained in, where the model no
    longer holds it (after `PPO.load`); one made with the same arguments will do.
    lambda_, flops_target, max_drop: as for `policies.train`. A model trained over a range of prices, or from
    several entries, is many policies; the objective picks one on the tune split. A model trained at one price
    and from one entry is what it is, and takes no objective.

    Raises UsageError for what cannot be brought in, InfeasibleError if nothing meets the objective.
    """
    name = check_name(name or f"sb3-{type(model).__name__.lower()}")
    _check_model(model)
    task = _task_of(model, env)
    _check_spaces(model, task)
    network = extract(model)
    family = _family(task, table, network, name)
    given = [value for value in (lambda_, flops_target, max_drop) if value is not None]
    if len(family) == 1 and not given:
        return family[0]
    if not isinstance(task.prices, Prices) and lambda_ not in (None, task.prices):
        raise UsageError(f"lambda {lambda_}: the model was trained at {task.prices} alone", RETRAIN)
    objective = Objective(lambda_, flops_target, max_drop)
    if lambda_ is not None:
        family = _at(family, [lambda_])
    elif isinstance(task.prices, Prices):
        family = _at(family, task.prices.grid(PRICES_TRIED).tolist())
    seen = aimed(table, getattr(task, "target", "score"))
    measured = measure(family, seen, split_rows(table, "tune"))
    return family[measured.choose(seen, objective).position]


def _at(family: list[Imported], prices: list[float]) -> list[Imported]:
    return [policy if policy.prices is None else policy.at(price) for policy in family for price in prices]


def _family(task: Any, table: OutcomeTable, network: Network, name: str) -> list[Imported]:
    """A policy per entry, at the middle of its prices; UsageError if the task is of another table."""
    from policies.anytime.env import Anytime
    from policies.env import labels_of

    same = task.labels == labels_of(table)
    prices = task.prices if isinstance(task.prices, Prices) else None
    price = float(task.prices) if prices is None else float(prices.grid(3)[1])
    grid = Grid.of(table)
    if isinstance(task, Anytime):
        sight = Sight.fit(table, task.lattice) if same else None
        if sight is None or not (
            _equal(sight.mean, task.sight.mean) and _equal(sight.place, task.sight.place)
        ):
            raise _another_table()
        order = task.lattice.order
        whole = AnytimeNetwork(
            kind=ANYTIME_KIND,
            grid=grid,
            signal_names=table.signal_names,
            nodes=tuple(order.tolist()),
            moves=np.argsort(order)[task.lattice.moves[order]],
            sight=sight.take(order),
            prices=prices,
            network=network,
            lambda_=price,
            name=name,
            trained_look_flops=float(task.look_flops),
        )
        entries = np.unique(task.entries).tolist()
        return [over(whole, task.lattice, sight, task.lattice.reachable(entry)) for entry in entries]
    scale = Standardiser.fit(table.features[split_rows(table, "fit")])
    if not same or not (_equal(scale.mean, task.scale.mean) and _equal(scale.scale, task.scale.scale)):
        raise _another_table()
    names = tuple(table.feature_names)
    return [NetworkPolicy(KIND, grid, names, scale, prices, task.actions, network, price, name)]


def _equal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return one.shape == other.shape and bool(np.array_equal(one, other))


def _another_table() -> UsageError:
    return UsageError("the model was trained on another outcome table", "give the table of its environment")


def _check_model(model: Any) -> None:
    """UsageError unless a trained PPO, A2C or DQN with MlpPolicy."""
    try:
        from stable_baselines3 import A2C, DQN, PPO
        from stable_baselines3.common.policies import ActorCriticPolicy
        from stable_baselines3.dqn.policies import DQNPolicy
    except ImportError as error:
        raise UnavailableError(f"this needs {error.name}", "pip install stable-baselines3") from error
    if isinstance(model, str | bytes) or hasattr(model, "__fspath__"):
        raise UsageError(
            "expected a model, not a file", "load it first, such as PPO.load(path): only what you trust"
        )
    if not isinstance(model, PPO | A2C | DQN):
        raise UsageError(
            f"a model of type {type(model).__name__}: expected PPO, A2C or DQN of stable-baselines3"
        )
    if type(model.policy) not in (ActorCriticPolicy, DQNPolicy):
        raise UsageError(f"a model with {type(model.policy).__name__}: expected MlpPolicy", RETRAIN)


def _task_of(model: Any, env: Any) -> Any:
    """What the model was trained in; UsageError without, or if a wrapper changes what it sees or does."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

    inner = model.get_env() if env is None else env
    if inner is None:
        raise UsageError(
            "the model has no environment", "say which it was trained in: from_sb3(..., env=...)"
        )
    while not hasattr(inner, "task") or isinstance(inner, VecEnvWrapper) or inner is not inner.unwrapped:
        kind = type(inner).__name__
        if isinstance(inner, VecNormalize) and inner.norm_obs:
            hint = "observations are standardised already: train without it, or with norm_obs=False"
            raise UsageError("VecNormalize changes what the model observes", hint)
        if isinstance(inner, DummyVecEnv):
            inner = inner.envs[0]
        elif isinstance(inner, VecNormalize) or kind in HARMLESS:
            inner = inner.venv if isinstance(inner, VecEnvWrapper) else inner.env
        else:
            raise UsageError(
                f"{kind}: the model was not trained in an environment of policies.gym alone", RETRAIN
            )
    return inner.task


def _check_spaces(model: Any, task: Any) -> None:
    for what in ("observation_space", "action_space"):
        models, tasks = getattr(model, what), getattr(task, what)
        if models != tasks:
            raise UsageError(
                f"{what.replace('_', ' ')} {models} of the model, {tasks} of the environment", RETRAIN
            )
