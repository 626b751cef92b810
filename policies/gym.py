"""The environments by name: importing this module makes them known to Gymnasium.

    import gymnasium, policies.gym
    env = gymnasium.make("adap/Anytime-v0", table="adap-run/table", lambda_=(0.01, 1.0))
    envs = gymnasium.make_vec("adap/Anytime-v0", num_envs=4096, table="adap-run/table")

or, without the import, `gymnasium.make("policies.gym:adap/Anytime-v0", ...)`. `table` is an outcome table or
its folder. `policies/GYM.md` describes spaces, rewards and options.

`make` gives one environment, which is slow to learn from. `make_vec` (Gymnasium's VectorEnv) and `vec_env`
(Stable-Baselines3's VecEnv) hold thousands in one array.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from policies.anytime.env import Anytime
from policies.encoding import Singles
from policies.env import (
    RENDER_MODES,
    Configure,
    KeepsSpec,
    Task,
    check_render_mode,
    checked_actions,
    opened,
    rendered,
    renew,
)
from policies.errors import UnavailableError, UsageError
from policies.table import OutcomeTable

if TYPE_CHECKING:
    from policies.rl.vec_env import TaskVecEnv

CONFIGURE = "adap/Configure-v0"
ANYTIME = "adap/Anytime-v0"

_ENTRY_POINTS = {CONFIGURE: "policies.env:ConfigureEnv", ANYTIME: "policies.anytime.env:AnytimeEnv"}
_VECTOR_ENTRY_POINTS = {
    CONFIGURE: "policies.gym:ConfigureVectorEnv",
    ANYTIME: "policies.gym:AnytimeVectorEnv",
}

for _name, _entry_point in _ENTRY_POINTS.items():
    if _name not in gymnasium.registry:
        gymnasium.register(id=_name, entry_point=_entry_point, vector_entry_point=_VECTOR_ENTRY_POINTS[_name])


class TaskVectorEnv(KeepsSpec, VectorEnv[Any, Any, Any]):
    """`num_envs` episodes of one task, one random stream; one of them equals the single environment.

    autoreset_mode: "NextStep" (Gymnasium's default: the step after the end of an episode ignores its action
    and begins another) or "SameStep" (it begins at once; the last observation is in the info `final_obs`).
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        _check_count("num_envs", num_envs)
        self.task, self.num_envs = task, num_envs
        self.render_mode = check_render_mode(render_mode)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {
            "render_modes": list(RENDER_MODES),
            "render_fps": 4,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes: Any = None
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Singles, dict[str, Any]]:
        """Begin all episodes anew; what is seen of them (num_envs, D).

        options: `row` and `lambda` as of the single environment, one for all or one each.
        """
        super().reset(seed=seed)
        self._episodes = self.task.begin(self.np_random, self.num_envs, options)
        self._ended = np.zeros(self.num_envs, dtype=bool)
        return self.task.observe(self._episodes), _masked(self.task.info(self._episodes))

    def step(
        self, actions: Any
    ) -> tuple[Singles, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Act in all episodes. UsageError for actions that the space does not hold."""
        if self._episodes is None:
            raise UsageError("no episode has begun", "call reset")
        task, episodes = self.task, self._episodes
        rewards, ended = task.step(
            episodes, checked_actions(actions, self.single_action_space, self.num_envs)
        )
        rewards, extra = rewards.astype(np.float64), {}
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            again = self._ended
            rewards[again], ended = 0.0, ended & ~again
            renew(task, episodes, again, self.np_random)
        elif ended.any():
            extra = _final(task, episodes, ended)
            renew(task, episodes, ended, self.np_random)
        self._ended = ended
        infos = {**_masked(task.info(episodes)), **extra}
        return task.observe(episodes), rewards, ended.copy(), np.zeros(self.num_envs, dtype=bool), infos

    def render(self) -> tuple[str, ...] | None:
        """With render_mode="ansi" a line per episode."""
        if self.render_mode is None or self._episodes is None:
            return None
        return tuple(rendered(self.task, self._episodes))


class ConfigureVectorEnv(TaskVectorEnv):
    """`adap/Configure-v0` for `gymnasium.make_vec`; other arguments as in `Configure.of`."""

    def __init__(
        self,
        num_envs: int,
        table: OutcomeTable | str | Path,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **given: Any,
    ) -> None:
        task = Configure.of(opened(table), **given)
        super().__init__(task, num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode)


class AnytimeVectorEnv(TaskVectorEnv):
    """`adap/Anytime-v0` for `gymnasium.make_vec`; other arguments as in `Anytime.of`."""

    def __init__(
        self,
        num_envs: int,
        table: OutcomeTable | str | Path,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **given: Any,
    ) -> None:
        task = Anytime.of(opened(table), **given)
        super().__init__(task, num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode)


def _masked(columns: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Infos as Gymnasium vectorises them: beside each array, for which environments it holds."""
    found: dict[str, Any] = {}
    for name, values in columns.items():
        found[name], found[f"_{name}"] = values, np.ones(len(values), dtype=bool)
    return found


def _final(task: Task, episodes: Any, ended: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Last observations and infos of the episodes that have ended, as of Gymnasium's SyncVectorEnv."""
    places = np.flatnonzero(ended)
    last = np.empty(len(ended), dtype=object)
    for place, seen in zip(places.tolist(), task.observe(episodes.take(places)), strict=True):
        last[place] = seen
    infos: dict[str, Any] = {}
    for name, values in task.info(episodes).items():
        infos[name], infos[f"_{name}"] = np.where(ended, values, values.dtype.type(0)), ended.copy()
    return {"final_obs": last, "_final_obs": ended.copy(), "final_info": infos, "_final_info": ended.copy()}


def _autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    known = {mode.value: mode for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)}
    name = given.value if isinstance(given, AutoresetMode) else given
    if name not in known:
        raise UsageError(f"autoreset_mode {name!r}: not supported", f"allowed: {', '.join(known)}")
    return known[name]


def _check_count(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise UsageError(f"{name} {count}: expected an integer, 1 or more")


def vec_env(
    name: str,
    *,
    table: OutcomeTable | str | Path,
    n_envs: int = 4096,
    seed: int = 0,
    scale_rewards: bool = False,
    render_mode: str | None = None,
    **given: Any,
) -> "TaskVecEnv":
    """`n_envs` episodes of "adap/Configure-v0" or "adap/Anytime-v0" at a time, a Stable-Baselines3 `VecEnv`.

    The other arguments are those of the environment. scale_rewards: rewards that weigh all prices alike, see
    `policies.rl.vec_env`. Raises UsageError for another name, n_envs below 1 or arguments out of range,
    UnavailableError without stable-baselines3.
    """
    if name not in _ENTRY_POINTS:
        raise UsageError(f"environment {name!r}: not known", f"known: {', '.join(_ENTRY_POINTS)}")
    _check_count("n_envs", n_envs)
    try:
        from policies.rl.vec_env import TaskVecEnv
    except ImportError as error:
        raise UnavailableError(f"learning needs {error.name}", "pip install stable-baselines3") from error
    task: Task = {CONFIGURE: Configure, ANYTIME: Anytime}[name].of(opened(table), **given)  # type: ignore[attr-defined]
    return TaskVecEnv(task, n_envs, seed, scale_rewards=scale_rewards, render_mode=render_mode)
