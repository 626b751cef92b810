"""The axes of a table's configurations, as a sampler proposes them and as a study stores them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from policies.table import schema

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Axes:
    """values: axis -> its distinct values, ascending; index: one tuple of values -> row of the table."""

    values: dict[str, tuple[Any, ...]]
    index: dict[tuple[Any, ...], int]

    @classmethod
    def of(cls, configs: pd.DataFrame) -> "Axes":
        """The id columns that take more than one value (the first, if none does)."""
        names = schema.id_columns(configs)
        varying = [name for name in names if configs[name].nunique() > 1] or names[:1]
        columns = {name: configs[name].tolist() for name in varying}
        values = {name: tuple(sorted(set(column))) for name, column in columns.items()}
        return cls(values, {key: row for row, key in enumerate(zip(*columns.values(), strict=True))})

    def distributions(self) -> "dict[str, BaseDistribution]":
        """Ordered axes as ranks `<axis>_rank`, so that samplers can use the order; others as categories."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        return {
            _parameter(name, values): IntDistribution(0, len(values) - 1)
            if _ordered(values)
            else CategoricalDistribution(values)
            for name, values in self.values.items()
        }

    def row(self, parameters: Mapping[str, Any]) -> int | None:
        """The row of the table that `parameters` mean; None if the table has no such row."""
        key = []
        for name, values in self.values.items():
            given = parameters[_parameter(name, values)]
            key.append(values[given] if _ordered(values) else given)
        return self.index.get(tuple(key))

    def contain(self, parameters: Mapping[str, Any]) -> bool:
        """Whether `parameters` are ranks that exist and values that are known."""
        known: list[bool] = []
        for name, values in self.values.items():
            given = parameters[_parameter(name, values)]
            known.append(given in range(len(values)) if _ordered(values) else given in values)
        return all(known)

    def parameters(self, row: int) -> dict[str, Any]:
        """The inverse of `row`."""
        key = next(key for key, index in self.index.items() if index == row)
        return {
            _parameter(name, values): values.index(value) if _ordered(values) else value
            for (name, values), value in zip(self.values.items(), key, strict=True)
        }


def _ordered(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _parameter(name: str, values: tuple[Any, ...]) -> str:
    return f"{name}_rank" if _ordered(values) else name
