"""What was chosen, how often."""

from typing import TYPE_CHECKING

import pandas as pd

from adapcli.report import style
from adapcli.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def choices(shares: pd.DataFrame, *, layout: Layout = style.WIDE) -> "Figure":
    """shares: rows (name, axis, value, share); one bar per name and axis, cut into values."""
    names, axes_names = list(dict.fromkeys(shares["name"])), list(dict.fromkeys(shares["axis"]))
    height = 0.36 * len(names) + 0.9
    rows, columns = (len(axes_names), 1) if layout.narrow else (1, len(axes_names))
    figure, grid = style.canvas(layout, height * rows + 0.2, rows, columns, sharey=True, squeeze=False)
    for axes, axis in zip(grid.flat, axes_names, strict=True):
        _bars(axes, shares[shares["axis"] == axis], names)
        axes.set_title(axis)
    grid.flat[0].set_yticks(range(len(names)), [style.shortened(name, 24) for name in names])
    grid.flat[0].invert_yaxis()
    return figure


def _bars(axes: "Axes", shares: pd.DataFrame, names: list[str]) -> None:
    values = list(shares["value"].unique())
    if not isinstance(values[0], str):  # names come in their order
        values.sort()
    ramp = style.ramp(len(values))
    left = dict.fromkeys(names, 0.0)
    for i, (value, colour) in enumerate(zip(values, ramp, strict=True)):
        rows = shares[shares["value"] == value].set_index("name")["share"].reindex(names).fillna(0.0)
        places = [100 * left[name] for name in names]
        axes.barh(
            range(len(names)), 100 * rows, 0.68, left=places, color=colour, edgecolor=style.PAPER, lw=0.6
        )
        for y, name in enumerate(names):
            if rows[name] >= 0.05 + 0.035 * len(str(value)):  # else it would not fit
                colour_of_text = style.PAPER if i >= (len(values) - 1) / 2 else style.INK
                middle = 100 * (left[name] + rows[name] / 2)
                axes.text(middle, y, str(value), ha="center", va="center", fontsize=8.5, color=colour_of_text)
            left[name] += rows[name]
    axes.set(xlim=(0, 100), xlabel="samples, %", xticks=range(0, 101, 25))
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
