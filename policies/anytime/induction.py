"""Optimal stopping over a lattice by backward induction with regression (Longstaff and Schwartz 2001).

From the ends backwards: what going on is worth at a configuration, given what its readout says, is regressed
on the *realised* value of going on along the rules already found behind it. The regressors are functions of
the readout alone and know no price, so one factorisation serves every price.

n samples (of which the first `n_fit` are learned from), C configurations, A actions, B regressors, P prices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.anytime.lattice import Lattice
from policies.encoding import Standardiser
from policies.errors import UsageError
from policies.table import OutcomeTable

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

KNOTS = 3
RIDGE = 1e-3
"""Shrinkage of everything but the constant, in units of one regressor's variance over the fit samples."""
BLOCK_BYTES = 1 << 28
"""Values of one block of prices take up to this."""


@dataclass(frozen=True, eq=False)
class Regressors:
    """A constant, S standardised signals and hinges max(0, signal - knot): piecewise linear in each.

    knots: (K, S), in standard units.
    """

    scale: Standardiser
    knots: FloatArray

    def __post_init__(self) -> None:
        if self.knots.ndim != 2 or self.knots.shape[1:] != self.scale.mean.shape:
            raise UsageError(f"knots of shape {self.knots.shape} for {self.scale.mean.shape} signals")
        if not np.isfinite(self.knots).all():
            raise UsageError("knots are not finite")

    @classmethod
    def fit(cls, signals: npt.NDArray[np.generic], knots: int = KNOTS) -> "Regressors":
        """From signals (n, S); the knots are their quantiles."""
        scale = Standardiser.fit(signals)
        places = np.linspace(0, 1, knots + 2)[1:-1]
        return cls(scale, np.quantile(scale(signals).astype(np.float64), places, axis=0))

    @property
    def size(self) -> int:
        """B."""
        return 1 + int(self.knots.shape[1]) * (1 + len(self.knots))

    def __call__(self, signals: npt.NDArray[np.generic]) -> Singles:
        """Signals (n, S) -> (n, B)."""
        z = self.scale(signals)
        hinges = np.maximum(z[:, None] - self.knots.astype(np.float32), 0).reshape(len(z), -1)
        return np.concatenate([np.ones((len(z), 1), np.float32), z, hinges], axis=1)

    def steepness(self, weights: FloatArray) -> FloatArray:
        """How much weights (..., B) can make of a change of one signal by 1, at most: (...)."""
        n_signals = self.knots.shape[1]
        linear, hinges = weights[..., 1 : 1 + n_signals], weights[..., 1 + n_signals :]
        shape = (*hinges.shape[:-1], len(self.knots), n_signals)
        total = np.abs(linear) + np.abs(hinges).reshape(shape).sum(axis=-2)
        return np.asarray((total / self.scale.scale).sum(axis=-1), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Rules:
    """What backward induction found.

    prices (P,): score of a full run. weights (P, C, A - 1, B): the gain of each action over stopping, by the
    regressors of the configuration. value (P, C): mean score less price x cost on the samples that were not
    learned from, for those that enter at the configuration, the cost of entering and every look included.
    """

    prices: FloatArray
    regressors: tuple[Regressors, ...]
    weights: Singles
    value: FloatArray


def induce(
    table: OutcomeTable,
    lattice: Lattice,
    scores: Singles,
    rows: IntArray,
    n_fit: int,
    prices: FloatArray,
    *,
    knots: int = KNOTS,
) -> Rules:
    """Rules for every price and configuration.

    rows (n,): samples of the table, the first n_fit to learn from, the others to value entries by; scores
    (n, C): theirs, to learn from and to value by. Cost: every increment with its readout, and a look each.
    """
    regressors = tuple(
        Regressors.fit(table.signals[rows[:n_fit], at], knots) for at in range(table.n_configs)
    )
    n_weights = (len(prices), table.n_configs, lattice.moves.shape[1] - 1, regressors[0].size)
    rules = Rules(prices, regressors, np.zeros(n_weights, np.float32), np.zeros(n_weights[:2]))
    look = look_flops(n_weights[-1], n_weights[-2])
    for group in groups(lattice):
        some = np.asarray(table.signals[rows[:, None], group[None]])
        inputs = {at: regressors[at](some[:, i]) for i, at in enumerate(group.tolist())}
        for block in _blocks(len(prices), len(group) * len(rows) * 4):
            _induce(table, lattice, scores, inputs, n_fit, rules, block, look)
    return rules


def look_flops(n_regressors: int, n_moves: int) -> int:
    """FLOPs of one look: the regressors of a readout and the gain of every move, 2 per multiply-add."""
    return 3 * n_regressors + 2 * n_regressors * n_moves


def groups(lattice: Lattice) -> list[IntArray]:
    """Configurations between which steps lead, in the lattice's order."""
    owner = np.arange(len(lattice.moves))
    for at in lattice.order[::-1]:
        joined = np.unique(owner[lattice.moves[at]])
        owner[np.isin(owner, joined)] = joined[0]
    ordered = owner[lattice.order]
    return [lattice.order[ordered == label] for label in np.unique(owner)]


def _blocks(count: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // max(1, bytes_each))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _induce(
    table: OutcomeTable,
    lattice: Lattice,
    scores: Singles,
    inputs: dict[int, Singles],
    n_fit: int,
    rules: Rules,
    block: slice,
    look: int,
) -> None:
    """One group of configurations at the prices of `block`: fills weights and value."""
    unit = rules.prices[block] / table.cost_flops[table.full]
    values: dict[int, Singles] = {}
    for at in reversed(list(inputs)):
        stop = scores[:, at]
        best = np.zeros((len(stop), len(unit)), np.float32)
        worth = np.repeat(stop[:, None], len(unit), axis=1)
        solver = _solver(inputs[at][:n_fit])
        for action, goal in distinct(lattice.moves[at]):
            paid = ((lattice.step_flops[at, action] + look) * unit).astype(np.float32)
            gained = values[goal] - paid
            weights = solver @ (gained[:n_fit] - stop[:n_fit, None])
            rules.weights[block, at, action - 1] = weights.T
            hoped = inputs[at] @ weights
            better = hoped > best
            np.copyto(best, hoped, where=better)
            np.copyto(worth, gained, where=better)
        values[at] = worth
        entering = (table.cost_flops[at] + look) * unit
        rules.value[block, at] = worth[n_fit:].mean(axis=0, dtype=np.float64) - entering


def distinct(moves: IntArray) -> list[tuple[int, int]]:
    """(action, goal) for the moves (A,) of one configuration, each goal once, without staying."""
    first: dict[int, int] = {int(moves[0]): 0}
    for action, goal in enumerate(moves.tolist()):
        first.setdefault(goal, action)
    return [(action, goal) for goal, action in first.items() if action]


def once(moves: IntArray) -> list[int]:
    """The moves (A,) of a configuration; where an action leads where an earlier one does, it stays."""
    kept = dict(distinct(moves))
    return [kept.get(action, int(moves[0])) for action in range(len(moves))]


def _solver(x: Singles) -> Singles:
    """Ridge regression on x (n, B), the constant first, as a matrix (B, n)."""
    wide = x.astype(np.float64)
    gram = wide.T @ wide
    penalty = RIDGE * len(x) * np.maximum(wide.var(axis=0), 1e-12)
    penalty[0] = 0.0
    # A regressor that never varies gets no weight rather than a singular matrix.
    penalty[1:][wide[:, 1:].std(axis=0) < 1e-9] = float(len(x))
    return np.asarray(np.linalg.solve(gram + np.diag(penalty), wide.T), dtype=np.float32)
