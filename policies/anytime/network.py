"""A small network that looks at each readout and a price and says whether, and how, to go on. Plain numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.anytime.seen import Sight
from policies.anytime.walk import Node, Singles, decide, positions, walk
from policies.base import Decision, FloatArray, IntArray
from policies.encoding import PRICE_NODES, Prices
from policies.errors import UsageError
from policies.grid import Grid
from policies.live import Looks, Verdict
from policies.network import Network
from policies.shown import short_repr
from policies.table import OutcomeTable

KINDS = {
    "anytime-ppo": "probability",
    "anytime-a2c": "probability",
    "anytime-dqn": "value",
    "anytime-sb3": "value",
}
"""What the network's outputs are: logits of a probability per action, or a value each.

Probabilities of actions with one goal add up. A model brought in from Stable-Baselines3 takes the largest
output, as it does there, whatever that is.
"""


@dataclass(frozen=True, eq=False)
class AnytimeNetwork:
    """Enters at nodes[0] and follows the likeliest, or most valuable, goal.

    nodes, moves: as in `policies.anytime.gate.Gate`; sight: what is seen at each of the K nodes. `at` gives
    the same policy at another price: one training, all budgets. prices: the range of the price that the
    network is shown; None if it was trained at one price and is shown none. trained_look_flops: what each
    look added to the cost that the network was shown in training, by default `own_flops`.
    """

    __repr__ = short_repr

    kind: str
    grid: Grid
    signal_names: tuple[str, ...]
    nodes: tuple[int, ...]
    moves: IntArray
    sight: Sight
    prices: Prices | None
    network: Network
    lambda_: float
    name: str
    trained_look_flops: float | None = None

    feature_names = ()

    def __post_init__(self) -> None:
        positions(self.grid, self.nodes, self.moves)
        if self.kind not in KINDS:
            raise UsageError(f"kind {self.kind}: not known", f"known: {', '.join(KINDS)}")
        if not (np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError(f"lambda {self.lambda_}: expected a finite price, 0 or more")
        if not np.isfinite(self.trained_look_flops or 0.0):
            raise UsageError(f"trained_look_flops {self.trained_look_flops}: expected a finite number")
        if self.sight.mean.shape != (len(self.nodes), len(self.signal_names)):
            raise UsageError(
                f"{len(self.nodes)} nodes, {len(self.signal_names)} signals: {self.sight.mean.shape}"
            )
        if (self.network.inputs, self.network.outputs) != (
            self.sight.size + (PRICE_NODES if self.prices else 0),
            self.moves.shape[1],
        ):
            raise UsageError("the network does not fit its signals and actions")

    @property
    def own_flops(self) -> int:
        """Of one look: the network, and what it takes to show it two readouts."""
        return self.network.flops + 5 * len(self.signal_names) if len(self.nodes) > 1 else 0

    @property
    def look_flops(self) -> int:
        """Of each look after the first, see policies.live.Stopper."""
        return self.own_flops

    @property
    def unshown_flops(self) -> float:
        """Of each look, what is paid and yet not part of the cost that the network is shown."""
        return 0.0 if self.trained_look_flops is None else self.own_flops - self.trained_look_flops

    def at(self, lambda_: float) -> "AnytimeNetwork":
        """The same network at another price."""
        return replace(self, lambda_=float(lambda_))

    def inputs(self, node: Node, signals: Singles, before: Singles, cost_flops: FloatArray) -> FloatArray:
        """What the network is shown, (n, D)."""
        n, first = len(signals), node == 0
        change = np.zeros_like(signals) if first else signals - before
        later = np.full(n, 0.0 if first else 1.0, np.float32)
        share = np.asarray(cost_flops / max(self.grid.cost_flops), dtype=np.float32)
        seen = self.sight(np.full(n, node), signals, change, later, share)
        if self.prices is None:
            return seen.astype(np.float64)
        price = self.prices.code(np.array([self.lambda_]))
        return np.concatenate([seen, np.repeat(price, n, axis=0)], axis=1).astype(np.float64)

    def advantage(self, node: Node, signals: Singles, before: Singles, cost_flops: FloatArray) -> FloatArray:
        """How good each action is, (n, A); actions that lead to one goal count together."""
        return self._pooled(node, self.network(self.inputs(node, signals, before, cost_flops)))

    def _pooled(self, node: Node, outputs: FloatArray) -> FloatArray:
        found = np.empty_like(outputs)
        for goal in np.unique(self.moves[node]):
            same = self.moves[node] == goal
            part = outputs[:, same]
            top = part.max(axis=1, keepdims=True)
            if KINDS[self.kind] == "probability":
                top = top + np.log(np.exp(part - top).sum(axis=1, keepdims=True))
            found[:, same] = top
        return found

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. UsageError without a signal, FileError if a step cannot be."""
        return walk(self, table, rows, self.advantage)

    def reachable(self) -> tuple[int, ...]:
        """See policies.live.Stopper."""
        return self.nodes

    def verdict(self, looks: Looks) -> Verdict:
        """See policies.live.Stopper. UsageError without a signal."""
        return decide(self, looks, self.advantage, self._steepness)

    def _steepness(
        self, node: Node, signals: Singles, before: Singles, cost_flops: FloatArray, lead: IntArray
    ) -> FloatArray:
        """How fast the lead of action lead[:, 0] over lead[:, 1] changes with a signal, (n,)."""
        slope = self.network.slope(self.inputs(node, signals, before, cost_flops), lead[:, 0], lead[:, 1])
        n_signals = len(self.signal_names)
        change = 0.0 if node == 0 else slope[:, n_signals : 2 * n_signals]
        by_signal = (slope[:, :n_signals] + change) * self.sight.per_unit[node]
        return np.asarray(np.abs(by_signal).sum(axis=1), dtype=np.float64)

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {
            "algo": self.kind,
            "lambda": self.lambda_,
            "prices": self.prices and [self.prices.low, self.prices.high],
            "signal_names": list(self.signal_names),
            "nodes": list(self.nodes),
            **({} if self.trained_look_flops is None else {"trained_look_flops": self.trained_look_flops}),
            **self.network.parameters(),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        seen = {"mean": self.sight.mean, "per_unit": self.sight.per_unit, "place": self.sight.place}
        return {"moves": self.moves, **seen, **self.network.arrays()}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        kind = str(parameters["algo"])
        look = float(parameters["trained_look_flops"]) if kind == "anytime-sb3" else None
        mean, per_unit, place = (arrays[part].astype(np.float32) for part in ("mean", "per_unit", "place"))
        return cls(
            kind=kind,
            grid=grid,
            signal_names=tuple(map(str, parameters["signal_names"])),
            nodes=tuple(map(int, parameters["nodes"])),
            moves=arrays["moves"].astype(np.int64),
            sight=Sight(mean, per_unit, place),
            prices=Prices.restore(parameters["prices"]),
            network=Network.restore(parameters, arrays),
            lambda_=float(parameters["lambda"]),
            name=name,
            trained_look_flops=look,
        )
