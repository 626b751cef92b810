"""Refuse bad tables at the door, naming the row or the column. Nothing larger than a block is loaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from policies.errors import FileError
from policies.table import schema
from policies.table.recalibration import Recalibration
from policies.table.schema import Array

BLOCK_VALUES = 1 << 22


class Rows(Protocol):
    """An array, or an `ArrayFile`, read by slices of rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    def __getitem__(self, rows: slice, /) -> Array: ...


def check_configs(configs: pd.DataFrame, source: str) -> None:
    """FileError unless there are rows, distinct configurations, and finite costs that are not negative."""
    if len(configs) == 0:
        raise FileError(f"{source}: configs has 0 rows")
    _require_columns(configs, schema.COST_COLUMNS, f"{source}: configs")
    for name in schema.COST_COLUMNS:
        _check_costs(configs[name], f"{source}: configs, column {name}")
    axes = schema.id_columns(configs)
    if not axes:
        raise FileError(f"{source}: configs has no column that says which configuration a row is")
    _check_missing(configs[axes], f"{source}: configs")
    _check_unique(configs[axes], f"{source}: configs", "configuration")
    if not configs["cost_flops"].max() > 0:
        raise FileError(f"{source}: configs, column cost_flops: every configuration costs nothing")


def check_increments(increment_flops: Array, n_configs: int, source: str) -> None:
    """FileError unless (C, C) float64, not negative, without NaN; infinite means that it cannot be done."""
    if increment_flops.shape != (n_configs, n_configs):
        raise FileError(
            f"{source}: increment_flops has shape {increment_flops.shape}, expected {(n_configs, n_configs)}"
        )
    if increment_flops.dtype != np.float64:
        raise FileError(f"{source}: increment_flops is {increment_flops.dtype}, expected float64")
    bad = np.argwhere(~(increment_flops >= 0))
    if len(bad):
        row, column = bad[0]
        value = increment_flops[row, column]
        raise FileError(f"{source}: increment_flops, row {row}, column {column}: {value} is not a cost")


def check_samples(samples: pd.DataFrame, n_samples: int | None, source: str) -> None:
    """FileError unless there are `n_samples` rows, each with its own sample_id and a known split."""
    _require_columns(samples, schema.SAMPLE_COLUMNS, f"{source}: samples")
    if len(samples) == 0:
        raise FileError(f"{source}: samples has 0 rows")
    if n_samples is not None and len(samples) != n_samples:
        raise FileError(f"{source}: samples has {len(samples)} rows, score has {n_samples}")
    _check_missing(samples[list(schema.SAMPLE_COLUMNS)], f"{source}: samples")
    unknown = np.flatnonzero(~samples["split"].isin(schema.SPLITS).to_numpy())
    if len(unknown):
        value = samples["split"].iloc[unknown[0]]
        raise FileError(
            f"{source}: samples, row {unknown[0]}: unknown split '{value}'",
            f"allowed: {', '.join(schema.SPLITS)}",
        )
    _check_unique(samples[["sample_id"]], f"{source}: samples", "sample_id")


def check_names(names: Sequence[str], what: str, source: str) -> None:
    """FileError unless the names are distinct."""
    if len(set(names)) != len(names):
        raise FileError(f"{source}: two {what} have the same name: {', '.join(names)}")


def check_recalibration(
    recalibration: Recalibration | None, n_configs: int, meta: Mapping[str, Any], source: str
) -> None:
    """FileError unless there is none, or one row per configuration with a bias for each class known."""
    if recalibration is None:
        return
    names = meta.get("class_names") or range(recalibration.n_classes)
    if len(recalibration) != n_configs or recalibration.n_classes != len(names):
        raise FileError(
            f"{source}: recalibration of {len(recalibration)} configurations and {recalibration.n_classes} "
            f"classes, the table has {n_configs} and {len(names)}"
        )


def expected_shapes(
    n_samples: int,
    n_configs: int,
    n_signals: int,
    n_features: int,
    patches: tuple[int, ...] | None,
    n_metrics: int | None = None,
) -> dict[str, tuple[int, ...]]:
    """The shape of every array with one row per sample; `patches` is (P', E) or None, or there are none."""
    grid = (n_samples, n_configs)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("score", "agreement", "prediction", "nll"), grid)
    shapes |= {"signals": (*grid, n_signals), "features": (n_samples, n_features)}
    shapes |= {"patches": (n_samples, *patches)} if patches is not None else {}
    return shapes | ({"metrics": (*grid, n_metrics)} if n_metrics is not None else {})


def check_layout(arrays: Mapping[str, Rows], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """FileError unless every array has the type and the shape it must have."""
    missing = [name for name in schema.REQUIRED if name not in arrays]
    if missing:
        raise FileError(f"{source}: {missing[0]} is missing")
    for name, array in arrays.items():
        allowed = schema.DTYPES[name]
        if str(array.dtype) not in allowed:
            raise FileError(f"{source}: {name} is {array.dtype}, expected {' or '.join(allowed)}")
        if tuple(array.shape) != tuple(shapes[name]):
            raise FileError(
                f"{source}: {name} has shape {tuple(array.shape)}, expected {tuple(shapes[name])}"
            )


def check_labels(
    meta: Mapping[str, Any],
    arrays: Mapping[str, Rows],
    samples: pd.DataFrame,
    source: str,
    *,
    first_row: int = 0,
    values: bool = True,
) -> None:
    """FileError unless `meta["labels"]` is true or missing, or false and nothing claims to know a label.

    Without labels: every target is -1, there is no nll, and (checked if `values`) the score is the agreement.
    """
    labels = meta.get("labels", True)
    if labels is True:
        return
    if labels is not False:
        raise FileError(f"{source}: labels: expected true or false, got {labels!r}")
    if "nll" in arrays:
        raise FileError(f"{source}: nll needs labels, and meta says that there are none")
    known = np.flatnonzero(samples["target"].to_numpy() != -1)
    if len(known):
        value = samples["target"].iloc[known[0]]
        raise FileError(
            f"{source}: samples, row {first_row + known[0]}: target {value}, and meta says that there are no "
            "labels",
            "without labels every target is -1",
        )
    for start, block in blocks(arrays["score"]) if values else ():
        other = np.argwhere(block != arrays["agreement"][start : start + len(block)])
        if len(other):
            row, column = first_row + start + int(other[0, 0]), int(other[0, 1])
            raise FileError(
                f"{source}: score, row {row}, column {column}: not the agreement, and meta says that there "
                "are no labels"
            )


def check_values(arrays: Mapping[str, Rows], source: str, *, first_row: int = 0) -> None:
    """FileError at the first NaN, infinity, or score outside [0, 1]; rows are named from `first_row` on."""
    for name, array in arrays.items():
        for start, block in blocks(array):
            _check_block(name, block, f"{source}: {name}", first_row + start)


def blocks(array: Rows) -> Iterator[tuple[int, Array]]:
    """(start, rows) pieces of at most `BLOCK_VALUES` values, one row at least."""
    n = array.shape[0]
    step = max(1, BLOCK_VALUES // max(1, int(np.prod(array.shape[1:], dtype=np.int64))))
    for start in range(0, n, step):
        yield start, array[start : min(start + step, n)]


def _check_block(name: str, block: Array, source: str, first_row: int) -> None:
    if block.dtype.kind != "f":
        return
    unit = name in schema.UNIT_RANGE
    # Two reductions see every NaN and infinity without building a mask; the mask is for the message.
    low, high = (block.min(), block.max()) if block.size else (0.0, 0.0)
    if (low >= 0 and high <= 1) if unit else (np.isfinite(low) and np.isfinite(high)):
        return
    bad = ~((block >= 0) & (block <= 1)) if unit else ~np.isfinite(block)
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    place = f"row {first_row + where[0]}" + (
        f", column {', '.join(map(str, where[1:]))}" if where[1:] else ""
    )
    raise FileError(f"{source}, {place}: {block[where]} is not {'in [0, 1]' if unit else 'a finite number'}")


def _require_columns(frame: pd.DataFrame, columns: Iterable[str], source: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise FileError(
            f"{source}: column {missing[0]} is missing", f"it has: {', '.join(map(str, frame.columns))}"
        )


def _check_costs(column: "pd.Series[Any]", source: str) -> None:
    if column.dtype.kind not in "iuf":
        raise FileError(f"{source}: not a column of numbers")
    values = column.to_numpy(np.float64)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        raise FileError(f"{source}, row {bad[0]}: {values[bad[0]]} is not a cost")


def _check_missing(frame: pd.DataFrame, source: str) -> None:
    bad = np.argwhere(frame.isna().to_numpy())
    if len(bad):
        row, column = bad[0]
        raise FileError(f"{source}, row {row}, column {frame.columns[column]}: no value")


def _check_unique(frame: pd.DataFrame, source: str, what: str) -> None:
    again = np.flatnonzero(frame.duplicated().to_numpy())
    if len(again):
        row = int(again[0])
        values = " ".join(f"{name}={frame[name].iloc[row]}" for name in frame.columns)
        raise FileError(f"{source}, row {row}: duplicate {what} ({values})")
