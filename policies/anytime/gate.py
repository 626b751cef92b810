"""`gate`: look at each readout and go on as long as going on is worth its price.

At every configuration of a lattice a thin linear layer over the readout's own signals (piecewise linear in
each, so calibrated per configuration) says what each step gains over stopping; the best is taken. It is found
by backward induction, for a price; a range of prices gives the whole trade-off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.anytime.induction import Regressors, Rules, induce, look_flops, once
from policies.anytime.lattice import Lattice
from policies.anytime.prices import price_range
from policies.anytime.soft import ScoreKind, Target, aimed, scores_of
from policies.anytime.walk import Node, decide, positions, walk
from policies.base import Decision, FloatArray, IntArray, Progress, Trained, measure, split_rows
from policies.encoding import Standardiser
from policies.errors import UsageError
from policies.grid import Grid
from policies.live import Looks, Verdict
from policies.objective import Objective
from policies.shown import short_repr
from policies.table import OutcomeTable

PRICES_TRIED = 33


@dataclass(frozen=True, eq=False)
class Gate:
    """Enters at nodes[0] and goes on to where `weights` promise most, if that is more than stopping.

    nodes: K positions in the grid. moves (K, A): place in nodes to which each action leads, its own to stay
    (the first always does). regressors: K; weights (K, A - 1, B): gain of the other actions over stopping.
    lambda_: the price it was made for. Every look costs `own_flops`.
    """

    __repr__ = short_repr

    grid: Grid
    signal_names: tuple[str, ...]
    nodes: tuple[int, ...]
    moves: IntArray
    regressors: tuple[Regressors, ...]
    weights: npt.NDArray[np.float32]
    lambda_: float
    name: str = "gate"

    kind = "gate"
    feature_names = ()

    def __post_init__(self) -> None:
        positions(self.grid, self.nodes, self.moves)
        expected = (len(self.nodes), self.moves.shape[1] - 1, self.regressors[0].size)
        if self.weights.shape != expected or len(self.regressors) != len(self.nodes):
            raise UsageError(f"weights of shape {self.weights.shape}, expected {expected}")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError("weights and price must be finite")
        if {len(each.scale.mean) for each in self.regressors} != {len(self.signal_names)}:
            raise UsageError(f"regressors do not fit {len(self.signal_names)} signals")

    @property
    def own_flops(self) -> int:
        """Of one look; each readout is looked at. 0 where there is nothing to decide."""
        return look_flops(self.regressors[0].size, self.moves.shape[1] - 1) if len(self.nodes) > 1 else 0

    @property
    def look_flops(self) -> int:
        """Of each look after the first, see policies.live.Stopper."""
        return self.own_flops

    def gain(self, node: Node, signals: npt.NDArray[Any]) -> FloatArray:
        """What each action gains over stopping at a node, (n, A); signals (n, S). 0 for those that stay."""
        promised = self.regressors[node](signals).astype(np.float64) @ self.weights[node].T.astype(np.float64)
        return np.where(self.moves[node] == node, 0.0, np.column_stack([np.zeros(len(signals)), promised]))

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. UsageError without a signal, FileError if a step cannot be."""
        return walk(self, table, rows, lambda node, signals, *_: self.gain(node, signals))

    def reachable(self) -> tuple[int, ...]:
        """See policies.live.Stopper."""
        return self.nodes

    def verdict(self, looks: Looks) -> Verdict:
        """See policies.live.Stopper. UsageError without a signal."""
        return decide(self, looks, lambda node, signals, *_: self.gain(node, signals), self._steepness)

    def _steepness(self, node: Node, *_: object) -> float:
        """See policies.anytime.walk.Steepness: of any two actions."""
        return 2 * float(self.regressors[node].steepness(self.weights[node]).max(initial=0.0))

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {"signal_names": list(self.signal_names), "nodes": list(self.nodes), "lambda": self.lambda_}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        return {
            "moves": self.moves,
            "weights": self.weights,
            "mean": np.stack([each.scale.mean for each in self.regressors]),
            "scale": np.stack([each.scale.scale for each in self.regressors]),
            "knots": np.stack([each.knots for each in self.regressors]),
        }

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        parts = zip(*(arrays[part].astype(np.float64) for part in ("mean", "scale", "knots")), strict=True)
        return cls(
            grid=grid,
            signal_names=tuple(map(str, parameters["signal_names"])),
            nodes=tuple(map(int, parameters["nodes"])),
            moves=arrays["moves"].astype(np.int64),
            regressors=tuple(Regressors(Standardiser(mean, scale), knots) for mean, scale, knots in parts),
            weights=arrays["weights"].astype(np.float32),
            lambda_=float(parameters["lambda"]),
            name=name,
        )


def train_gate(
    table: OutcomeTable,
    objective: Objective,
    *,
    target: Target = "score",
    score: ScoreKind | None = None,
    along: tuple[str, ...] | None = None,
    progress: Progress | None = None,
    name: str = "gate",
) -> Trained:
    """Backward induction on the fit split at many prices, entry per price and the price on the tune split.

    target: "score", or "same-answer", for which no label is read; score: "soft" or "hard", what is learned
    from (see `policies.anytime.soft`); along: the axes to walk, by default those that need nothing again.
    With `lambda_` as the objective that price is used as it is. Raises UsageError for arguments out of
    range, InfeasibleError if no price meets the objective on the tune split.
    """
    table = aimed(table, target)
    lattice = Lattice.of(table, along)
    prices = (
        price_range(table, objective).grid(PRICES_TRIED)
        if not objective.lambda_
        else np.array([objective.lambda_])
    )
    family = gates(table, lattice, prices, score=score, name=name)
    measured = measure(family, table, split_rows(table, "tune"))
    return measured.trained(family, objective, measured.choose(table, objective))


def gates(
    table: OutcomeTable,
    lattice: Lattice,
    prices: FloatArray,
    *,
    score: ScoreKind | None = None,
    name: str = "gate",
) -> list[Gate]:
    """One gate per price, each entering where it is worth most on the tune split.

    Where no look is worth its cost, the gate is a single configuration.
    """
    fit, tune = split_rows(table, "fit"), split_rows(table, "tune")
    # Entries are compared by soft scores too: they differ by less than labels of this many samples can tell.
    learned, valued = scores_of(table, score), scores_of(table)
    scores = np.concatenate([learned(table, fit), valued(table, tune)])
    rules = induce(table, lattice, scores, np.r_[fit, tune], len(fit), prices)
    grid = Grid.of(table)
    share = table.cost_flops / table.cost_flops[table.full]
    static = scores[len(fit) :].mean(axis=0, dtype=np.float64) - prices[:, None] * share
    found = []
    for i in range(len(prices)):
        entry, blind = int(rules.value[i].argmax()), int(static[i].argmax())
        looking = rules.value[i, entry] > static[i, blind]
        nodes = lattice.reachable(entry) if looking else (blind,)
        found.append(gate_of(table, grid, lattice, rules, i, nodes, name))
    return found


def gate_of(
    table: OutcomeTable,
    grid: Grid,
    lattice: Lattice,
    rules: Rules,
    at_price: int,
    nodes: tuple[int, ...],
    name: str = "gate",
) -> Gate:
    """The rules of one price over what is reachable from nodes[0], or of a single node that is kept to."""
    place = {position: i for i, position in enumerate(nodes)}
    moves = [[place.get(goal, 0) for goal in once(lattice.moves[position])] for position in nodes]
    return Gate(
        grid=grid,
        signal_names=table.signal_names,
        nodes=nodes,
        moves=np.array(moves, dtype=np.int64),
        regressors=tuple(rules.regressors[position] for position in nodes),
        weights=rules.weights[at_price, list(nodes)],
        lambda_=float(rules.prices[at_price]),
        name=name,
    )
