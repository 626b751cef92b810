"""How fast the anytime environment is, alone and with Stable-Baselines3's PPO learning in it.

The table is synthetic: a grid of 5 x 3 x 6 configurations (`--configurations published`: 6 x 3 x 21) with
four signals each. Times are processor seconds of the one thread: other work on the machine counts less.
Rivals, in the same run: one Gymnasium environment at a time; PPO with the same network in 64 environments;
PPO in an environment of the same spaces that costs nothing, which is what Stable-Baselines3 itself takes.
"""

import argparse
import json
import time
from itertools import product
from unittest import mock

import numpy as np
import pandas as pd
import torch

from policies import gym
from policies.anytime.env import Anytime, AnytimeEnv
from policies.encoding import Prices
from policies.isolation import one_thread
from policies.rl import recipes, training
from policies.rl.vec_env import TaskVecEnv
from policies.table import OutcomeTable

AXES = {
    "packaged": ((1, 2, 4, 8, 16), (16, 32, 64), tuple(range(1, 7))),
    "published": ((32, 64, 96, 128, 192, 256), (416, 624, 832), tuple(range(1, 22))),
}
SIGNALS = 4


def table_of(size: str, samples: int) -> OutcomeTable:
    """Random outcomes; what is dearer is right more often, and its signals tell so."""
    rng, axes = np.random.default_rng(0), AXES[size]
    grid = pd.DataFrame(list(product(*axes)), columns=["tokens", "width", "depth"])
    share = (grid / grid.max()).prod(axis=1).to_numpy()
    trunk, readout = 1e9 * share, 2e6
    same = np.equal.outer(grid["width"].to_numpy(), grid["width"].to_numpy())
    place = grid[["tokens", "depth"]].to_numpy()
    on = same & (place[None] >= place[:, None]).all(axis=2)
    steps = np.where(on, trunk[None] - trunk[:, None] + readout, trunk[None] + 1e8 + readout)
    np.fill_diagonal(steps, 0.0)
    sure = rng.normal(size=(samples, len(grid)), scale=0.7) + 1.5 * share + 0.5
    signals = sure[..., None] + rng.normal(size=(samples, len(grid), SIGNALS))
    return OutcomeTable.from_arrays(
        configs=grid.assign(cost_flops=trunk + 1e8 + readout, readout_flops=readout, memory_bytes=0),
        score=(rng.random(sure.shape) < 1 / (1 + np.exp(-2 * sure))).astype(np.float32),
        signals=signals.astype(np.float32),
        signal_names=tuple(f"signal {i}" for i in range(SIGNALS)),
        samples=pd.DataFrame({"split": np.resize(["fit", "fit", "fit", "tune"], samples)}),
        increment_flops=steps,
    )


def alone(task: Anytime, count: int, steps: int) -> float:
    """Steps a second of the vectorised environment, actions drawn beforehand."""
    rng = np.random.default_rng(0)
    actions = rng.integers(task.n_actions, size=(steps, count))
    env = TaskVecEnv(task, count, infos=False)  # as policies.train uses it
    env.reset()
    env.step(actions[0])
    start = time.process_time()
    for chosen in actions:
        env.step(chosen)
    return steps * count / (time.process_time() - start)


def one_at_a_time(env: AnytimeEnv, steps: int) -> float:
    actions = np.random.default_rng(0).integers(env.action_space.n, size=steps)
    env.reset(seed=0)
    start = time.process_time()
    for action in actions.tolist():
        if env.step(action)[2]:
            env.reset()
    return steps / (time.process_time() - start)


def learning(task: Anytime, n_envs: int, timesteps: int, *, still: bool = False) -> float:
    """Steps a second of PPO with the preset, or fewer environments; `still`: in one that costs nothing."""
    chosen = training.adjusted(recipes.ANYTIME_RECIPES["ppo"], timesteps, n_envs, 0)
    env = TaskVecEnv(task, n_envs, scale_rewards=True, infos=False)
    seen = env.reset()
    nothing = seen, np.zeros(n_envs, np.float32), np.zeros(n_envs, bool), env._no_infos
    with one_thread(), mock.patch.object(env, "step_wait", (lambda: nothing) if still else env.step_wait):
        model = training.model_of("ppo", env, chosen, 0)
        start = time.process_time()
        model.learn(timesteps, callback=training.schedule(chosen, training.silent))
        return model.num_timesteps / (time.process_time() - start)


def measure(options: argparse.Namespace) -> dict[str, object]:
    table = table_of(options.configurations, options.samples)
    given = {"lambda_": Prices(0.002, 1.0), "entries": [0]}
    task, count = Anytime.of(table, **given), options.episodes
    rounds = range(options.rounds)
    single = AnytimeEnv(table, **given)
    found = {
        "alone": max(alone(task, count, options.steps) for _ in rounds),
        "one_at_a_time": max(one_at_a_time(single, options.steps * 20) for _ in rounds),
        "ppo": max(learning(task, count, options.timesteps) for _ in rounds),
        "ppo_still": max(learning(task, count, options.timesteps, still=True) for _ in rounds),
        "ppo_64_environments": max(learning(task, 64, options.timesteps // 16) for _ in rounds),
    }
    rates = {f"{name}_per_second": round(rate) for name, rate in found.items()}
    return {
        "schema_version": 1,
        "environment": gym.ANYTIME,
        "configurations": table.n_configs,
        "episodes": count,
        **rates,
        "alone_over_one_at_a_time": round(found["alone"] / found["one_at_a_time"], 1),
        "ppo_over_64_environments": round(found["ppo"] / found["ppo_64_environments"], 1),
        "ppo_over_still": round(found["ppo"] / found["ppo_still"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", choices=tuple(AXES), default="packaged")
    parser.add_argument(
        "--samples", type=int, default=60_000, help="of the table; three quarters to learn from"
    )
    parser.add_argument("--episodes", type=int, default=4096, help="at a time")
    parser.add_argument("--steps", type=int, default=200, help="of all episodes, alone")
    parser.add_argument("--timesteps", type=int, default=500_000, help="of learning")
    parser.add_argument("--rounds", type=int, default=3, help="the best of which counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options)
    if options.json:
        return print(json.dumps(found))
    for name, value in found.items():
        print(f"{name:>32}  {value}")


if __name__ == "__main__":
    main()
