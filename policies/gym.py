"""The environments by name: importing this module makes them known to Gymnasium.

    import gymnasium, policies.gym
    env = gymnasium.make("adap/Anytime-v0", table="adap-run/table", lambda_=(0.01, 1.0))

or, without the import, `gymnasium.make("policies.gym:adap/Anytime-v0", ...)`. `table` is an outcome table or
its folder. `policies/GYM.md` describes spaces, rewards and options.

Gymnasium builds one environment at a time, which is slow to learn from. `vec_env` holds thousands in one
array, as Stable-Baselines3 wants them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from policies.errors import UnavailableError, UsageError
from policies.table import OutcomeTable

if TYPE_CHECKING:
    from policies.rl.vec_env import TaskVecEnv

CONFIGURE = "adap/Configure-v0"
ANYTIME = "adap/Anytime-v0"

_ENTRY_POINTS = {CONFIGURE: "policies.env:ConfigureEnv", ANYTIME: "policies.anytime.env:AnytimeEnv"}

for _name, _entry_point in _ENTRY_POINTS.items():
    if _name not in gymnasium.registry:
        gymnasium.register(id=_name, entry_point=_entry_point)


def vec_env(
    name: str,
    *,
    table: OutcomeTable | str | Path,
    n_envs: int = 4096,
    seed: int = 0,
    scale_rewards: bool = False,
    **given: Any,
) -> "TaskVecEnv":
    """`n_envs` episodes of "adap/Configure-v0" or "adap/Anytime-v0" at a time, a Stable-Baselines3 `VecEnv`.

    The other arguments are those of the environment. scale_rewards: rewards that weigh all prices alike, see
    `policies.rl.vec_env`. Raises UsageError for another name, n_envs below 1 or arguments out of range,
    UnavailableError without stable-baselines3.
    """
    if name not in _ENTRY_POINTS:
        raise UsageError(f"environment {name!r}: not known", f"known: {', '.join(_ENTRY_POINTS)}")
    if n_envs < 1:
        raise UsageError(f"n_envs {n_envs}: expected 1 or more")
    try:
        from policies.rl.vec_env import AnytimeVecEnv, ConfigureVecEnv
    except ImportError as error:
        raise UnavailableError(f"learning needs {error.name}", "pip install stable-baselines3") from error
    from policies.anytime.env import Anytime
    from policies.env import Configure, opened

    if name == CONFIGURE:
        task = Configure.of(opened(table), **given)
        return ConfigureVecEnv(task, n_envs, seed, scale_rewards=scale_rewards)
    return AnytimeVecEnv(Anytime.of(opened(table), **given), n_envs, seed, scale_rewards=scale_rewards)
