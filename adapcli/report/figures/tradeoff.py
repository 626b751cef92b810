"""Score over cost: every configuration, the static front, policies, rivals."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adapcli.report import style
from adapcli.report.figures.plane import cost_axis, draw_band, draw_curve, draw_mark, percent_axis
from adapcli.report.marks import Curve, Floats, Mark, looks, shade_axis
from adapcli.report.style import Layout
from adapcli.report.units import CostUnit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CLOSE = 0.05
"""How far below the best score the second panel reaches."""


@style.styled
def tradeoff(
    configs: pd.DataFrame,
    curves: list[Curve],
    marks: list[Mark],
    *,
    unit: CostUnit,
    score_name: str,
    lines: dict[str, Curve] | None = None,
    layout: Layout = style.WIDE,
) -> "Figure":
    """configs: columns cost_flops, score and the axes. curves: the static front first.

    lines: whole trade-offs of policies, by the label of their mark.
    """
    rows, columns = (2, 1) if layout.narrow else (1, 2)
    figure, (whole, close) = style.canvas(layout, 8.6 if layout.narrow else 4.9, rows, columns)
    bottom, top = _close_range(configs, marks)
    look_of = dict(zip(marks, looks(marks), strict=True))  # the same in both panels
    near = [mark for mark in marks if bottom <= mark.score.mean <= top]
    for axes, shown in ((whole, marks), (close, near)):
        _configurations(axes, configs, unit)
        for curve, dash in zip(curves, ("-", "--", ":"), strict=False):
            draw_curve(axes, curve, unit, dash=dash, colour=style.INK if dash == "-" else style.MUTED)
        for mark in marks:
            if lines and mark.label in lines:
                draw_band(axes, lines[mark.label], unit, colour=look_of[mark].colour)
        for mark in shown:
            draw_mark(axes, mark, look_of[mark], unit)
        percent_axis(axes, score_name)
    whole.set_title("All configurations")
    close.set_title("Close to the best")
    every = list((lines or {}).values())
    cost_axis(whole, _costs(configs, marks, every), unit)
    close_lines = [line for line in every if line.score.max() >= bottom]
    cost_axis(close, _costs(configs[configs["score"] >= bottom], near, close_lines, bottom), unit)
    close.set_ylim(bottom, top)
    style.legend_below(figure, whole, layout)
    return figure


def _costs(configs: pd.DataFrame, marks: list[Mark], lines: list[Curve], bottom: float = 0.0) -> Floats:
    """Of everything that is drawn; of lines where they score `bottom` or more."""
    shown = [line.cost_flops[line.score >= bottom] for line in lines]
    return np.concatenate([configs["cost_flops"].to_numpy(np.float64), [m.cost_flops for m in marks], *shown])


def _close_range(configs: pd.DataFrame, marks: list[Mark]) -> tuple[float, float]:
    """Where decisions are made: from a little below the best configuration and every choice, upwards."""
    best, worst = float(configs["score"].max()), float(configs["score"].min())
    choices = [mark.score for mark in marks if mark.kind in ("policy", "chosen", "full")]
    # Where all is close to the best, whole intervals are shown: of one configuration they are all there is.
    reach = best - 3 * CLOSE if worst < best - CLOSE else 0.0
    lowest = min([best - CLOSE, *(score.low for score in choices if score.low > reach)])
    highest = max([best, *(score.high for score in choices)])
    margin = 0.06 * (highest - lowest)
    least = min([worst, *(score.low for score in choices)])
    return max(lowest - margin, least - margin), min(highest + margin, 1.005)


def _configurations(axes: "Axes", configs: pd.DataFrame, unit: CostUnit) -> None:
    axis = shade_axis(configs)
    values = configs[axis] if axis else pd.Series(0, configs.index)
    groups = sorted(values.unique())
    named = {groups[0], groups[-1], groups[len(groups) // 2]} if len(groups) > 6 else {groups[0], groups[-1]}
    for value, colour in zip(groups, style.ramp(len(groups)), strict=True):
        rows = configs[values == value]
        label = f"{axis} {value}" if axis else "configuration"
        axes.plot(
            rows["cost_flops"] / unit.flops,
            rows["score"],
            "o",
            color=colour,
            markersize=4.5,
            markeredgecolor=style.PAPER,
            markeredgewidth=0.4,
            label=label if value in named else None,
            zorder=2,
        )
