"""A policy: a small network that looks at features and a price and names a configuration. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.base import Decision, IntArray, feature_columns
from policies.encoding import PRICE_NODES, Actions, Prices, Standardiser
from policies.errors import UsageError
from policies.grid import Grid
from policies.network import Network
from policies.shown import short_repr
from policies.table import OutcomeTable

CHUNK = 4096


@dataclass(frozen=True, eq=False)
class NetworkPolicy:
    """Chooses by the largest output of a network that sees features and the price `lambda_`.

    kind: the algorithm it was trained with. prices: the range of the price that the network is shown; None if
    it was trained at one price and is shown none. `at` gives the same policy at another price: one training,
    all budgets.
    """

    __repr__ = short_repr

    kind: str
    grid: Grid
    feature_names: tuple[str, ...]
    scale: Standardiser
    prices: Prices | None
    actions: Actions
    network: Network
    lambda_: float
    name: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError(f"lambda {self.lambda_}: expected a finite price, 0 or more")
        n_features = len(self.feature_names)
        if self.scale.mean.shape != (n_features,) or self.scale.scale.shape != (n_features,):
            raise UsageError(f"{n_features} features, but a standardiser of {self.scale.mean.shape}")
        shown = n_features + (PRICE_NODES if self.prices else 0)
        if (self.network.inputs, self.network.outputs) != (shown, sum(self.actions.sizes)):
            raise UsageError("the network does not fit its features and actions")
        for configuration in self.actions.lookup:
            self.grid.check(configuration)

    @property
    def own_flops(self) -> int:
        """The network, and a subtraction and a division per feature."""
        return self.network.flops + 2 * len(self.feature_names)

    def at(self, lambda_: float) -> "NetworkPolicy":
        """The same network at another price."""
        return replace(self, lambda_=float(lambda_))

    def choose(self, features: npt.NDArray[Any]) -> IntArray:
        """Configurations (n,) for features (n, F) in the order of `feature_names`."""
        chosen = np.empty(len(features), dtype=np.int64)
        price = self.prices.code(np.array([self.lambda_])) if self.prices else np.zeros((1, 0), np.float32)
        for start in range(0, len(features), CHUNK):
            seen = self.scale(features[start : start + CHUNK])
            inputs = np.concatenate([seen, np.repeat(price, len(seen), axis=0)], axis=1)
            chosen[start : start + CHUNK] = self.actions.best(self.network(inputs))
        return chosen

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. FileError if the table lacks a feature."""
        columns = feature_columns(table, self.feature_names)
        chosen = self.choose(np.asarray(table.features[rows])[:, columns])
        overhead = self.own_flops + (table.feature_flops if self.feature_names else 0)
        return Decision(chosen, table.cost_flops[chosen] + overhead)

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {
            "algo": self.kind,
            "lambda": self.lambda_,
            "prices": self.prices and [self.prices.low, self.prices.high],
            "actions": self.actions.to_dict(),
            **self.network.parameters(),
            "feature_names": list(self.feature_names),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        scale = {"feature_mean": self.scale.mean, "feature_scale": self.scale.scale}
        return {**scale, **self.network.arrays()}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        return cls(
            kind=str(parameters["algo"]),
            grid=grid,
            feature_names=tuple(map(str, parameters["feature_names"])),
            scale=Standardiser(arrays["feature_mean"], arrays["feature_scale"]),
            prices=Prices.restore(parameters["prices"]),
            actions=Actions.from_dict(parameters["actions"]),
            network=Network.restore(parameters, arrays),
            lambda_=float(parameters["lambda"]),
            name=name,
        )
