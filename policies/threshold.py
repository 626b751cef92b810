"""Early exit by confidence, per sample: run a chain of ever dearer configurations, stop when sure enough.

The published method averages the confidence over a batch; here every sample stops on its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from policies import pareto
from policies.base import Decision, FloatArray, IntArray, Trained, measure, split_rows
from policies.errors import FileError, UsageError
from policies.grid import Grid
from policies.live import Looks, Verdict
from policies.objective import Objective
from policies.shown import short_repr
from policies.table import OutcomeTable
from policies.table.schema import id_columns

THRESHOLDS = 128
FAMILY = 200
ROUNDS = 2
CONFIDENCE = "confidence"

Chain = tuple[int, ...]


@dataclass(frozen=True)
class Threshold:
    """Runs `chain` (positions in the grid) in order and keeps the first answer whose signal reaches `tau`.

    The last configuration's answer stands whatever its signal. Cost: the first configuration, plus every
    increment taken, each with its readout. A chain of one is a static choice.
    """

    __repr__ = short_repr

    grid: Grid
    chain: Chain
    tau: float
    signal: str = "confidence"
    name: str = "threshold"

    kind = "threshold"
    feature_names = ()
    own_flops = 0

    def __post_init__(self) -> None:
        for configuration in self.chain:
            self.grid.check(configuration)
        if len(set(self.chain)) != len(self.chain):
            raise UsageError(f"chain {list(self.chain)}: a configuration appears twice")
        if not self.chain or not abs(self.tau) <= float(np.finfo(np.float32).max):
            raise UsageError(f"a chain of {len(self.chain)} configurations with threshold {self.tau}")

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. UsageError without the signal, FileError if the chain breaks."""
        chain = np.array(self.chain)
        signal = signal_of(table, self.signal, np.asarray(rows), chain[:-1])
        sure = np.column_stack([signal >= np.float32(self.tau), np.ones(len(rows), bool)])
        stage = sure.argmax(axis=1)
        return Decision(chain[stage], stage_costs(table, self.chain)[stage])

    def reachable(self) -> Chain:
        """See policies.live.Stopper."""
        return self.chain

    def verdict(self, looks: Looks) -> Verdict:
        """See policies.live.Stopper. UsageError without the signal."""
        if self.signal not in looks.signal_names:
            known = ", ".join(looks.signal_names)
            raise UsageError(f"policy {self.name} needs the signal {self.signal}", f"there are: {known}")
        after = dict(zip(self.chain, self.chain[1:], strict=False))
        next_up = np.array([after.get(at, at) for at in looks.at.tolist()], dtype=np.int64)
        signal, last = looks.signal(self.signal), next_up == looks.at
        slack = np.where(last, np.inf, np.abs(signal.astype(np.float64) - self.tau))
        return Verdict(np.where(signal >= np.float32(self.tau), looks.at, next_up), slack)

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {"chain": list(self.chain), "tau": self.tau, "signal": self.signal}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        return {}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        chain = tuple(map(int, parameters["chain"]))
        return cls(grid, chain, float(parameters["tau"]), str(parameters["signal"]), name)


def stage_costs(table: OutcomeTable, chain: Sequence[int]) -> FloatArray:
    """What was executed when each stop of the chain is read out, (K,); FileError if a step cannot be."""
    steps = table.increment_flops[list(chain[:-1]), list(chain[1:])]
    if not np.isfinite(steps).all():
        raise FileError(f"the outcome table has no way along the chain {list(chain)}")
    return np.asarray(np.cumsum(np.r_[table.cost_flops[chain[0]], steps]), dtype=np.float64)


def depth_chains(table: OutcomeTable, along: str = "depth") -> list[Chain]:
    """The longest chains along one axis, all else equal, each by ascending cost; UsageError without it."""
    axes = id_columns(table.configs)
    if along not in axes:
        raise UsageError(f"the outcome table has no axis {along}", f"it has: {', '.join(axes)}")
    fixed = [name for name in axes if name != along]
    key = table.configs[fixed].astype(str).agg(" ".join, axis=1) if fixed else np.zeros(table.n_configs)
    labels = np.unique(np.asarray(key), return_inverse=True)[1]
    groups = (np.flatnonzero(labels == label) for label in range(labels.max() + 1))
    ordered = (group[np.argsort(table.cost_flops[group], kind="stable")] for group in groups)
    return [tuple(group.tolist()) for group in ordered]


def chain_axis(table: OutcomeTable) -> str:
    """The axis that chains follow by default: depth, else the first along which any step can be."""
    axes = [axis for axis in id_columns(table.configs) if table.configs[axis].nunique() > 1]
    if "depth" in axes or not axes:
        return "depth" if axes else id_columns(table.configs)[0]
    pairs = ((axis, chain) for axis in axes for chain in depth_chains(table, axis))
    steps = (
        axis
        for axis, chain in pairs
        if np.isfinite(table.increment_flops[list(chain[:-1]), list(chain[1:])]).any()
    )
    return next(steps, axes[0])


class Curve(NamedTuple):
    """One chain at every threshold: `tau`, mean `score` and mean `cost_flops`, each (T + 1,)."""

    chain: Chain
    tau: FloatArray
    score: FloatArray
    cost_flops: FloatArray


class Sweep:
    """All thresholds of any chain at once, over the samples at `rows`.

    scores (n, C): theirs, if not the table's.
    A sample leaves at stage i for exactly the thresholds in (m[i-1], m[i]], m being its running maximum of
    the
    signal: counting the m in bins gives every threshold's mean in one pass.
    """

    def __init__(
        self,
        table: OutcomeTable,
        rows: IntArray,
        signal: str,
        thresholds: int = THRESHOLDS,
        scores: npt.NDArray[np.float32] | None = None,
    ) -> None:
        values = signal_of(table, signal, rows, np.arange(table.n_configs))
        tau = np.unique(np.quantile(values, np.linspace(0, 1, thresholds)).astype(np.float32))
        # The last threshold lies above every value: nobody leaves early.
        self.tau = np.r_[tau, np.nextafter(tau[-1], np.float32(np.inf))].astype(np.float64)
        self._bins = np.searchsorted(tau, values, side="right")
        self._score = np.asarray(table.score[rows] if scores is None else scores, dtype=np.float64)
        self._table = table

    def curve(self, chain: Chain) -> Curve:
        """Mean score and cost of the chain at each threshold."""
        costs = stage_costs(self._table, chain)
        n, size = len(self._bins), len(self.tau)
        reached = np.zeros(n, dtype=np.int64)
        score, cost = np.zeros(size), np.full(size, costs[0])
        for stage, configuration in enumerate(chain[:-1]):
            later = np.maximum(reached, self._bins[:, configuration])
            value = self._score[:, configuration]
            score += _above(later, value, size) - _above(reached, value, size)
            cost += (costs[stage + 1] - costs[stage]) * (1 - _above(later, np.ones(n), size) / n)
            reached = later
        last = self._score[:, chain[-1]]
        score += last.sum() - _above(reached, last, size)
        return Curve(chain, self.tau, score / n, cost)


def _above(bins: npt.NDArray[np.int64], weights: FloatArray, size: int) -> FloatArray:
    """For each threshold k in 0..size-1, the sum of the weights whose bin exceeds k."""
    counts = np.bincount(bins, weights, minlength=size)
    return np.asarray(counts.sum() - np.cumsum(counts), dtype=np.float64)


def train_threshold(
    table: OutcomeTable,
    objective: Objective,
    *,
    signal: str | None = None,
    along: str | None = None,
    name: str = "threshold",
) -> Trained:
    """Choose chain and threshold: a family of both on the fit split, one of the family on the tune split.

    signal: name of the signal compared with the threshold, by default the confidence; where the table has
    none, such as one of maps, every signal is tried; along: the axis that a chain follows, by default
    depth, or where that does not vary the first axis that can be walked, such as the model of a cascade.
    """
    chains = depth_chains(table, along or chain_axis(table))
    family = [
        Threshold(Grid.of(table), chain, tau, one, name)
        for one in _signals(table, signal)
        for chain, tau in _family(table, chains, one)
    ]
    measured = measure(family, table, split_rows(table, "tune"))
    choice = measured.choose(table, objective)
    return measured.trained(family, objective, choice)


def _signals(table: OutcomeTable, signal: str | None) -> tuple[str, ...]:
    if signal is None and CONFIDENCE not in table.signal_names:
        return table.signal_names
    return (signal or CONFIDENCE,)


def _family(table: OutcomeTable, groups: Sequence[Chain], signal: str) -> list[tuple[Chain, float]]:
    """Chains and thresholds on the front of the fit split.

    Tried: every unbroken piece of a group and every pair; then, twice, one more stop in the chains on the
    hull.
    """
    sweep = Sweep(table, split_rows(table, "fit"), signal)
    curves = {chain: sweep.curve(chain) for chain in _possible(table, _pieces(groups))}
    for _ in range(ROUNDS):
        longer = (wider for chain, _ in _best(curves, pareto.hull) for wider in _insertions(chain, groups))
        for chain in _possible(table, longer):
            if chain not in curves:
                curves[chain] = sweep.curve(chain)
    found = _best(curves, pareto.front)
    kept = np.unique(np.linspace(0, len(found) - 1, min(FAMILY, len(found))).astype(int))
    return [found[i] for i in kept]


def _best(curves: Mapping[Chain, Curve], choose: Any) -> list[tuple[Chain, float]]:
    """(chain, tau) of the points that `choose(cost, score)` keeps among all curves, by ascending cost."""
    parts = list(curves.values())
    owner = np.repeat(np.arange(len(parts)), [len(part.tau) for part in parts])
    tau = np.concatenate([part.tau for part in parts])
    kept = choose(np.concatenate([p.cost_flops for p in parts]), np.concatenate([p.score for p in parts]))
    return [(parts[owner[i]].chain, float(tau[i])) for i in kept]


def _pieces(groups: Iterable[Chain]) -> Iterator[Chain]:
    for group in groups:
        for start in range(len(group)):
            for stop in range(start + 1, len(group) + 1):
                yield group[start:stop]
        yield from combinations(group, 2)


def _insertions(chain: Chain, groups: Iterable[Chain]) -> Iterator[Chain]:
    """The chain with one more stop of its group, in the group's order."""
    group = next(group for group in groups if chain[0] in group)
    for stop in group:
        if stop not in chain:
            yield tuple(sorted((*chain, stop), key=group.index))


def _possible(table: OutcomeTable, chains: Iterable[Chain]) -> Iterator[Chain]:
    for chain in chains:
        if np.isfinite(table.increment_flops[list(chain[:-1]), list(chain[1:])]).all():
            yield chain


def signal_of(
    table: OutcomeTable, name: str, rows: IntArray, configurations: IntArray
) -> npt.NDArray[np.float32]:
    """One signal of some samples and configurations, (n, K); UsageError if the table lacks it."""
    if name not in table.signal_names:
        raise UsageError(f"signal {name}: not in the table", f"it has: {', '.join(table.signal_names)}")
    at = table.signal_names.index(name)
    return np.asarray(table.signals[rows[:, None], configurations[None], at], dtype=np.float32)
