"""What recalibration changes, at every cost."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adapcli.report import style
from adapcli.report.figures.plane import cost_axis
from adapcli.report.style import Layout
from adapcli.report.units import CostUnit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def recalibration(frame: pd.DataFrame, *, unit: CostUnit, layout: Layout = style.WIDE) -> "Figure":
    """frame: a row per configuration (cost_flops, gain, low, high, ece_before, ece_after); fractions."""
    rows, columns = (2, 1) if layout.narrow else (1, 2)
    figure, grid = style.canvas(layout, 3.2 * rows, rows, columns, squeeze=False)
    gained, errors = grid.flat
    costs, x = frame["cost_flops"].to_numpy(float), frame["cost_flops"] / unit.flops
    gained.axhline(0, color=style.MUTED, lw=1, ls="--")
    gained.vlines(x, 100 * frame["low"], 100 * frame["high"], color=style.FAINT, lw=1.2)
    gained.plot(x, 100 * frame["gain"], "o", color=style.BLUE, ms=4, markeredgecolor=style.PAPER)
    gained.set_ylabel("accuracy gained, points")
    for when, colour, marker in (("before", style.ORANGE, "D"), ("after", style.BLUE, "o")):
        y = 100 * frame[f"ece_{when}"]
        errors.plot(x, y, marker, color=colour, ms=4, label=when, markeredgecolor=style.PAPER)
    errors.set_ylabel("calibration error, %")
    errors.set_ylim(bottom=0, top=max(1.0, 110 * np.nanmax(frame[["ece_before", "ece_after"]].to_numpy())))
    for axes in (gained, errors):
        cost_axis(axes, costs, unit, "cost")
    style.legend_below(figure, errors, layout)
    return figure
