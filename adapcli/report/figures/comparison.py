"""Two runs in one plane."""

from typing import TYPE_CHECKING

import numpy as np

from adapcli.report import style
from adapcli.report.figures.plane import cost_axis, draw_curve, percent_axis
from adapcli.report.marks import Curve
from adapcli.report.style import Layout
from adapcli.report.units import CostUnit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = ((style.BLUE, "o", "-"), (style.VERMILLION, "D", "--"))


@style.styled
def comparison(
    curves: list[Curve], *, unit: CostUnit, score_name: str, layout: Layout = style.WIDE
) -> "Figure":
    """The static fronts of two runs, with their corners."""
    figure, axes = style.canvas(layout, 3.9)
    for curve, (colour, marker, dash) in zip(curves, LOOKS, strict=True):
        draw_curve(axes, curve, unit, colour=colour, dash=dash)
        axes.plot(
            curve.cost_flops / unit.flops,
            curve.score,
            marker,
            color=colour,
            markeredgecolor=style.PAPER,
            zorder=4,
        )
    cost_axis(axes, np.concatenate([curve.cost_flops for curve in curves]), unit)
    percent_axis(axes, score_name)
    style.legend_below(figure, axes, layout)
    return figure
