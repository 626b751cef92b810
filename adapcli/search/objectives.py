"""What a configuration costs, by name. A new kind of cost is one more entry here."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapcli.errors import FileError, UsageError
from policies.table import OutcomeTable, latency
from policies.table.latency import Condition

Floats = NDArray[np.float64]
Costs = Callable[[OutcomeTable], Floats]


@dataclass(frozen=True)
class Objective:
    """A cost to be kept low. `values(table)` gives it for every configuration, (C,) float64, in `unit`.

    A cost that was measured is infinite where it was not; condition: what it was measured under.
    """

    name: str
    column: str
    unit: str
    values: Costs
    condition: Condition | None = None


def _column(name: str) -> Costs:
    return lambda table: table.configs[name].to_numpy(np.float64)


def _latest_latency(table: OutcomeTable) -> Floats:
    return resolved("latency", table).values(table)


OBJECTIVES = {
    "flops": Objective("flops", "cost_flops", "FLOPs", _column("cost_flops")),
    "memory": Objective("memory", "memory_bytes", "bytes", _column("memory_bytes")),
    "latency": Objective("latency", "median_ms", "ms", _latest_latency),
}
MEASURED = {"latency": ("median_ms", "ms"), "memory": ("peak_memory_bytes", "bytes")}


def objective(name: str, condition: Condition | None = None) -> Objective:
    """The objective called `name`, as measured under `condition` if one is given.

    Without: latency is the latest at batch 1, memory the estimate of the table. UsageError naming those there
    are.
    """
    if name not in OBJECTIVES:
        raise UsageError(f"objective {name}: not known", f"allowed: {', '.join(OBJECTIVES)}")
    if condition is None or name not in MEASURED:
        return OBJECTIVES[name]
    column, unit = MEASURED[name]

    def values(table: OutcomeTable) -> Floats:
        found = latency.measured(_rows(table), condition)
        return found.scattered(getattr(found, column), table.n_configs)

    return Objective(name, column, unit, values, condition)


def resolved(given: str | Objective, table: OutcomeTable) -> Objective:
    """An objective by name, or one as it is; latency by name is the latest that was measured at batch 1."""
    found = objective(given) if isinstance(given, str) else given
    if found.values is not _latest_latency:
        return found
    return objective("latency", conditions_of(table, batch=1)[-1])


def conditions_of(
    table: OutcomeTable, *, batch: int | None = None, device: str = "", dtype: str = ""
) -> list[Condition]:
    """The conditions under which the table's configurations were measured, the latest last; at least one.

    device: a part of its name, in any case. FileError if nothing was measured, UsageError, naming what was,
    if nothing is as asked.
    """
    measured = latency.conditions(_rows(table))
    found = [
        condition
        for condition in measured
        if batch in (None, condition.batch)
        and device.lower() in condition.device.lower()
        and dtype in ("", condition.dtype)
    ]
    if found:
        return found
    asked = (f"batch {batch}" if batch else "", f"device {device}" if device else "", dtype)
    told = "; ".join(map(str, measured))
    raise UsageError(f"nothing was measured at {', '.join(filter(None, asked))}", f"measured: {told}")


def _rows(table: OutcomeTable) -> pd.DataFrame:
    if table.latency is None or len(table.latency) == 0:
        raise FileError("no latency was measured for this outcome table", "run adap bench first")
    latency.check(table.latency, table.n_configs, "outcome table: latency")
    return table.latency
