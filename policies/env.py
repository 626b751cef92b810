"""Choosing a configuration as an environment: one sample, one choice, one reward (Gymnasium).

    import gymnasium, policies.gym
    env = gymnasium.make("adap/Configure-v0", table=table, lambda_=0.3)

Observation: the sample's features, standardised and cut to [-10, 10]; with a range of prices, log lambda as 8
hat functions behind them. Action: a configuration, or with actions="factored" a level on each axis. Reward:
score - lambda x cost / cost of the full configuration, where cost includes the features. An episode is one
step. Everything is looked up in the outcome table; no model runs. `policies.anytime.env` looks at answers
before it goes on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

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
)
from policies.errors import UsageError
from policies.table import OutcomeTable


class Episodes(NamedTuple):
    """n episodes at their start: which samples, at which price, and what is seen of them (n, D)."""

    rows: Indices
    lambda_: Floats
    observations: Singles


@dataclass(frozen=True)
class Configure:
    """The task itself, for any number of episodes at once; both environments are thin shells around it.

    features: (n, F) standardised; score: (n, C); cost_share: (C,) cost over the full configuration's, all
    included.
    prices: fixed (a number, which is not shown) or a range, one drawn per episode and shown.
    """

    features: Singles
    score: Singles
    cost_share: Floats
    actions: Actions
    prices: float | Prices

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        *,
        split: str = "fit",
        lambda_: float | tuple[float, float] | Prices = 0.1,
        actions: ActionKind = "discrete",
        overhead_flops: float | None = None,
    ) -> "Configure":
        """The task on one split; features are standardised by the fit split.

        lambda_: a price, or the range that each episode's is drawn from (uniform in the logarithm).
        overhead_flops: what every choice costs on top, by default the features.
        """
        rows = split_rows(table, split)
        overhead = float(table.feature_flops) if overhead_flops is None else overhead_flops
        prices = Prices(*lambda_) if isinstance(lambda_, tuple) else lambda_
        if not isinstance(prices, Prices) and not (np.isfinite(prices) and prices >= 0):
            raise UsageError(f"lambda {prices}: expected a finite price, 0 or more")
        scale = Standardiser.fit(table.features[split_rows(table, "fit")])
        return cls(
            features=scale(table.features[rows]),
            score=np.asarray(table.score[rows], dtype=np.float32),
            cost_share=(table.cost_flops + overhead) / table.cost_flops[table.full],
            actions=Actions.of(table, actions),
            prices=prices,
        )

    @property
    def observation_space(self) -> spaces.Box:
        """A finite box, (F,) or, with a range of prices, (F + 8,)."""
        shown = PRICE_NODES if isinstance(self.prices, Prices) else 0
        return spaces.Box(-CLIP, CLIP, (self.features.shape[1] + shown,), np.float32)

    @property
    def action_space(self) -> "spaces.Space[Any]":
        """One choice among all configurations, or one per axis."""
        sizes = self.actions.sizes
        return spaces.MultiDiscrete(list(sizes)) if self.actions.factored else spaces.Discrete(sizes[0])

    def begin(self, rng: np.random.Generator, count: int) -> Episodes:
        """Start `count` episodes with samples, and prices, drawn at random."""
        rows = rng.integers(len(self.features), size=count)
        if isinstance(self.prices, Prices):
            lambda_ = self.prices.draw(rng, count)
            shown = np.concatenate([self.features[rows], self.prices.code(lambda_)], axis=1)
            return Episodes(rows, lambda_, shown)
        return Episodes(rows, np.full(count, float(self.prices)), self.features[rows])

    def reward(self, episodes: Episodes, actions: npt.NDArray[Any]) -> Floats:
        """Score - lambda x share of the full cost, (n,)."""
        chosen = self.actions.configuration(actions)
        return self.score[episodes.rows, chosen] - episodes.lambda_ * self.cost_share[chosen]


def opened(table: OutcomeTable | str | Path) -> OutcomeTable:
    """The table itself, or the one in a folder; FileError as `OutcomeTable.load`."""
    return table if isinstance(table, OutcomeTable) else OutcomeTable.load(table)


class ConfigureEnv(gymnasium.Env[Any, Any]):
    """`adap/Configure-v0`: an episode is one sample and one choice. Arguments as in `Configure.of`.

    table: an outcome table, or the folder of one.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        table: OutcomeTable | str | Path,
        *,
        split: str = "fit",
        lambda_: float | tuple[float, float] = 0.1,
        actions: ActionKind = "discrete",
        overhead_flops: float | None = None,
    ) -> None:
        self.task = Configure.of(
            opened(table), split=split, lambda_=lambda_, actions=actions, overhead_flops=overhead_flops
        )
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Singles, dict[str, Any]]:
        """Draw a sample; returns what is seen of it, and its position in the split."""
        super().reset(seed=seed)
        self._episode = self.task.begin(self.np_random, 1)
        return self._episode.observations[0].copy(), self._info()

    def step(self, action: Any) -> tuple[Singles, float, bool, bool, dict[str, Any]]:
        """Choose a configuration; the episode ends."""
        reward = float(self.task.reward(self._episode, np.asarray([action]))[0])
        return self._episode.observations[0].copy(), reward, True, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {"row": int(self._episode.rows[0]), "lambda": float(self._episode.lambda_[0])}
