"""Metrics of a whole data set, such as mIoU and RMSE, of configurations and policies, with intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapcli.report.units import MISSING
from policies.table import OutcomeTable, metrics

RESAMPLES = 1000

Decided = Mapping[str, int | NDArray[np.int64]]
"""What runs, by name: one configuration for all samples, or one for each."""


def measured(table: OutcomeTable, decided: Decided, split: str = "test") -> pd.DataFrame:
    """Rows (name, metric, value, low, high, unit): every metric the table keeps sums for, over a split.

    low, high: 95 % percentile interval over samples drawn again. Empty if the table keeps none.
    """
    rows, declared, records = table.rows(split), metrics.declared(table.meta), []
    for name, choice in decided.items() if table.metrics is not None else ():
        columns = metrics.chosen(table, rows, np.broadcast_to(choice, len(rows)))
        drawn = metrics.resampled(columns, resamples=RESAMPLES)
        for metric in declared:
            low, high = np.nanquantile(metric.value(drawn), [0.025, 0.975])
            value = float(metric.value(columns.sum(0)))
            records.append((name, metric.name, value, float(low), float(high), metric.unit))
    return pd.DataFrame(records, columns=["name", "metric", "value", "low", "high", "unit"])


def names(table: OutcomeTable) -> list[str]:
    """The metrics that a table keeps sums for, with their units, as columns are headed."""
    if table.metrics is None:
        return []
    return [f"{m.name}, {m.unit}" if m.unit else m.name for m in metrics.declared(table.meta)]


def cells(frame: pd.DataFrame, name: str) -> list[str]:
    """The values of one row of `measured`, in the order of `names`, each with its interval."""
    found = frame[frame["name"] == name]
    return [_cell(*row) for row in found[["value", "low", "high", "unit"]].itertuples(index=False)]


def _cell(value: float, low: float, high: float, unit: str) -> str:
    if not np.isfinite(value):
        return MISSING
    scale, digits = (100, 2) if unit == "%" else (1, 4)
    return f"{scale * value:.{digits}f} ({scale * low:.{digits}f} .. {scale * high:.{digits}f})"
