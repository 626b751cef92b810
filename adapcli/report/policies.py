"""Policies of a run, as `policies.evaluate` measures them on the test split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapcli.run import Run
from policies.statistics import Interval
from policies.table import OutcomeTable


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A policy or an oracle on the test split.

    cost_flops: mean per sample, features and network included; overhead_flops: these two; saving_full: part
    of the full configuration's cost; saving_static: part of what static choices as good cost, None if there
    are none; configuration (n,): what was used for each sample.
    """

    name: str
    kind: str
    score: Interval
    change: Interval
    cost_flops: float
    overhead_flops: float
    saving_full: Interval
    saving_static: Interval | None
    configuration: NDArray[np.int64]
    settings: dict[str, Any]


def evaluate_all(run: Run, table: OutcomeTable, warnings: list[str]) -> list[Evaluated]:
    """The policies in the run folder, in alphabetical order."""
    return []


def evaluate_oracles(table: OutcomeTable) -> list[Evaluated]:
    """Bounds that no policy reaches."""
    return []
