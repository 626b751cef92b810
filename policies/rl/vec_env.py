"""Many episodes in one array, as Stable-Baselines3 wants them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from policies.anytime.env import Anytime
from policies.env import Configure

UNIT = 0.1
"""A price at which the rewards of anytime episodes are weighted half as much as at none."""


class TaskVecEnv(VecEnv):
    """What the environments share: `count` episodes of one task at a time, one random stream.

    Episodes that have ended begin anew at once; the observation they ended with is not kept, since none of
    them is cut short.
    """

    def __init__(self, task: Any, count: int, seed: int) -> None:
        self._task = task
        self._rng = np.random.default_rng(seed)
        self.render_mode = None
        super().__init__(count, task.observation_space, task.action_space)
        self._infos: list[dict[str, Any]] = [{} for _ in range(count)]

    def step_async(self, actions: Any) -> None:
        """Remember the choices."""
        self._actions = np.asarray(actions)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Start the random stream anew."""
        self._rng = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once per environment."""
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not supported: environments share one task."""
        raise NotImplementedError("environments share one task")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not supported: environments share one task."""
        raise NotImplementedError("environments share one task")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never."""
        return [False] * self.num_envs


class ConfigureVecEnv(TaskVecEnv):
    """Episodes of one choice each; with one, and the same seed, the same as `adap/Configure-v0`.

    scale_rewards: divide rewards by 1 + lambda. The best choice at each price stays the same; dear prices
    no longer drown cheap ones in what is learned across prices.
    """

    def __init__(self, task: Configure, count: int, seed: int = 0, *, scale_rewards: bool = False) -> None:
        super().__init__(task, count, seed)
        self._scale_rewards = scale_rewards
        self._ended = np.ones(count, dtype=bool)

    def reset(self) -> Any:
        """Draw new samples; returns what is seen of them, (count, D)."""
        self._episodes = self._task.begin(self._rng, self.num_envs)
        return self._episodes.observations.copy()

    def step_wait(self) -> Any:
        """Rewards of the choices, and the next samples: every episode has one step."""
        reward = self._task.reward(self._episodes, self._actions)
        if self._scale_rewards:
            reward = reward / (1.0 + self._episodes.lambda_)
        return self.reset(), reward.astype(np.float32), self._ended.copy(), self._infos


class AnytimeVecEnv(TaskVecEnv):
    """Episodes that look and go on; with one, and the same seed, the same as `adap/Anytime-v0`.

    scale_rewards: divide rewards by UNIT + lambda, likewise.
    """

    def __init__(self, task: Anytime, count: int, seed: int = 0, *, scale_rewards: bool = False) -> None:
        super().__init__(task, count, seed)
        self._scale_rewards = scale_rewards

    def reset(self) -> Any:
        """Draw new samples; returns what is seen of them, (count, D)."""
        self._walks = self._task.begin(self._rng, self.num_envs)
        return self._task.observe(self._walks)

    def step_wait(self) -> Any:
        """Rewards of the actions, and what is seen next."""
        walks = self._walks
        reward, ended = self._task.step(walks, self._actions)
        if self._scale_rewards:
            reward = reward / (UNIT + walks.lambda_)
        self._task.renew(walks, ended, self._rng)
        return self._task.observe(walks), reward, ended, self._infos
