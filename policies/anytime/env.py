"""Looking at answers and going on as an environment (Gymnasium).

    import gymnasium, policies.gym
    env = gymnasium.make("adap/Anytime-v0", table=table, lambda_=(0.01, 1.0))

An episode: a random sample at an entry configuration, whose cost is paid already. Actions are those of the
lattice (`policies.anytime.lattice`): stop, or go on to a configuration that continues this one; one that
changes nothing is a stop. Reward: score there - score here - lambda x what was executed for it / cost of the
full configuration; 0 for stopping. The sum over an episode is what the path gained on the entry, so gamma is
1; an episode has no more steps than the lattice has levels. Everything is looked up in the outcome table; no
model runs.

Observation, in this order: the present readout's signals, standardised per configuration; by how much they
differ from those of the readout before on this path, in the same units (0 at the entry), and whether there
was one; the place, as hat functions along each axis (one per level, 8 at most); the cost so far as a share of
the full one; with a range of prices, log lambda as 8 hat functions (`policies.encoding.Prices`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from policies.anytime.lattice import Lattice
from policies.anytime.seen import Sight
from policies.anytime.soft import ScoreKind, Target, aimed, scores_of
from policies.base import split_rows
from policies.encoding import CLIP, PRICE_NODES, Prices
from policies.env import opened
from policies.errors import UsageError
from policies.table import OutcomeTable

Singles = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(eq=False)
class Walks:
    """n episodes under way, changed in place.

    row, at (n,): sample and configuration; cost (n,): share of the full cost spent; lambda_ (n,); shown
    (n, 8 or 0): how a price is told; signals (n, S): of the present readout; change (n, S): against the one
    before, in raw units; later (n,): whether there was one.
    """

    row: IntArray
    at: IntArray
    cost: Singles
    lambda_: Singles
    shown: Singles
    signals: Singles
    change: Singles
    later: Singles


@dataclass(frozen=True, eq=False)
class Anytime:
    """The task itself, for any number of episodes at once; both environments are thin shells around it.

    signals (n x C, S) and score (n x C,): of sample r at configuration c in row r C + c. moves (C A,):
    configuration after action a at c, at c A + a; step_share (C A,): what that costs, as share of the full
    cost. entries: where episodes begin, one drawn for each.
    """

    lattice: Lattice
    sight: Sight
    signals: Singles
    score: Singles
    moves: IntArray
    step_share: Singles
    entry_share: Singles
    entries: IntArray
    ends: npt.NDArray[np.bool_]
    prices: float | Prices

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        *,
        split: str = "fit",
        lambda_: float | tuple[float, float] | Prices = 0.1,
        entries: Sequence[int] | None = None,
        score: ScoreKind | None = None,
        target: Target = "score",
        along: Sequence[str] | None = None,
        look_flops: float = 0.0,
    ) -> "Anytime":
        """The task on one split; signals are standardised, and scores calibrated, on the fit split.

        lambda_: a price, or the range that each episode's is drawn from (uniform in the logarithm).
        entries: positions in the table; by default the cheapest from which the full configuration can be
        reached. score, target, along: as for `policies.anytime.gate.train_gate`. look_flops: what each look
        costs on top. Raises UsageError for arguments out of range.
        """
        table = aimed(table, target)
        lattice, rows = Lattice.of(table, along), split_rows(table, split)
        prices = Prices(*lambda_) if isinstance(lambda_, tuple) else lambda_
        if not isinstance(prices, Prices) and not (np.isfinite(prices) and prices >= 0):
            raise UsageError(f"lambda {prices}: expected a finite price, 0 or more")
        begin = default_entries(table, lattice) if entries is None else _checked(entries, lattice)
        full = float(table.cost_flops[table.full])
        here = np.arange(table.n_configs)[:, None]
        steps = np.where(lattice.moves == here, 0.0, lattice.step_flops + look_flops) / full
        n_signals = len(table.signal_names)
        return cls(
            lattice=lattice,
            sight=Sight.fit(table, lattice),
            signals=np.ascontiguousarray(table.signals[rows], np.float32).reshape(-1, n_signals),
            score=scores_of(table, score)(table, rows).reshape(-1),
            moves=lattice.moves.reshape(-1),
            step_share=steps.reshape(-1).astype(np.float32),
            entry_share=((table.cost_flops + look_flops) / full).astype(np.float32),
            entries=begin,
            ends=lattice.ends,
            prices=prices,
        )

    @property
    def n_configs(self) -> int:
        """C."""
        return len(self.ends)

    @property
    def n_actions(self) -> int:
        """A."""
        return len(self.lattice.actions)

    @property
    def observation_space(self) -> spaces.Box:
        """A finite box, (2 S + P + 2,) and 8 more with a range of prices."""
        shown = PRICE_NODES if isinstance(self.prices, Prices) else 0
        return spaces.Box(-CLIP, CLIP, (self.sight.size + shown,), np.float32)

    @property
    def action_space(self) -> spaces.Discrete:
        """One of the lattice's actions; 0 stops."""
        return spaces.Discrete(self.n_actions)

    def begin(self, rng: np.random.Generator, count: int) -> Walks:
        """`count` episodes at their start."""
        row = rng.integers(len(self.score) // self.n_configs, size=count)
        at = self.entries[rng.integers(len(self.entries), size=count)]
        if isinstance(self.prices, Prices):
            lambda_ = self.prices.draw(rng, count)
            shown = self.prices.code(lambda_)
        else:
            lambda_, shown = np.full(count, float(self.prices)), np.zeros((count, 0), np.float32)
        signals = self.signals.take(row * self.n_configs + at, axis=0)
        return Walks(
            row=row,
            at=at,
            cost=self.entry_share[at],
            lambda_=lambda_.astype(np.float32),
            shown=shown,
            signals=signals,
            change=np.zeros_like(signals),
            later=np.zeros(count, np.float32),
        )

    def step(self, walks: Walks, actions: npt.NDArray[Any]) -> tuple[Singles, npt.NDArray[np.bool_]]:
        """Go on in place; rewards (n,), and which episodes have ended (n,)."""
        place = walks.at * self.n_actions + actions
        goal, share = self.moves.take(place), self.step_share.take(place)
        first = walks.row * self.n_configs
        gained = self.score.take(first + goal) - self.score.take(first + walks.at)
        ended = (goal == walks.at) | self.ends.take(goal)
        signals = self.signals.take(first + goal, axis=0)
        walks.change = signals - walks.signals
        walks.signals, walks.at = signals, goal
        walks.later = np.ones(len(goal), np.float32)
        walks.cost = walks.cost + share
        return gained - walks.lambda_ * share, ended

    def renew(self, walks: Walks, ended: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Begin anew in the places of the episodes that have ended (n,)."""
        places = np.flatnonzero(ended)
        if not len(places):
            return
        fresh = self.begin(rng, len(places))
        for name, values in vars(fresh).items():
            getattr(walks, name)[places] = values

    def observe(self, walks: Walks) -> Singles:
        """What is seen of each episode, (n, D)."""
        seen = self.sight(walks.at, walks.signals, walks.change, walks.later, walks.cost)
        return np.concatenate([seen, walks.shown], axis=1) if walks.shown.shape[1] else seen


def default_entries(table: OutcomeTable, lattice: Lattice) -> IntArray:
    """The cheapest configuration from which the full one can be reached."""
    into = [at for at in range(table.n_configs) if table.full in lattice.reachable(at)]
    return np.array([min(into, key=lambda at: (table.cost_flops[at], at))], dtype=np.int64)


def _checked(entries: Sequence[int], lattice: Lattice) -> IntArray:
    found = np.asarray(entries)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise UsageError(f"entries {entries}: expected positions in the table")
    if found.min() < 0 or found.max() >= len(lattice.moves):
        raise UsageError(f"entries {found.tolist()}: the table has {len(lattice.moves)} configurations")
    return found.astype(np.int64)


class AnytimeEnv(gymnasium.Env[Any, Any]):
    """`adap/Anytime-v0`: one episode at a time. Arguments as in `Anytime.of`.

    table: an outcome table, or the folder of one.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, table: OutcomeTable | str | Path, **given: Any) -> None:
        self.task = Anytime.of(opened(table), **given)
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Singles, dict[str, Any]]:
        """Draw a sample at an entry; returns what is seen of it, and what it is."""
        super().reset(seed=seed)
        self._walk = self.task.begin(self.np_random, 1)
        return self.task.observe(self._walk)[0].copy(), self._info()

    def step(self, action: Any) -> tuple[Singles, float, bool, bool, dict[str, Any]]:
        """Stop or go on."""
        reward, ended = self.task.step(self._walk, np.asarray([action], dtype=np.int64))
        return self.task.observe(self._walk)[0].copy(), float(reward[0]), bool(ended[0]), False, self._info()

    def _info(self) -> dict[str, Any]:
        """row: position in the split; configuration: position in the table; cost_share: spent so far."""
        return {
            "row": int(self._walk.row[0]),
            "configuration": int(self._walk.at[0]),
            "lambda": float(self._walk.lambda_[0]),
            "cost_share": float(self._walk.cost[0]),
        }
