"""Choosing a configuration as an environment: one sample, one choice, one reward (Gymnasium).

    import gymnasium, policies.gym
    env = gymnasium.make("adap/Configure-v0", table=table, lambda_=0.3)

Observation: the sample's features, standardised and cut to [-10, 10]; with a range of prices, log lambda as 8
hat functions behind them. Action: a configuration, or with actions="factored" a level on each axis. Reward:
score - lambda x cost / cost of the full configuration, where cost includes the features. An episode is one
step. Everything is looked up in the outcome table; no model runs. `policies.anytime.env` looks at answers
before it goes on.

Both environments are a `Task` over arrays of episodes. `TaskEnv` (here, one episode), `policies.gym`
(Gymnasium's VectorEnv) and `policies.rl.vec_env` (Stable-Baselines3's VecEnv) are interfaces to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, Self

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from policies.base import split_rows
from policies.encoding import (
    CLIP,
    PRICE_NODES,
    ActionKind,
    Actions,
    Floats,
    Indices,
    Prices,
    Singles,
    Standardiser,
    price_or_range,
)
from policies.errors import UsageError
from policies.table import OutcomeTable
from policies.table.schema import id_columns

Booleans = npt.NDArray[np.bool_]
RENDER_MODES = ("ansi",)


@dataclass(eq=False)
class Episodes:
    """n episodes of `Configure`, changed in place.

    row (n,): positions in the split; lambda_ (n,); shown (n, 8 or 0): the code of the price; at (n,): the
    configuration chosen, -1 before.
    """

    row: Indices
    lambda_: Floats
    shown: Singles
    at: Indices

    def take(self, places: npt.NDArray[Any]) -> Self:
        """A copy of the episodes at `places`."""
        return type(self)(**{name: values[places] for name, values in vars(self).items()})


class Task(Protocol):
    """A task for any number of episodes at once. Its episodes are arrays that are changed in place."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The configurations in words."""

    @property
    def reward_unit(self) -> float:
        """The price at which scaled rewards (see policies.rl.vec_env) are half those at price 0."""

    @property
    def observation_space(self) -> spaces.Box:
        """Of one episode."""

    @property
    def action_space(self) -> "spaces.Discrete | spaces.MultiDiscrete":
        """Of one episode."""

    def begin(self, rng: np.random.Generator, count: int, options: Mapping[str, Any] | None = None) -> Any:
        """`count` episodes at their start; options: see `asked`."""

    def step(self, episodes: Any, actions: Indices) -> tuple[npt.NDArray[Any], Booleans]:
        """Act in place; rewards (n,), and which episodes have ended (n,)."""

    def observe(self, episodes: Any) -> Singles:
        """What is seen of each episode, (n, D)."""

    def info(self, episodes: Any) -> dict[str, npt.NDArray[Any]]:
        """row, configuration, lambda and cost_share, (n,) each; arrays of their own."""


@dataclass(frozen=True)
class Configure:
    """The task itself, for any number of episodes at once.

    features: (n, F) standardised by `scale`; score: (n, C); cost_share: (C,) cost over the full
    configuration's, all included.
    prices: fixed (a number, which is not shown) or a range, one drawn per episode and shown.
    """

    features: Singles
    scale: Standardiser
    score: Singles
    cost_share: Floats
    actions: Actions
    prices: float | Prices
    labels: tuple[str, ...]

    reward_unit = 1.0

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        *,
        split: str = "fit",
        lambda_: float | Sequence[float] | Prices = 0.1,
        actions: ActionKind = "discrete",
        overhead_flops: float | None = None,
    ) -> "Configure":
        """The task on one split; features are standardised by the fit split.

        lambda_: a price, or a range (low, high); each episode then draws one, uniform in the logarithm.
        overhead_flops: what every choice costs on top, by default the features.
        """
        prices = price_or_range(lambda_)
        rows = split_rows(table, split)
        overhead = float(table.feature_flops) if overhead_flops is None else overhead_flops
        scale = Standardiser.fit(table.features[split_rows(table, "fit")])
        return cls(
            features=scale(table.features[rows]),
            scale=scale,
            score=np.asarray(table.score[rows], dtype=np.float32),
            cost_share=(table.cost_flops + overhead) / table.cost_flops[table.full],
            actions=Actions.of(table, actions),
            prices=prices,
            labels=labels_of(table),
        )

    @property
    def observation_space(self) -> spaces.Box:
        """A finite box, (F,) or, with a range of prices, (F + 8,)."""
        shown = PRICE_NODES if isinstance(self.prices, Prices) else 0
        return spaces.Box(-CLIP, CLIP, (self.features.shape[1] + shown,), np.float32)

    @property
    def action_space(self) -> "spaces.Discrete | spaces.MultiDiscrete":
        """One choice among all configurations, or one per axis."""
        sizes = self.actions.sizes
        return spaces.MultiDiscrete(list(sizes)) if self.actions.factored else spaces.Discrete(sizes[0])

    def begin(
        self, rng: np.random.Generator, count: int, options: Mapping[str, Any] | None = None
    ) -> Episodes:
        """See Task."""
        drawn = rng.integers(len(self.features), size=count)
        row = asked(options, "row", drawn, len(self.features))
        lambda_, shown = draw_prices(self.prices, rng, count, options)
        return Episodes(row, lambda_, shown, np.full(count, -1))

    def step(self, episodes: Episodes, actions: Indices) -> tuple[Floats, Booleans]:
        """See Task: score - lambda x share of the full cost; every episode ends."""
        episodes.at = chosen = self.actions.configuration(actions)
        reward = self.score[episodes.row, chosen] - episodes.lambda_ * self.cost_share[chosen]
        return reward, np.ones(len(chosen), dtype=bool)

    def observe(self, episodes: Episodes) -> Singles:
        """See Task."""
        seen = self.features[episodes.row]
        return np.concatenate([seen, episodes.shown], axis=1) if episodes.shown.shape[1] else seen

    def info(self, episodes: Episodes) -> dict[str, npt.NDArray[Any]]:
        """See Task; before the choice the configuration is -1 and nothing is spent."""
        return {
            "row": episodes.row.copy(),
            "configuration": episodes.at.copy(),
            "lambda": episodes.lambda_.copy(),
            "cost_share": np.where(episodes.at < 0, 0.0, self.cost_share[episodes.at]),
        }


def labels_of(table: OutcomeTable) -> tuple[str, ...]:
    """Each configuration in words, by the columns in which configurations differ."""
    named = id_columns(table.configs)
    varying = [name for name in named if table.configs[name].nunique() > 1] or list(named)
    rows = zip(*(table.configs[name].tolist() for name in varying), strict=True)
    return tuple(" ".join(f"{n}={v}" for n, v in zip(varying, row, strict=True)) for row in rows)


OPTIONS = ("row", "lambda")


def asked(options: Mapping[str, Any] | None, name: str, drawn: Indices, limit: int) -> Indices:
    """Positions (n,) below `limit` that the options of `reset` ask for, else those that were drawn.

    One position counts for all episodes. UsageError for unknown options and positions out of range.
    """
    unknown = [key for key in options or () if key not in OPTIONS]
    if unknown:
        raise UsageError(f"reset has no option {unknown[0]!r}", f"it has: {', '.join(OPTIONS)}")
    if not options or name not in options:
        return drawn
    wanted = np.asarray(options[name])
    if wanted.dtype.kind not in "iu" or wanted.shape not in ((), drawn.shape):
        raise UsageError(f"{name} {options[name]!r}: expected one integer, or {len(drawn)} of them")
    if wanted.min() < 0 or wanted.max() >= limit:
        raise UsageError(f"{name} {options[name]!r}: expected 0 to {limit - 1}")
    return np.broadcast_to(wanted, drawn.shape).astype(np.int64)


def draw_prices(
    prices: float | Prices, rng: np.random.Generator, count: int, options: Mapping[str, Any] | None
) -> tuple[Floats, Singles]:
    """Prices (n,), fixed, drawn or as the options of `reset` ask, and what is shown of them (n, 8 or 0)."""
    lambda_ = prices.draw(rng, count) if isinstance(prices, Prices) else np.full(count, prices)
    if options and "lambda" in options:
        wanted = np.asarray(options["lambda"])
        if wanted.dtype.kind not in "iuf" or wanted.shape not in ((), (count,)):
            raise UsageError(f"lambda {options['lambda']!r}: expected one price, or {count} of them")
        if not (np.isfinite(wanted).all() and (wanted >= 0).all()):
            raise UsageError(f"lambda {options['lambda']!r}: expected finite prices, 0 or more")
        lambda_ = np.broadcast_to(wanted, (count,)).astype(np.float64)
    shown = prices.code(lambda_) if isinstance(prices, Prices) else np.zeros((count, 0), np.float32)
    return lambda_, shown


def checked_actions(actions: Any, space: "spaces.Space[Any]", count: int) -> Indices:
    """The actions of `count` episodes as int64, (count,) or (count, parts).

    UsageError for what the space does not hold: a negative action would silently be looked up in the row of
    another configuration.
    """
    found = np.asarray(actions)
    sizes = np.asarray(space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n)  # type: ignore[attr-defined]
    if np.ma.is_masked(actions):
        raise UsageError("actions: some are masked out", "give every episode an action")
    if found.dtype.kind not in "iu":
        raise UsageError(f"actions of type {found.dtype}: expected integers")
    if found.shape != (count, *sizes.shape):
        raise UsageError(f"actions of shape {found.shape}: expected {(count, *sizes.shape)}")
    if found.min(initial=0) < 0 or (found >= sizes).any():
        wrong = int(np.flatnonzero(((found < 0) | (found >= sizes)).reshape(count, -1).any(axis=1))[0])
        raise UsageError(f"action {found[wrong].tolist()} of episode {wrong}: not in {space}")
    return found.astype(np.int64, copy=False)


def renew(task: Task, episodes: Any, ended: Booleans, rng: np.random.Generator) -> None:
    """Begin anew in the places of the episodes that have ended (n,)."""
    places = np.flatnonzero(ended)
    if not len(places):
        return
    fresh = vars(task.begin(rng, len(places)))
    if len(places) == len(ended):
        vars(episodes).update(fresh)
        return
    for name, values in fresh.items():
        getattr(episodes, name)[places] = values


def rendered(task: Task, episodes: Any) -> list[str]:
    """A line of text per episode."""
    info = task.info(episodes)
    columns = (info[name].tolist() for name in ("row", "configuration", "lambda", "cost_share"))
    return [
        f"row {row}: {'nothing chosen' if at < 0 else task.labels[at]}, "
        f"cost {share:.4g} of full, lambda {price:.4g}"
        for row, at, price, share in zip(*columns, strict=True)
    ]


def check_render_mode(mode: str | None) -> str | None:
    """The mode itself; UsageError unless it is None or "ansi"."""
    if mode is not None and mode not in RENDER_MODES:
        raise UsageError(f"render_mode {mode!r}: not known", f"allowed: {', '.join(RENDER_MODES)}")
    return mode


def opened(table: OutcomeTable | str | PathLike[str]) -> OutcomeTable:
    """The table itself, or the one in a folder; FileError as `OutcomeTable.load`."""
    return table if isinstance(table, OutcomeTable) else OutcomeTable.load(fspath(table))


class KeepsSpec:
    """A `spec` that survives JSON: paths, ranges and enumerations are put in plain values."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium made this environment."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            spec.kwargs = {name: _plain(value) for name, value in spec.kwargs.items()}
        self._spec = spec


def _plain(value: Any) -> Any:
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Prices):
        return [value.low, value.high]
    if isinstance(value, Enum):
        return value.value
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


class TaskEnv(KeepsSpec, gymnasium.Env[Any, Any]):
    """One episode of a task at a time."""

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012

    def __init__(self, task: Task, render_mode: str | None = None) -> None:
        self.render_mode = check_render_mode(render_mode)
        self.task = task
        self.observation_space = task.observation_space
        self.action_space = task.action_space
        self._episode: Any = None
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Singles, dict[str, Any]]:
        """Draw a sample; returns what is seen of it, and what it is.

        options: `row`, a position in the split, and `lambda`, a price, in place of those drawn.
        """
        super().reset(seed=seed)
        self._episode, self._over = self.task.begin(self.np_random, 1, options), False
        return self._seen()

    def step(self, action: Any) -> tuple[Singles, float, bool, bool, dict[str, Any]]:
        """Act. UsageError for an action that the space does not hold, and after the end of the episode."""
        if self._over:
            raise UsageError("the episode has ended, or has not begun", "call reset")
        actions = action[None] if isinstance(action, np.ma.MaskedArray) else np.asarray(action)[None]
        rewards, ended = self.task.step(self._episode, checked_actions(actions, self.action_space, 1))
        self._over = bool(ended[0])
        seen, info = self._seen()
        return seen, float(rewards[0]), self._over, False, info

    def render(self) -> str | None:
        """With render_mode="ansi" one line on where the episode is; before the first, none."""
        if self.render_mode is None or self._episode is None:
            return None if self.render_mode is None else ""
        return rendered(self.task, self._episode)[0]

    def _seen(self) -> tuple[Singles, dict[str, Any]]:
        info = {name: values[0].item() for name, values in self.task.info(self._episode).items()}
        return self.task.observe(self._episode)[0], info


class ConfigureEnv(TaskEnv):
    """`adap/Configure-v0`: an episode is one sample and one choice. Other arguments as in `Configure.of`.

    table: an outcome table, or the folder of one.
    """

    def __init__(
        self, table: OutcomeTable | str | Path, *, render_mode: str | None = None, **given: Any
    ) -> None:
        super().__init__(Configure.of(opened(table), **given), render_mode)
