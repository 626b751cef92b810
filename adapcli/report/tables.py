"""Tables as data frames, ready for CSV: numbers unrounded, units in the column names."""

import numpy as np
import pandas as pd

from policies.statistics import mean_interval
from policies.table import OutcomeTable
from policies.table.schema import AXES

GRID_AXES = tuple(axis for axis in AXES if axis != "model")


def configurations(table: OutcomeTable, statics: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """A row per configuration: axes, cost, its part of the full one's, score with interval on `split`.

    statics: as `policies.evaluate.baselines` gives them for the same split.
    """
    scores = np.asarray(table.score[table.rows(split)])
    intervals = [mean_interval(scores[:, i]) for i in range(table.n_configs)]
    return table.configs.assign(
        fraction=table.cost_flops / table.cost_flops[table.full],
        score=statics["score"],
        low=[interval.low for interval in intervals],
        high=[interval.high for interval in intervals],
        agreement=statics["agreement"],
        on_front=statics["on_front"],
        on_hull=statics["on_hull"],
    )


def axis_effects(configs: pd.DataFrame, full: int) -> pd.DataFrame:
    """Each axis on its own, the others at the full and at the cheapest configuration's values.

    Rows (axis, others, value, score, low, high, fraction); empty if no axis varies.
    """
    cheapest = int(configs["cost_flops"].to_numpy().argmin())
    parts = []
    for axis in varying_axes(configs):
        for others, base in (("full", full), ("cheapest", cheapest)):
            line = _line(configs, axis, base).sort_values(axis)
            frame = line[["score", "low", "high", "fraction"]].assign(
                axis=axis, others=others, value=line[axis]
            )
            parts.append(frame)
    columns = ["axis", "others", "value", "score", "low", "high", "fraction"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def varying_axes(configs: pd.DataFrame) -> list[str]:
    """The grid's axes with more than one value."""
    return [axis for axis in GRID_AXES if axis in configs and configs[axis].nunique() > 1]


def _line(configs: pd.DataFrame, axis: str, base: int) -> pd.DataFrame:
    """The configurations that differ from `base` in one axis only."""
    same = np.ones(len(configs), bool)
    for other in AXES:
        if other != axis and other in configs:
            same &= (configs[other] == configs[other].iloc[base]).to_numpy()
    return configs[same]
