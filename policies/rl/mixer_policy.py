"""A policy that looks at patch embeddings, as published, or at features, through a mixer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.base import Decision, IntArray, feature_columns
from policies.encoding import Actions, Floats, Prices, Singles, Standardiser
from policies.errors import FileError, UsageError
from policies.grid import Grid
from policies.rl.mixer import Mixer, Shape
from policies.shown import short_repr
from policies.table import OutcomeTable

CHUNK = 512


@dataclass(frozen=True)
class Sight:
    """What a policy looks at: `patches` pooled patch embeddings, or, where that is 0, features by name.

    pool_flops: of averaging the patch embeddings, which every run computes anyway, into the pooled ones.
    """

    feature_names: tuple[str, ...] = ()
    patches: int = 0
    pool_flops: int = 0

    @classmethod
    def of(cls, table: OutcomeTable) -> Self:
        """The patches of a table that has them, else its features; UsageError if it has neither."""
        if table.patches is not None:
            told = table.meta.get("patches")
            flops = told.get("pool_flops", 0) if isinstance(told, Mapping) else 0
            return cls((), int(table.patches.shape[1]), int(flops))
        if not table.feature_names:
            raise UsageError("reinforce needs patches or features, the table has neither")
        return cls(tuple(table.feature_names))

    def inputs(self, table: OutcomeTable, rows: IntArray) -> Singles:
        """(n, P, E), or features as one patch (n, 1, F). FileError if the table lacks them."""
        if not self.patches:
            columns = feature_columns(table, self.feature_names)
            return np.asarray(table.features[rows], np.float32)[:, None, columns]
        found = 0 if table.patches is None else table.patches.shape[1]
        if table.patches is None or found != self.patches:
            hint = f"store them with `adap sweep --patches {round(self.patches**0.5)}`"
            raise FileError(f"the policy looks at {self.patches} patches, the table has {found}", hint)
        return np.asarray(table.patches[rows], np.float32)


@dataclass(frozen=True, eq=False)
class MixerPolicy:
    """Chooses by the largest logit of each axis at the price `lambda_`. `at`: the same at another price."""

    __repr__ = short_repr

    grid: Grid
    sight: Sight
    scale: Standardiser
    prices: Prices
    actions: Actions
    mixer: Mixer
    lambda_: float
    name: str

    kind = "reinforce"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError(f"lambda {self.lambda_}: expected a finite price, 0 or more")
        shape, sight = self.mixer.shape, self.sight
        if self.scale.mean.shape != (shape.channels,) or self.scale.scale.shape != (shape.channels,):
            raise UsageError(f"{shape.channels} channels, but a standardiser of {self.scale.mean.shape}")
        expected = (sight.patches, shape.channels) if sight.patches else (1, len(sight.feature_names))
        if (shape.patches, shape.channels) != expected or shape.outputs != sum(self.actions.sizes):
            raise UsageError("the mixer does not fit its inputs and actions")
        if sight.pool_flops < 0 or (sight.patches and sight.feature_names):
            raise UsageError(f"a policy that looks at {asdict(sight)}")
        for configuration in self.actions.lookup:
            self.grid.check(configuration)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features it needs; none if it looks at patches."""
        return self.sight.feature_names

    @property
    def patch_count(self) -> int:
        """How many pooled patches it needs; 0 if it looks at features."""
        return self.sight.patches

    @property
    def own_flops(self) -> int:
        """The mixer, a subtraction and a division per input, and the pooling."""
        shape = self.mixer.shape
        return shape.flops + 2 * shape.patches * shape.channels + self.sight.pool_flops

    def at(self, lambda_: float) -> "MixerPolicy":
        """The same network at another price."""
        return replace(self, lambda_=float(lambda_))

    def choose(self, features: npt.NDArray[Any]) -> IntArray:
        """Configurations (n,) for features (n, F) in the order of `feature_names`, or patches (n, P x E)."""
        shape = self.mixer.shape
        return self.best(self._look(features.reshape(len(features), shape.patches, shape.channels)))

    def _look(self, inputs: npt.NDArray[Any]) -> Floats:
        seen = np.empty((len(inputs), self.mixer.shape.channels))
        for start in range(0, len(inputs), CHUNK):
            part = slice(start, start + CHUNK)
            seen[part] = self.mixer.look(self.scale(inputs[part]))
        return seen

    @property
    def shared(self) -> object:
        """See policies.base.OneLook."""
        return self.mixer

    def look(self, table: OutcomeTable, rows: IntArray) -> Floats:
        """What the mixer sees of some samples, (n, E), whatever the price; FileError as `select`."""
        starts = range(0, len(rows), CHUNK)
        parts = [self._look(self.sight.inputs(table, rows[i : i + CHUNK])) for i in starts]
        return np.concatenate(parts) if parts else np.empty((0, self.mixer.shape.channels))

    def best(self, seen: Floats) -> IntArray:
        """Configurations (n,) for what was seen (n, E)."""
        price = np.repeat(self.prices.code(np.array([self.lambda_])), len(seen), axis=0)
        return self.actions.best(self.mixer.decide(seen, price))

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. FileError if the table lacks the features or patches."""
        chosen = self.best(self.look(table, np.asarray(rows)))
        return Decision(chosen, table.cost_flops[chosen] + self.overhead_flops(table))

    def overhead_flops(self, table: OutcomeTable) -> int:
        """What every decision costs on this table: features and the policy's own computation."""
        return self.own_flops + (table.feature_flops if self.feature_names else 0)

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {
            "lambda": self.lambda_,
            "prices": [self.prices.low, self.prices.high],
            "actions": self.actions.to_dict(),
            "shape": asdict(self.mixer.shape),
            "patches": self.sight.patches,
            "pool_flops": self.sight.pool_flops,
            "feature_names": list(self.feature_names),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        return {"input_mean": self.scale.mean, "input_scale": self.scale.scale, **self.mixer.weights}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        low, high = map(float, parameters["prices"])
        shape = Shape(**parameters["shape"])
        names = tuple(map(str, parameters["feature_names"]))
        return cls(
            grid=grid,
            sight=Sight(names, int(parameters["patches"]), int(parameters["pool_flops"])),
            scale=Standardiser(arrays["input_mean"], arrays["input_scale"]),
            prices=Prices(low, high),
            actions=Actions.from_dict(parameters["actions"]),
            mixer=Mixer(shape, {key: arrays[key] for key in shape.tensors()}),
            lambda_=float(parameters["lambda"]),
            name=name,
        )
