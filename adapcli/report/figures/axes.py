"""What each axis does on its own."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adapcli.report import style
from adapcli.report.figures.plane import percent_axis
from adapcli.report.style import Layout
from adapcli.report.units import part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = 7
LINES = (
    ("full", "others at full", style.BLUE, "o-"),
    ("cheapest", "others at the cheapest", style.ORANGE, "D--"),
)


@style.styled
def axis_effects(effects: pd.DataFrame, *, score_name: str, layout: Layout = style.WIDE) -> "Figure":
    """effects: rows (axis, others, value, score, low, high, fraction), from `tables.axis_effects`."""
    names = list(effects["axis"].unique())
    if layout.narrow:
        figure, grid = style.canvas(layout, 2.6 * len(names) + 0.5, len(names), 1, sharey=True, squeeze=False)
    else:
        figure, grid = style.canvas(layout, 3.5, 1, len(names), sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=True):
        _effect(axes, effects[effects["axis"] == name])
        axes.set_title(name)
    for axes in grid[:, 0]:
        percent_axis(axes, score_name)
    style.legend_below(figure, grid.flat[0], layout)
    return figure


def _effect(axes: "Axes", effects: pd.DataFrame) -> None:
    values = sorted(effects["value"].unique())
    position = {value: i for i, value in enumerate(values)}
    for others, label, colour, form in LINES:
        rows = effects[effects["others"] == others].sort_values("value")
        x = [position[value] for value in rows["value"]]
        axes.vlines(x, rows["low"], rows["high"], color=colour, lw=1.2)
        axes.plot(x, rows["score"], form, color=colour, label=label, markeredgecolor=style.PAPER)
    at_full = effects[effects["others"] == "full"].set_index("value")["fraction"]
    shown = [values[i] for i in sorted({round(i) for i in np.linspace(0, len(values) - 1, TICKS)})]
    ticks = [f"{value}\n{part(at_full[value])}" if value in at_full else str(value) for value in shown]
    axes.set_xticks([position[value] for value in shown], ticks)
    axes.set_xlim(-0.4, len(values) - 0.6)
    axes.set_xlabel("below: cost, of full")
