"""PPO, A2C and DQN over the outcome table: train once for a range of prices, choose one on the tune split."""

from dataclasses import replace
from typing import Any

import numpy as np

from policies.base import Candidates, Progress, Trained, measure, split_rows
from policies.encoding import PRICE_NODES, ActionKind, Actions, Prices, Standardiser
from policies.errors import UnavailableError, UsageError
from policies.grid import Grid
from policies.isolation import one_thread, private_randomness
from policies.network import Network
from policies.objective import Objective, too_expensive
from policies.rl.network import NetworkPolicy
from policies.rl.recipes import HIDDEN, Recipe, recipe
from policies.table import OutcomeTable

PRICES_TRIED = 33
LIMITS = {"timesteps": (1, 10**9), "n_envs": (1, 65536), "seed": (0, 2**32 - 1)}


def train(
    table: OutcomeTable,
    objective: Objective,
    *,
    algo: str = "ppo",
    timesteps: int | None = None,
    seed: int = 0,
    n_envs: int | None = None,
    actions: ActionKind = "discrete",
    progress: Progress | None = None,
    name: str | None = None,
) -> Trained:
    """Train on the fit split over all prices at once, then choose the price on the tune split.

    timesteps: episodes in all; n_envs: episodes at a time (by default the algorithm's recipe); actions: one
    per configuration, or "factored", one part per axis (ppo and a2c). progress(done, total) is called now
    and then. With `lambda_` as the objective that price is used as it is. The same seed gives the same
    policy.

    Raises UsageError for arguments out of range, InfeasibleError if no price meets the objective on the
    tune split.
    """
    chosen = adjusted(recipe(algo), timesteps, n_envs, seed)
    if actions == "factored" and algo == "dqn":
        raise UsageError("dqn takes no factored actions", "allowed: --actions discrete, or --algo ppo or a2c")
    untrained = _untrained(table, algo, objective, actions, name or algo)
    _refuse_hopeless(untrained, table, objective)
    network = _learn(table, untrained, chosen, actions, seed, progress or silent)
    return _at_best_price(replace(untrained, network=network), table, objective)


def adjusted(standard: Recipe, timesteps: int | None, n_envs: int | None, seed: int) -> Recipe:
    """The recipe with what is given in its place; UsageError for what is out of range."""
    given = {"timesteps": timesteps, "n_envs": n_envs, "seed": seed}
    for option, value in given.items():
        low, high = LIMITS[option]
        if value is not None and not low <= value <= high:
            raise UsageError(f"{option} {value}: expected {low} to {high}")
    return replace(standard, timesteps=timesteps or standard.timesteps, n_envs=n_envs or standard.n_envs)


def _untrained(
    table: OutcomeTable, algo: str, objective: Objective, actions: ActionKind, name: str
) -> NetworkPolicy:
    """The policy that will be, with a network of zeros."""
    rows = split_rows(table, "fit")
    prices = Prices.of(table, rows)
    if objective.lambda_ is not None:
        prices = prices.reaching(objective.lambda_)
    coded = Actions.of(table, actions)
    sizes = (len(table.feature_names) + PRICE_NODES, *HIDDEN, sum(coded.sizes))
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    zeros = Network(
        tuple(np.zeros(shape) for shape in shapes),
        tuple(np.zeros(out) for out, _ in shapes),
        recipe(algo).activation,
    )
    return NetworkPolicy(
        kind=algo,
        grid=Grid.of(table),
        feature_names=tuple(table.feature_names),
        scale=Standardiser.fit(table.features[rows]),
        prices=prices,
        actions=coded,
        network=zeros,
        lambda_=objective.lambda_ or 0.0,
        name=name,
    )


def _refuse_hopeless(policy: NetworkPolicy, table: OutcomeTable, objective: Objective) -> None:
    """Say before training that a budget lies below the cheapest configuration with the policy's own cost."""
    least = (table.cost_flops.min() + policy.own_flops + table.feature_flops) / table.cost_flops[table.full]
    if objective.flops_target is not None and objective.flops_target < least:
        raise too_expensive(objective.flops_target, float(least))


def _at_best_price(policy: NetworkPolicy, table: OutcomeTable, objective: Objective) -> Trained:
    assert policy.prices is not None
    prices = policy.prices.grid(PRICES_TRIED) if objective.lambda_ is None else np.array([objective.lambda_])
    family = [policy.at(price) for price in prices]
    measured: Candidates = measure(family, table, split_rows(table, "tune"))
    choice = measured.choose(table, objective)
    return measured.trained(family, objective, choice)


def _learn(
    table: OutcomeTable,
    policy: NetworkPolicy,
    chosen: Recipe,
    actions: ActionKind,
    seed: int,
    progress: Progress,
) -> Network:
    """Run Stable-Baselines3 and take the network out. Its own archive is never written."""
    try:
        from stable_baselines3.common.logger import Logger

        from policies.env import Configure
        from policies.rl import vec_env
    except ImportError as error:
        raise UnavailableError(f"learning needs {error.name}", "pip install stable-baselines3") from error
    assert policy.prices is not None
    overhead = float(policy.own_flops + table.feature_flops)
    task = Configure.of(table, lambda_=policy.prices, actions=actions, overhead_flops=overhead)
    environment = vec_env.TaskVecEnv(
        task, chosen.n_envs, seed, scale_rewards=chosen.scale_rewards, infos=False
    )
    with one_thread(), private_randomness():
        model = model_of(policy.kind, environment, chosen, seed)
        model.set_logger(Logger(None, []))
        model.learn(chosen.timesteps, callback=schedule(chosen, progress))
        return extract(model)


def model_of(algo: str, environment: Any, chosen: Recipe, seed: int) -> Any:
    """An untrained Stable-Baselines3 model, on the CPU."""
    import stable_baselines3
    from torch import nn

    arguments = dict(chosen.arguments)
    rate = arguments.pop("learning_rate")
    arguments["learning_rate"] = lambda remaining: rate * max(remaining, 0.02)
    if "batch_size" in arguments and "n_steps" in arguments:
        arguments["batch_size"] = min(arguments["batch_size"], chosen.n_envs * arguments["n_steps"])
    if chosen.entropy:
        arguments["ent_coef"] = chosen.entropy
    sizes = list(chosen.hidden)
    layers: Any = sizes if algo == "dqn" else {"pi": sizes, "vf": sizes}
    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[chosen.activation]
    return getattr(stable_baselines3, algo.upper())(
        "MlpPolicy",
        environment,
        seed=seed,
        device="cpu",
        policy_kwargs={"net_arch": layers, "activation_fn": activation},
        **arguments,
    )


def schedule(chosen: Recipe, progress: Progress) -> Any:
    """A callback that lets the entropy bonus run out by half-time and reports progress."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Schedule(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            done = self.num_timesteps / chosen.timesteps
            if chosen.entropy:
                model: Any = self.model
                model.ent_coef = chosen.entropy * max(0.0, 1.0 - 2.0 * done)
            progress(min(self.num_timesteps, chosen.timesteps), chosen.timesteps)

    return Schedule()


def extract(model: Any) -> Network:
    """The network that decides, out of a trained Stable-Baselines3 model with MlpPolicy, as float64.

    UsageError for a network that is more than linear layers with tanh or with relu between them.
    """
    from stable_baselines3.common.torch_layers import FlattenExtractor
    from torch import nn

    policy = model.policy
    if hasattr(policy, "q_net"):
        before, modules = policy.q_net.features_extractor, list(policy.q_net.q_net)
    else:
        before = policy.pi_features_extractor
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
    linear, between = modules[::2], [type(module) for module in modules[1::2]]
    names = {nn.Tanh: "tanh", nn.ReLU: "relu"}
    plain = all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
    if type(before) is not FlattenExtractor or not plain or len(modules) % 2 == 0:
        kinds = ", ".join(type(module).__name__ for module in (before, *modules))
        raise UsageError(f"a network of {kinds}: expected linear layers alone", "train with MlpPolicy")
    if len(set(between)) > 1 or not set(between) <= set(names):
        kinds = ", ".join(sorted({kind.__name__ for kind in between}))
        raise UsageError(f"activation {kinds}: not supported", "allowed: Tanh everywhere, or ReLU everywhere")
    weights, biases = (
        tuple(getattr(layer, part).detach().cpu().numpy().astype(np.float64) for layer in linear)
        for part in ("weight", "bias")
    )
    return Network(weights, biases, names[between[0]] if between else "tanh")


def silent(done: int, total: int) -> None:
    """Progress that nobody wants to know."""
