"""What a configuration costs, by name. A new kind of cost is one more entry here."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import UsageError
from policies.table import OutcomeTable

Costs = Callable[[OutcomeTable], NDArray[np.float64]]


@dataclass(frozen=True)
class Objective:
    """A cost to be kept low. `values(table)` gives it for every configuration, (C,) float64, in `unit`."""

    name: str
    column: str
    unit: str
    values: Costs


def _column(name: str) -> Costs:
    return lambda table: table.configs[name].to_numpy(np.float64)


OBJECTIVES = {
    "flops": Objective("flops", "cost_flops", "FLOPs", _column("cost_flops")),
    "memory": Objective("memory", "memory_bytes", "bytes", _column("memory_bytes")),
}


def objective(name: str) -> Objective:
    """The objective called `name`. UsageError naming those there are."""
    if name not in OBJECTIVES:
        raise UsageError(f"objective {name}: not known", f"allowed: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
