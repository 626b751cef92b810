"""Which configurations a bench measures: the whole grid where that is quick, else those worth knowing."""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from adapcli.errors import FileError, UsageError
from adapcli.space import ConfigSpace, Configuration
from policies import pareto
from policies.table import OutcomeTable, schema

AFFORDABLE_S = 120.0
CHUNK_ROWS = 4096


def rows_of(table: OutcomeTable) -> dict[Configuration, int]:
    """The configurations of a table and their rows. FileError if they are not those of one such model."""
    names = set(schema.id_columns(table.configs))
    several = "model" in names and table.configs["model"].nunique() > 1
    if several or names - {"model"} != {"tokens", "width", "depth"}:
        raise FileError("the outcome table is not of one adaptive model: its configurations cannot be run")
    columns = (table.configs[name].tolist() for name in ("tokens", "width", "depth"))
    return {Configuration(*axes): row for row, axes in enumerate(zip(*columns, strict=True))}


def restricted(
    known: Iterable[Configuration],
    *,
    tokens: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
) -> list[Configuration]:
    """Those of `known` with the given values (None keeps an axis). UsageError for a value that none has."""
    known = list(known)
    axes = ({c.tokens for c in known}, {c.widths()[0] for c in known}, {c.depth for c in known})
    space = ConfigSpace(*(tuple(sorted(values)) for values in axes))
    wanted = set(space.restrict(tokens=tokens, widths=widths, depths=depths))
    chosen = [c for c in known if c in wanted]
    if not chosen:
        raise UsageError("none of these configurations is in the outcome table")
    return chosen


def corners(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Those with the least or the largest value on every axis."""
    tokens, widths, depths = (
        {min(values), max(values)}
        for values in zip(*((c.tokens, c.widths()[0], c.depth) for c in configurations), strict=True)
    )
    ends = {Configuration(*axes) for axes in product(tokens, widths, depths)}
    return [c for c in configurations if c in ends]


def static_front(table: OutcomeTable) -> list[int]:
    """Rows that no other dominates in FLOPs and calibration score (test score without such samples)."""
    rows = table.rows("calibration")
    rows = rows if len(rows) else table.rows("test")
    total = np.zeros(table.n_configs)
    for start in range(0, len(rows), CHUNK_ROWS):
        total += table.score[rows[start : start + CHUNK_ROWS]].sum(axis=0, dtype=np.float64)
    return [int(i) for i in pareto.front(table.cost_flops, total)]
