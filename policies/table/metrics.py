"""Metrics of a whole data set that are no means of scores: how they come from sums over its samples.

mIoU is a mean over classes of intersections over unions, both summed over all images first; RMSE the root of
squared errors summed over all pixels. A table keeps, per sample and configuration, what has to be summed.

Legend: N samples, C configurations, M summed columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.errors import FileError

if TYPE_CHECKING:
    from policies.table.outcome import OutcomeTable

BLOCK_VALUES = 1 << 22

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class DatasetMetric:
    """The mean over pairs of columns of sum(over) / sum(under); pairs whose `under` sums to 0 are left out.

    name: as the field knows it; unit: "%" where a fraction is shown in percent, else such as "m"; root: take
    the square root of the mean; lower_is_better: an error.
    """

    name: str
    over: tuple[int, ...]
    under: tuple[int, ...]
    unit: str = ""
    root: bool = False
    lower_is_better: bool = False

    def value(self, sums: ArrayLike) -> FloatArray:
        """Summed columns (..., M) -> (...); NaN where nothing was counted."""
        array = np.asarray(sums, np.float64)
        over, under = array[..., list(self.over)], array[..., list(self.under)]
        counted = under > 0
        ratio = np.divide(over, under, out=np.zeros_like(over), where=counted)
        pairs = counted.sum(-1)
        mean = np.divide(ratio.sum(-1), pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
        return np.asarray(np.sqrt(mean) if self.root else mean)

    def text(self, value: float) -> str:
        """With its unit: "38.42 %", "0.513 m", "0.1042"."""
        if not np.isfinite(value):
            return "-"
        return f"{100 * value:.2f} %" if self.unit == "%" else f"{value:.4g} {self.unit}".rstrip()


def described(columns: Sequence[str], metrics: Sequence[DatasetMetric]) -> dict[str, Any]:
    """What `meta["metrics"]` of a table says: the names of the columns, and the metrics made of them."""
    return {"columns": list(columns), "dataset": [asdict(metric) for metric in metrics]}


def declared(meta: Mapping[str, Any], source: str = "outcome table") -> tuple[DatasetMetric, ...]:
    """The metrics that a table's meta declares, none if it declares none. FileError for anything else."""
    told = meta.get("metrics")
    if told is None:
        return ()
    try:
        columns = len(told["columns"])
        found = tuple(_read(metric, columns) for metric in told["dataset"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{source}: metrics: not the columns and metrics of a data set") from error
    return found


def _read(told: Mapping[str, Any], columns: int) -> DatasetMetric:
    over, under = tuple(told["over"]), tuple(told["under"])
    if len(over) != len(under) or not over:
        raise ValueError("pairs")
    if not all(type(at) is int and 0 <= at < columns for at in (*over, *under)):
        raise ValueError("columns")
    if not (isinstance(told["name"], str) and isinstance(told["unit"], str)):
        raise TypeError("text")
    return DatasetMetric(
        told["name"], over, under, told["unit"], bool(told["root"]), bool(told["lower_is_better"])
    )


def summed(table: "OutcomeTable", rows: ArrayLike) -> FloatArray:
    """The columns of every configuration summed over the samples at `rows` (n,): (C, M)."""
    assert table.metrics is not None
    at = np.asarray(rows)
    step = max(1, BLOCK_VALUES // max(1, int(np.prod(table.metrics.shape[1:]))))
    total = np.zeros(table.metrics.shape[1:])
    for start in range(0, len(at), step):
        total += np.asarray(table.metrics[at[start : start + step]]).sum(axis=0, dtype=np.float64)
    return total


def chosen(table: "OutcomeTable", rows: ArrayLike, configuration: ArrayLike) -> FloatArray:
    """The columns of one configuration per sample: (n, M)."""
    assert table.metrics is not None
    at, columns = np.asarray(rows), np.asarray(configuration)
    found = np.empty((len(at), table.metrics.shape[2]))
    for start in range(0, len(at), 4096):
        part = slice(start, start + 4096)
        found[part] = table.metrics[at[part], columns[part]]
    return found


def of_configurations(table: "OutcomeTable", rows: ArrayLike) -> dict[str, FloatArray]:
    """Every metric of every configuration over the samples at `rows`: name -> (C,). Empty if none is kept."""
    metrics = declared(table.meta)
    if table.metrics is None or not metrics:
        return {}
    sums = summed(table, rows)
    return {metric.name: metric.value(sums) for metric in metrics}


def of_choices(table: "OutcomeTable", rows: ArrayLike, configuration: ArrayLike) -> dict[str, float]:
    """Every metric where sample `rows[i]` runs `configuration[i]`. Empty if the table keeps none."""
    metrics = declared(table.meta)
    if table.metrics is None or not metrics:
        return {}
    sums = chosen(table, rows, configuration).sum(axis=0)
    return {metric.name: float(metric.value(sums)) for metric in metrics}


def resampled(columns: ArrayLike, *, resamples: int = 1000, seed: int = 0) -> FloatArray:
    """Sums of the columns (n, M) over samples drawn again, with replacement: (resamples, M)."""
    values = np.asarray(columns, np.float64)
    rng, n = np.random.default_rng(seed), len(values)
    draws = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples))
    return np.stack([drawn @ values for drawn in draws])
