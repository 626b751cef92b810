"""Policies over a lattice at work: on rows of a table at once, or verdict by verdict in a running model."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policies.base import Decision, FloatArray, IntArray
from policies.errors import FileError, UsageError
from policies.grid import Grid
from policies.live import Looks, Verdict
from policies.table import OutcomeTable

Node = int
Singles = npt.NDArray[np.float32]
Advantage = Callable[[Node, Singles, Singles, FloatArray], FloatArray]
"""(node, signals (n, S), signals before (n, S), cost_flops (n,)) -> how good each action is, (n, A).

cost_flops is what was spent, less `unshown_flops` per look where a policy has such.
"""


class Walker(Protocol):
    """What is needed of a policy to run it: K nodes, A actions; see `policies.anytime.gate.Gate`."""

    @property
    def grid(self) -> Grid: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def signal_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def nodes(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def moves(self) -> IntArray: ...  # noqa: D102
    @property
    def own_flops(self) -> int: ...  # noqa: D102


def positions(grid: Grid, nodes: tuple[int, ...], moves: IntArray) -> None:
    """UsageError unless nodes are places in the grid, each once, and moves (K, A) lead only further on."""
    for position in nodes:
        grid.check(position)
    if not nodes or len(set(nodes)) != len(nodes):
        raise UsageError(f"nodes {list(nodes)}: expected configurations, each once")
    if moves.ndim != 2 or moves.shape[0] != len(nodes) or moves.shape[1] < 1:
        raise UsageError(f"moves of shape {moves.shape} for {len(nodes)} nodes")
    here = np.arange(len(nodes))[:, None]
    if (moves < here).any() or (moves >= len(nodes)).any() or (moves[:, :1] != here).any():
        raise UsageError("moves: each must lead further on, and the first nowhere")


def columns(names: tuple[str, ...], known: tuple[str, ...], policy: str) -> list[int]:
    """Where the signals that a policy needs are among the known ones; UsageError naming the first missing."""
    for name in names:
        if name not in known:
            raise UsageError(f"policy {policy} needs the signal {name}", f"there are: {', '.join(known)}")
    return [known.index(name) for name in names]


def walk(policy: Walker, table: OutcomeTable, rows: IntArray, advantage: Advantage) -> Decision:
    """Every row from the entry on, to where its advantages let it stop. UsageError, FileError as columns."""
    wanted = columns(policy.signal_names, table.signal_names, policy.name)
    nodes, n = np.array(policy.nodes), len(rows)
    at, cost = np.zeros(n, np.int64), np.full(n, float(table.cost_flops[nodes[0]]))
    before, looks = np.full((n, len(wanted)), np.nan, np.float32), np.zeros(n, np.int64)
    for node in range(len(nodes)):
        here = np.flatnonzero(at == node)
        if not len(here):
            continue
        cost[here] += policy.own_flops
        looks[here] += 1
        if (policy.moves[node] == node).all():
            continue
        signals = np.asarray(table.signals[np.asarray(rows)[here], nodes[node]], np.float32)[:, wanted]
        shown = _shown(policy, cost[here], looks[here])
        chosen = advantage(node, signals, before[here], shown).argmax(axis=1)
        at[here] = policy.moves[node][chosen]
        cost[here] += _steps(table, nodes[node], nodes[at[here]])
        before[here] = signals
    return Decision(nodes[at], cost)


def _shown(policy: Walker, cost_flops: FloatArray, looks: IntArray) -> FloatArray:
    """The cost that a policy is shown after so many looks (n,)."""
    return cost_flops - getattr(policy, "unshown_flops", 0.0) * looks


def _steps(table: OutcomeTable, at: int, goals: IntArray) -> FloatArray:
    """What going from one configuration to each of the goals (n,) executes; FileError if it cannot be."""
    paid = np.where(goals == at, 0.0, table.increment_flops[at, goals])
    if not np.isfinite(paid).all():
        raise FileError(
            f"the outcome table has no way from configuration {at} to {goals[~np.isfinite(paid)][0]}"
        )
    return np.asarray(paid, dtype=np.float64)


Steepness = Callable[[Node, Singles, Singles, FloatArray, IntArray], FloatArray | float]
"""As Advantage, and lead (n, 2): by how much, at most, the first of these actions gains on the second where
one signal changes by 1."""


def decide(policy: Walker, looks: Looks, advantage: Advantage, steepness: Steepness) -> Verdict:
    """The same for samples under way."""
    wanted = columns(policy.signal_names, looks.signal_names, policy.name)
    go_to, slack = looks.at.copy(), np.full(len(looks.at), np.inf)
    place = {position: node for node, position in enumerate(policy.nodes)}
    for position in np.unique(looks.at).tolist():
        here, node = np.flatnonzero(looks.at == position), place.get(position, -1)
        if node < 0 or (policy.moves[node] == node).all():
            continue
        shown = _shown(policy, looks.cost_flops[here], looks.count[here])
        seen = looks.signals[here][:, wanted], looks.signals_before[here][:, wanted], shown
        found = advantage(node, *seen)
        lead = _leaders(found, policy.moves[node])
        go_to[here] = np.array(policy.nodes)[policy.moves[node][lead[:, 0]]]
        ahead = found[np.arange(len(here)), lead[:, 0]] - found[np.arange(len(here)), lead[:, 1]]
        slack[here] = ahead / np.maximum(steepness(node, *seen, lead), 1e-30)
    return Verdict(go_to, slack)


def _leaders(advantage: FloatArray, moves: IntArray) -> IntArray:
    """The best action, and the best of those that lead elsewhere, (n, 2)."""
    best = advantage.argmax(axis=1)
    others = np.where(moves[None] == moves[best][:, None], -np.inf, advantage)
    return np.stack([best, others.argmax(axis=1)], axis=1)
