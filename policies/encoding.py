"""What a learned policy sees and says, in plain numpy: standardised features, a price, an action.

The environment (training) and the kept policy (use) share these, so that both see the same numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from policies import pareto
from policies.errors import UsageError
from policies.table import OutcomeTable
from policies.table.schema import id_columns

CLIP = 10.0
PRICE_NODES = 8
PRICE_HEIGHT = 2.0
PRICE_LIMITS = (1e-2, 1e2)

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
ActionKind = Literal["discrete", "factored"]


@dataclass(frozen=True)
class Standardiser:
    """Features minus `mean`, over `scale`, cut to [-10, 10]; both (F,), of the split they were fitted on."""

    mean: Floats
    scale: Floats

    def __post_init__(self) -> None:
        if not np.isfinite(self.mean).all() or not (self.scale > 0).all():
            raise UsageError("a standardiser needs finite means and positive scales")

    @classmethod
    def fit(cls, features: npt.NDArray[Any]) -> Self:
        """From features (n, F). A feature that never varies becomes 0 everywhere."""
        values = np.asarray(features, dtype=np.float64)
        spread = values.std(axis=0)
        constant = spread <= 1e-6 * np.abs(values).max(axis=0, initial=1e-30)
        return cls(values.mean(axis=0), np.where(constant, np.inf, spread))

    def __call__(self, features: npt.NDArray[Any]) -> Singles:
        """Features (n, F) as the network sees them."""
        return np.clip((features - self.mean) / self.scale, -CLIP, CLIP).astype(np.float32)


@dataclass(frozen=True)
class Prices:
    """A range of lambda, the price of a full run in units of score, and how a network is told one.

    A network is shown 8 hat functions over log(lambda), 2 high: with a single number it learns a poor
    compromise between cheap and dear (measured: 10 to 20 thousandths of utility at middle prices).
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < np.inf:
            raise UsageError(f"prices from {self.low} to {self.high}: expected 0 < low < high")

    @classmethod
    def of(cls, table: OutcomeTable, rows: Indices) -> Self:
        """The prices at which the static hull of these samples turns; below them, a factor of 4 more.

        At the low end a network must be able to run everything, at the high end the cheapest.
        """
        score = np.asarray(table.score[rows], dtype=np.float64).mean(axis=0)
        share = table.cost_flops / table.cost_flops[table.full]
        corners = pareto.hull(share, score)
        slopes = np.diff(score[corners]) / np.diff(share[corners])
        if not len(slopes):
            return cls(0.01, 10.0)
        least, most = np.clip([slopes.min() / 4, slopes.max()], *PRICE_LIMITS)
        return cls(float(least), float(max(most, least * 2)))

    @classmethod
    def restore(cls, ends: Any) -> "Prices | None":
        """From JSON, the two ends or null. TypeError, ValueError or UsageError."""
        if ends is None:
            return None
        low, high = map(float, ends)
        return cls(low, high)

    def reaching(self, lambda_: float) -> "Prices":
        """The range widened to hold `lambda_`, within what makes sense (0 counts as the low end)."""
        wanted = float(np.clip(lambda_, *PRICE_LIMITS)) if lambda_ > 0 else self.low
        return Prices(min(self.low, wanted), max(self.high, wanted))

    def grid(self, count: int) -> Floats:
        """Evenly spaced in the logarithm, ascending."""
        return np.geomspace(self.low, self.high, count)

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """Random prices, uniform in the logarithm."""
        return np.exp(rng.uniform(np.log(self.low), np.log(self.high), count))

    def code(self, lambda_: npt.NDArray[Any]) -> Singles:
        """Hat functions of prices (n,), (n, 8); prices beyond the range count as its ends."""
        inside = np.log(np.clip(lambda_, self.low, self.high) / self.low) / np.log(self.high / self.low)
        distance = np.abs(inside[:, None] * (PRICE_NODES - 1) - np.arange(PRICE_NODES))
        return np.asarray(PRICE_HEIGHT * np.maximum(0.0, 1.0 - distance), dtype=np.float32)


def price_or_range(lambda_: Any) -> float | Prices:
    """A price of 0 or more, or a range of prices from two numbers in a tuple, a list or an array.

    JSON and YAML know no tuples, so every sequence of two counts. UsageError for anything else.
    """
    if isinstance(lambda_, Prices):
        return lambda_
    given = lambda_.tolist() if isinstance(lambda_, np.ndarray) else lambda_
    ranged = isinstance(given, tuple | list)
    numbers = list(given) if ranged else [given]
    if (ranged and len(numbers) != 2) or any(
        type(one) is bool or not isinstance(one, Real) for one in numbers
    ):
        raise UsageError(f"lambda {lambda_!r}: expected a price, or a range of two", "such as [0.02, 0.5]")
    if ranged:
        return Prices(float(numbers[0]), float(numbers[1]))
    if not (math.isfinite(numbers[0]) and numbers[0] >= 0):
        raise UsageError(f"lambda {lambda_}: expected a finite price, 0 or more")
    return float(numbers[0])


@dataclass(frozen=True)
class Actions:
    """How an action names a configuration.

    sizes: choices per part, (C,) for one discrete action, or one per axis; lookup: configuration of every
    combination, the last part varying fastest.
    """

    sizes: tuple[int, ...]
    lookup: tuple[int, ...]

    def __post_init__(self) -> None:
        if int(np.prod(self.sizes)) != len(self.lookup):
            raise UsageError(f"{len(self.lookup)} configurations for actions of sizes {list(self.sizes)}")

    @classmethod
    def of(cls, table: OutcomeTable, kind: ActionKind) -> Self:
        """One action per configuration, or one per value of each axis that varies.

        Raises UsageError for factored actions on a table that is not a full grid.
        """
        if kind == "discrete":
            return cls((table.n_configs,), tuple(range(table.n_configs)))
        if kind != "factored":
            raise UsageError(f"actions {kind}: not known", "allowed: discrete, factored")
        return cls._factored(table)

    @classmethod
    def _factored(cls, table: OutcomeTable) -> Self:
        coded = [np.unique(table.configs[name], return_inverse=True) for name in id_columns(table.configs)]
        varying = [(len(values), places) for values, places in coded if len(values) > 1]
        axes = varying or [(1, np.zeros(1, dtype=np.int64))]
        sizes = tuple(size for size, _ in axes)
        if int(np.prod(sizes)) != table.n_configs:
            message = f"factored actions need a full grid: {table.n_configs} of {np.prod(sizes)} are there"
            raise UsageError(message, "use discrete actions")
        place = np.ravel_multi_index(tuple(places for _, places in axes), sizes)
        return cls(sizes, tuple(np.argsort(place).tolist()))

    @property
    def factored(self) -> bool:
        """Whether an action has several parts."""
        return len(self.sizes) > 1

    def configuration(self, actions: npt.NDArray[Any]) -> Indices:
        """Configurations (n,) of actions (n,) or (n, parts)."""
        parts = np.asarray(actions).reshape(len(actions), len(self.sizes))
        place = np.ravel_multi_index(tuple(parts.T), self.sizes)
        chosen: Indices = np.asarray(self.lookup, dtype=np.int64)[place]
        return chosen

    def best(self, logits: Floats) -> Indices:
        """Configurations (n,) of the largest logit of each part; logits (n, sum of sizes)."""
        ends = np.cumsum(self.sizes)
        spans = zip(ends - self.sizes, ends, strict=True)
        parts = [logits[:, start:end].argmax(axis=1) for start, end in spans]
        return self.configuration(np.stack(parts, axis=1))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sizes": list(self.sizes), "lookup": list(self.lookup)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """From JSON. Raises KeyError, TypeError, ValueError or UsageError."""
        return cls(tuple(map(int, content["sizes"])), tuple(map(int, content["lookup"])))
