"""The form of the policies with full feedback: predict every configuration's score, subtract its price."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.base import Decision, FloatArray, IntArray, feature_columns
from policies.encoding import Standardiser
from policies.errors import UsageError
from policies.grid import Grid
from policies.network import Network
from policies.shown import short_repr
from policies.supervised.neighbours import Neighbours
from policies.table import OutcomeTable

CHUNK = 512
ALGORITHMS = ("knn", "linear", "supervised")

Predictor = Network | Neighbours


@dataclass(frozen=True, eq=False)
class Priced:
    """Chooses the largest predicted score - lambda x cost, of the configurations `offers` (K,).

    kind: the algorithm that made the predictor, which names K scores for F features. Cost is a share of the
    full configuration's. `at` gives the same policy at another price: one training, all budgets.
    """

    __repr__ = short_repr

    kind: str
    grid: Grid
    feature_names: tuple[str, ...]
    scale: Standardiser
    offers: IntArray
    predictor: Predictor
    lambda_: float
    name: str

    def __post_init__(self) -> None:
        if self.kind not in ALGORITHMS:
            raise UsageError(f"algorithm {self.kind!r}: not known")
        if not (np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError(f"lambda {self.lambda_}: expected a finite price, 0 or more")
        n_features = len(self.feature_names)
        if self.scale.mean.shape != (n_features,) or self.scale.scale.shape != (n_features,):
            raise UsageError(f"{n_features} features, but a standardiser of {self.scale.mean.shape}")
        if (self.predictor.inputs, self.predictor.outputs) != (n_features, len(self.offers)):
            raise UsageError("the predictor does not fit its features and configurations")
        for configuration in self.offers.tolist():
            self.grid.check(configuration)

    @property
    def own_flops(self) -> int:
        """Standardising (2 per feature), the predictor, a subtraction and a comparison per configuration."""
        return 2 * len(self.feature_names) + self.predictor.flops + 2 * len(self.offers)

    @property
    def cost_share(self) -> FloatArray:
        """What the offered configurations cost, over the full one's, (K,)."""
        cost = np.asarray(self.grid.cost_flops)
        return np.asarray(cost[self.offers] / cost.max(), np.float64)

    def at(self, lambda_: float) -> "Priced":
        """The same predictor at another price."""
        return replace(self, lambda_=float(lambda_))

    def _chunks(self, features: npt.NDArray[Any]) -> Iterator[tuple[slice, FloatArray]]:
        """Predicted scores of a few samples at a time: what fits in the processor's cache."""
        for start in range(0, len(features), CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self.predictor(self.scale(features[part]))

    def predict(self, features: npt.NDArray[Any]) -> FloatArray:
        """Scores (n, K) for features (n, F) in the order of `feature_names`."""
        scores = np.empty((len(features), len(self.offers)))
        for part, predicted in self._chunks(features):
            scores[part] = predicted
        return scores

    def best(self, predicted: FloatArray) -> IntArray:
        """Configurations (n,) for predicted scores (n, K)."""
        price, chosen = self.lambda_ * self.cost_share, np.empty(len(predicted), dtype=np.int64)
        for start in range(0, len(predicted), CHUNK):
            part = slice(start, start + CHUNK)
            chosen[part] = self.offers[(predicted[part] - price).argmax(axis=1)]
        return chosen

    def choose(self, features: npt.NDArray[Any]) -> IntArray:
        """See policies.live.Chooser."""
        chosen = np.empty(len(features), dtype=np.int64)
        for part, predicted in self._chunks(features):
            chosen[part] = self.best(predicted)
        return chosen

    @property
    def shared(self) -> object:
        """See policies.base.OneLook."""
        return self.predictor

    def look(self, table: OutcomeTable, rows: IntArray) -> FloatArray:
        """Predicted scores (n, K) of some samples, whatever the price; FileError as `select`."""
        return self.predict(self.seen(table, rows))

    def overhead_flops(self, table: OutcomeTable) -> int:
        """What every decision costs on this table: features and the policy's own computation."""
        return self.own_flops + (table.feature_flops if self.feature_names else 0)

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. FileError if the table lacks a feature."""
        chosen = self.choose(self.seen(table, rows))
        return Decision(chosen, table.cost_flops[chosen] + self.overhead_flops(table))

    def seen(self, table: OutcomeTable, rows: IntArray) -> npt.NDArray[np.float32]:
        """The features of some samples in the policy's own order, (n, F)."""
        columns = feature_columns(table, self.feature_names)
        return np.asarray(table.features[rows], np.float32)[:, columns]

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {
            "algo": self.kind,
            "lambda": self.lambda_,
            "offers": self.offers.tolist(),
            "feature_names": list(self.feature_names),
            **self.predictor.parameters(),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        scale = {"feature_mean": self.scale.mean, "feature_scale": self.scale.scale}
        return {**scale, **self.predictor.arrays()}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        kind = str(parameters["algo"])
        predictor: type[Network] | type[Neighbours] = Neighbours if kind == "knn" else Network
        return cls(
            kind=kind,
            grid=grid,
            feature_names=tuple(map(str, parameters["feature_names"])),
            scale=Standardiser(arrays["feature_mean"], arrays["feature_scale"]),
            offers=np.array([int(at) for at in parameters["offers"]], dtype=np.int64),
            predictor=predictor.restore(parameters, arrays),
            lambda_=float(parameters["lambda"]),
            name=name,
        )
