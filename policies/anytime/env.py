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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from policies.anytime.lattice import Lattice
from policies.anytime.seen import Sight
from policies.anytime.soft import ScoreKind, Target, aimed, scores_of
from policies.base import split_rows
from policies.encoding import CLIP, PRICE_NODES, Prices, price_or_range
from policies.env import TaskEnv, asked, draw_prices, labels_of, opened
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

    def take(self, places: npt.NDArray[Any]) -> Self:
        """A copy of the episodes at `places`."""
        return type(self)(**{name: values[places] for name, values in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Anytime:
    """The task itself, for any number of episodes at once (see `policies.env.Task`).

    signals (n x C, S) and score (n x C,): of sample r at configuration c in row r C + c. moves (C A,):
    configuration after action a at c, at c A + a; step_share (C A,): what that costs, as share of the full
    cost. entries: where episodes begin, one drawn for each. look_flops: part of every step's cost.
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
    look_flops: float
    target: Target
    labels: tuple[str, ...]

    reward_unit = 0.1

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        *,
        split: str = "fit",
        lambda_: float | Sequence[float] | Prices = 0.1,
        entries: Sequence[int] | None = None,
        score: ScoreKind | None = None,
        target: Target = "score",
        along: Sequence[str] | None = None,
        look_flops: float = 0.0,
    ) -> "Anytime":
        """The task on one split; signals are standardised, and scores calibrated, on the fit split.

        lambda_: a price, or a range (low, high); each episode then draws one, uniform in the logarithm.
        entries: positions in the table; by default the cheapest from which the full configuration can be
        reached. score, target, along: as for `policies.anytime.gate.train_gate`. look_flops: what each look
        costs on top. Raises UsageError for arguments out of range.
        """
        prices, table = price_or_range(lambda_), aimed(table, target)
        lattice, rows = Lattice.of(table, along), split_rows(table, split)
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
            look_flops=look_flops,
            target=target,
            labels=labels_of(table),
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

    def begin(self, rng: np.random.Generator, count: int, options: Mapping[str, Any] | None = None) -> Walks:
        """See Task."""
        n_rows = len(self.score) // self.n_configs
        row = asked(options, "row", rng.integers(n_rows, size=count), n_rows)
        at = self.entries[rng.integers(len(self.entries), size=count)]
        lambda_, shown = draw_prices(self.prices, rng, count, options)
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

    def observe(self, walks: Walks) -> Singles:
        """What is seen of each episode, (n, D)."""
        seen = self.sight(walks.at, walks.signals, walks.change, walks.later, walks.cost)
        return np.concatenate([seen, walks.shown], axis=1) if walks.shown.shape[1] else seen

    def info(self, walks: Walks) -> dict[str, npt.NDArray[Any]]:
        """See Task; cost_share: spent so far."""
        return {
            "row": walks.row.copy(),
            "configuration": walks.at.copy(),
            "lambda": walks.lambda_.astype(np.float64),
            "cost_share": walks.cost.astype(np.float64),
        }


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


class AnytimeEnv(TaskEnv):
    """`adap/Anytime-v0`: one episode at a time. Other arguments as in `Anytime.of`.

    table: an outcome table, or the folder of one.
    """

    def __init__(
        self, table: OutcomeTable | str | Path, *, render_mode: str | None = None, **given: Any
    ) -> None:
        super().__init__(Anytime.of(opened(table), **given), render_mode)
