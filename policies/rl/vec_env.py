"""Many episodes in one array, as Stable-Baselines3 wants them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from policies.env import Task, check_render_mode, checked_actions, rendered, renew
from policies.errors import UsageError

Info = dict[str, Any]


class Infos(Sequence[Info]):
    """One dictionary per episode, made when first read: thousands per step would cost more than the step.

    columns: of `Task.info`; ended (n,), final: observations of those that have ended, at their end.
    """

    def __init__(
        self, columns: dict[str, npt.NDArray[Any]], ended: Iterable[int] = (), final: Any = None
    ) -> None:
        self._columns, self._ended, self._final = columns, ended, final
        self._made: list[Info] | None = None

    def _all(self) -> list[Info]:
        if self._made is None:
            lists = [
                self._columns[name].tolist() for name in ("row", "configuration", "lambda", "cost_share")
            ]
            self._made = [
                {"row": row, "configuration": at, "lambda": price, "cost_share": share}
                for row, at, price, share in zip(*lists, strict=True)
            ]
            if self._final is not None:
                for info in self._made:
                    info["TimeLimit.truncated"] = False
                for place, seen in zip(self._ended, self._final(), strict=True):
                    self._made[place]["terminal_observation"] = seen
        return self._made

    @overload
    def __getitem__(self, place: int) -> Info: ...
    @overload
    def __getitem__(self, place: slice) -> list[Info]: ...
    def __getitem__(self, place: int | slice) -> Info | list[Info]:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._columns["row"])

    def __iter__(self) -> Iterator[Info]:
        return iter(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


class View:
    """One environment of many, as `get_attr`, `set_attr` and `env_method` see it.

    What is set on it is its own; the task, its spaces and all else are shared with the others.
    """

    def __init__(self, envs: "TaskVecEnv", place: int) -> None:
        self._envs, self._place = envs, place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._envs, name)

    @property
    def unwrapped(self) -> "View":
        """Itself."""
        return self

    @property
    def info(self) -> Info:
        """Where its episode is."""
        return {name: values.item() for name, values in self._envs.task.info(self._episode).items()}

    @property
    def _episode(self) -> Any:
        return self._envs.episodes.take(np.array([self._place]))

    def render(self) -> str:
        """The same as a line of text."""
        return rendered(self._envs.task, self._episode)[0]

    def get_wrapper_attr(self, name: str) -> Any:
        """An attribute of its own, or one that all share."""
        return getattr(self, name)


class TaskVecEnv(VecEnv):
    """`count` episodes of one task at a time, one random stream; with one, and the same seed, the same as the
    Gymnasium environment.

    scale_rewards: divide rewards by (a unit of the task + lambda). The best choice at each price stays the
    same; dear prices no longer drown cheap ones in what is learned across prices.
    infos: whether steps tell of rows, configurations, costs and last observations. A trainer that reads none
    saves the copies.
    """

    def __init__(
        self,
        task: Task,
        count: int,
        seed: int = 0,
        *,
        scale_rewards: bool = False,
        infos: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self.task = task
        self.render_mode = check_render_mode(render_mode)
        self.episodes: Any = None
        self._rng = np.random.default_rng(seed)
        self._scale_rewards = scale_rewards
        self._views: dict[int, View] = {}
        self._no_infos: list[Info] | None = None if infos else [{} for _ in range(count)]
        super().__init__(count, task.observation_space, task.action_space)

    def reset(self) -> Any:
        """Draw new samples; returns what is seen of them, (count, D).

        Options as of the Gymnasium environment, from `set_options`.
        """
        wanted = {name for options in self._options for name in options}
        options = {name: _gathered(name, self._options) for name in sorted(wanted)}
        self.episodes = self.task.begin(self._rng, self.num_envs, options)
        self._reset_options()
        if self._no_infos is None:
            self.reset_infos = Infos(self.task.info(self.episodes))  # type: ignore[assignment]
        return self.task.observe(self.episodes)

    def step_async(self, actions: Any) -> None:
        """Remember the actions; UsageError for those that the space does not hold."""
        if self.episodes is None:
            raise UsageError("no episode has begun", "call reset")
        self._actions = checked_actions(actions, self.action_space, self.num_envs)

    def step_wait(self) -> Any:
        """Rewards of the actions, and what is seen next: episodes that have ended begin anew at once."""
        task, episodes = self.task, self.episodes
        reward, ended = task.step(episodes, self._actions)
        if self._scale_rewards:
            reward = reward / (task.reward_unit + episodes.lambda_)
        infos = self._no_infos if self._no_infos is not None else self._infos(ended)
        renew(task, episodes, ended, self._rng)
        return task.observe(episodes), reward.astype(np.float32, copy=False), ended, infos

    def _infos(self, ended: npt.NDArray[np.bool_]) -> Infos:
        """What the step just made tells; the last observations are put together only if they are read."""
        places = np.flatnonzero(ended)
        last, task = self.episodes.take(places), self.task
        return Infos(task.info(self.episodes), places.tolist(), lambda: task.observe(last))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Start the random stream anew."""
        self._rng = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def close(self) -> None:
        """Nothing to close."""

    def _chosen(self, indices: Any) -> list[View]:
        return [self._views.setdefault(i, View(self, i)) for i in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of each of the environments; what is shared is the same object in all."""
        return [getattr(view, attr_name) for view in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of some environments; it changes nothing of the task, which all share."""
        for view in self._chosen(indices):
            setattr(view, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call `render` or another method of single environments; AttributeError if they have none such."""
        if not hasattr(View, method_name):
            raise AttributeError(f"environments over a table have no method {method_name}")
        return [getattr(view, method_name)(*args, **kwargs) for view in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never."""
        return [False for _ in self._get_indices(indices)]


def _gathered(name: str, options: Sequence[dict[str, Any]]) -> npt.NDArray[Any]:
    """The option of every environment; UsageError if some have none."""
    if any(name not in one for one in options):
        raise UsageError(f"reset option {name!r}: give it to every environment")
    return np.array([one[name] for one in options])
