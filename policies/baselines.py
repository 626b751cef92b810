"""The rivals: one configuration for all, a random mixture, and two oracles that bound every policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from policies import pareto
from policies.base import (
    Candidates,
    Decision,
    FloatArray,
    IntArray,
    Trained,
    tuning_scores,
)
from policies.errors import UsageError
from policies.grid import Grid
from policies.objective import Objective
from policies.shown import short_repr
from policies.table import OutcomeTable

MIXTURE_STEPS = 20


@dataclass(frozen=True)
class Static:
    """The same configuration for every sample."""

    __repr__ = short_repr

    grid: Grid
    configuration: int
    name: str = "static"

    kind = "static"
    feature_names = ()
    own_flops = 0

    def __post_init__(self) -> None:
        self.grid.check(self.configuration)

    def choose(self, features: npt.NDArray[Any]) -> IntArray:
        """See policies.live.Chooser."""
        return np.full(len(features), self.configuration)

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy."""
        return paid_once(table, np.full(len(rows), self.configuration))

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {"configuration": self.configuration}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        return {}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        return cls(grid, int(parameters["configuration"]), name)


@dataclass(frozen=True)
class RandomMixture:
    """A configuration drawn per sample, whatever the sample: `probabilities` (C,) sum to 1.

    The draw depends on the seed and the row alone, so that it is the same in every batch.
    """

    __repr__ = short_repr

    grid: Grid
    probabilities: tuple[float, ...]
    seed: int = 0
    name: str = "random"

    kind = "random"
    feature_names = ()
    own_flops = 0

    def __post_init__(self) -> None:
        shares = np.asarray(self.probabilities)
        if shares.shape != (len(self.grid),) or not np.isfinite(shares).all() or (shares < 0).any():
            raise UsageError(f"probabilities: expected {len(self.grid)} shares, 0 or more")
        if abs(shares.sum() - 1) > 1e-9:
            raise UsageError(f"probabilities sum to {shares.sum():g}, expected 1")

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy."""
        bounds = np.cumsum(self.probabilities)
        drawn = np.searchsorted(bounds, uniform(self.seed, rows) * bounds[-1], side="right")
        return paid_once(table, np.minimum(drawn, int(np.flatnonzero(self.probabilities)[-1])))

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {"probabilities": list(self.probabilities), "seed": self.seed}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        return {}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        return cls(grid, tuple(map(float, parameters["probabilities"])), int(parameters["seed"]), name)


@dataclass(frozen=True)
class HindsightOracle:
    """The cheapest configuration with the sample's best score: for hits and misses, the cheapest correct one.

    It reads the labels: a bound that no policy reaches. Samples that no configuration gets right run the
    cheapest, or, with `wrong="full"`, the full configuration (as published: 8.389 GFLOPs on ImageNet).
    tolerance: how far below the best score still counts, for scores that are not hits and misses.
    """

    wrong: Literal["cheapest", "full"] = "cheapest"
    tolerance: float = 0.0
    name: str = "hindsight oracle"

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy."""
        score = np.asarray(table.score[rows])
        best = score.max(axis=1)
        chosen = cheapest_of(score >= best[:, None] - self.tolerance, table.cost_flops)
        if self.wrong == "full":
            chosen = np.where(best > 0, chosen, table.full)
        return paid_once(table, chosen)


@dataclass(frozen=True)
class SameAnswerOracle:
    """The cheapest configuration that answers as the full one does: the honest ceiling, it reads no label.

    tolerance: how far below 1 an agreement still counts as the same answer, for dense tasks.
    reference: the position of another configuration to answer as; the table then needs predictions.
    """

    tolerance: float = 0.0
    reference: int | None = None
    name: str = "same-answer oracle"

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. UsageError for another reference on a table without predictions."""
        if self.reference is not None and self.reference != table.full:
            return paid_once(table, self._as_reference(table, rows, self.reference))
        same = np.asarray(table.agreement[rows]) >= 1 - self.tolerance
        same[:, table.full] = True
        return paid_once(table, cheapest_of(same, table.cost_flops))

    def _as_reference(self, table: OutcomeTable, rows: IntArray, reference: int) -> IntArray:
        """Only what costs as much as the reference or less is looked at."""
        if table.prediction is None:
            raise UsageError("the same answer as another configuration: the table has no predictions")
        order = np.argsort(table.cost_flops, kind="stable")
        order = order[table.cost_flops[order] <= table.cost_flops[reference]]
        answers = np.asarray(table.prediction[rows])
        same = answers[:, order] == answers[:, [reference]]
        return np.asarray(order[same.argmax(axis=1)], dtype=np.int64)


def cheapest_of(allowed: npt.NDArray[np.bool_], cost_flops: FloatArray) -> IntArray:
    """The cheapest allowed configuration of each row of `allowed` (n, C), at least one of which must be."""
    order = np.argsort(cost_flops, kind="stable")
    return np.asarray(order[allowed[:, order].argmax(axis=1)], dtype=np.int64)


def paid_once(table: OutcomeTable, configuration: npt.NDArray[Any]) -> Decision:
    """A decision that runs the chosen configurations (n,) and nothing else."""
    return Decision(configuration, table.cost_flops[configuration])


def uniform(seed: int, rows: IntArray) -> FloatArray:
    """One number in [0, 1) per row, from the seed and the row alone (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        bits = (np.asarray(rows).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits += np.uint64(seed % 2**64) * np.uint64(0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
        bits ^= bits >> np.uint64(31)
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def train_static(table: OutcomeTable, objective: Objective, *, name: str = "static") -> Trained:
    """The configuration that meets the objective on the tune split."""
    measured = Candidates(tuning_scores(table).mean(axis=0, dtype=np.float64), table.cost_flops)
    choice = measured.choose(table, objective)
    family = [Static(Grid.of(table), configuration, name) for configuration in range(table.n_configs)]
    return measured.trained(family, objective, choice)


def train_random(
    table: OutcomeTable, objective: Objective, *, seed: int = 0, name: str = "random"
) -> Trained:
    """The mixture of two configurations that meets the objective on the tune split: points of the hull."""
    score = tuning_scores(table).mean(axis=0, dtype=np.float64)
    shares = _hull_mixtures(table.cost_flops, score)
    measured = Candidates(shares @ score, shares @ table.cost_flops)
    choice = measured.choose(table, objective)
    family = [RandomMixture(Grid.of(table), tuple(share.tolist()), seed, name) for share in shares]
    return measured.trained(family, objective, choice)


def _hull_mixtures(cost_flops: FloatArray, score: FloatArray) -> FloatArray:
    """Probabilities (K, C) of the hull's corners and of evenly spaced points between neighbours."""
    corners = pareto.hull(cost_flops, score)
    at = np.linspace(0, len(corners) - 1, (len(corners) - 1) * MIXTURE_STEPS + 1)
    left = np.minimum(at.astype(int), max(len(corners) - 2, 0))
    shares = np.zeros((len(at), len(cost_flops)))
    points = np.arange(len(at))
    shares[points, corners[left]] = 1 - (at - left)
    shares[points, corners[np.minimum(left + 1, len(corners) - 1)]] += at - left
    return shares
