"""The plane of cost and score that several figures share: axes, ticks, marks."""

import math
from typing import TYPE_CHECKING

import numpy as np

from adapcli.report import style
from adapcli.report.marks import Curve, Floats, Look, Mark
from adapcli.report.units import CostUnit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_FROM = 6.0
"""From this ratio of dearest to cheapest on, cost is drawn on a logarithmic axis."""


def cost_axis(axes: "Axes", costs_flops: Floats, unit: CostUnit, label: str = "mean cost per sample") -> None:
    """Scale, ticks in plain numbers, and label of the cost axis."""
    low, high = float(costs_flops.min()) / unit.flops, float(costs_flops.max()) / unit.flops
    axes.set_xlabel(f"{label}, {unit.name}")
    if low <= 0 or high / low < LOG_FROM:
        return
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
    ticks = round_numbers(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... between two positive numbers, thinned if there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 8:
            break
    return ticks


def percent_axis(axes: "Axes", label: str) -> None:
    """Scores are kept as fractions and read in percent."""
    from adapcli.plotting import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.set_ylabel(f"{label}, %")


def draw_curve(
    axes: "Axes", curve: Curve, unit: CostUnit, *, colour: str = style.INK, dash: str = "-"
) -> None:
    """A front. Its mixtures are linear in cost: drawn finely, since the axis may be logarithmic."""
    corners = curve.cost_flops / unit.flops
    fine = (
        np.unique(np.r_[corners, np.geomspace(corners[0], corners[-1], 200)]) if corners[0] > 0 else corners
    )
    heights = np.interp(fine, corners, curve.score)
    axes.plot(fine, heights, dash, color=colour, lw=1.4, label=curve.label, zorder=3)


def draw_band(axes: "Axes", curve: Curve, unit: CostUnit, *, colour: str) -> None:
    """A policy's whole trade-off, member by member, with the interval of its score."""
    x = curve.cost_flops / unit.flops
    if curve.low is not None and curve.high is not None:
        axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.14, lw=0, zorder=3)
    axes.plot(x, curve.score, "-", color=colour, lw=1.2, zorder=4)


def draw_mark(axes: "Axes", mark: Mark, look: Look, unit: CostUnit) -> None:
    """A marker over the interval of its score; the chosen configuration is a ring around its dot."""
    x, y = mark.cost_flops / unit.flops, mark.score.mean
    z = {"policy": 7, "chosen": 9}.get(mark.kind, 5)
    axes.vlines(x, mark.score.low, mark.score.high, color=look.colour, lw=1.5, zorder=z)
    axes.plot(
        [x],
        [y],
        look.marker,
        color=look.colour,
        markersize=look.size,
        markerfacecolor={"solid": look.colour, "hollow": style.PAPER, "ring": "none"}[look.fill],
        markeredgecolor=style.PAPER if look.fill == "solid" else look.colour,
        markeredgewidth=1.6 if look.fill == "ring" else 1.0,
        label=mark.label,
        zorder=z + 1,
    )
