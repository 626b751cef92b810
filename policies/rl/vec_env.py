"""Many one-shot episodes in one array, as Stable-Baselines3 wants them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from policies.env import OneShot


class OneShotVecEnv(VecEnv):
    """`count` episodes of `task` at a time; with one, and the same seed, the same as `adap/OneShot-v0`.

    scale_rewards: divide rewards by 1 + lambda. The best choice at each price stays the same; dear prices
    no longer drown cheap ones in what is learned across prices.
    """

    def __init__(self, task: OneShot, count: int, seed: int = 0, *, scale_rewards: bool = False) -> None:
        self._task = task
        self._scale_rewards = scale_rewards
        self._rng = np.random.default_rng(seed)
        self.render_mode = None
        super().__init__(count, task.observation_space, task.action_space)
        self._ended = np.ones(count, dtype=bool)
        self._infos: list[dict[str, Any]] = [{} for _ in range(count)]

    def reset(self) -> Any:
        """Draw new samples; returns what is seen of them, (count, D)."""
        self._episodes = self._task.begin(self._rng, self.num_envs)
        return self._episodes.observations.copy()

    def step_async(self, actions: Any) -> None:
        """Remember the choices."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> Any:
        """Rewards of the choices, and the next samples: every episode has one step."""
        reward = self._task.reward(self._episodes, self._actions)
        if self._scale_rewards:
            reward = reward / (1.0 + self._episodes.lambda_)
        return self.reset(), reward.astype(np.float32), self._ended.copy(), self._infos

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
