"""Does a stated confidence hold?"""

import math
from typing import TYPE_CHECKING

import numpy as np

from adapcli.report import style
from adapcli.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from adapcli.evaluation.calibration import Reliability


FEWEST, LEAST_SHARE = 10, 0.002
"""Samples that a bin needs to be drawn; the accuracy of one or two is a spike that says nothing."""


def fewest(samples: int) -> int:
    """How many of so many samples a bin needs to be drawn: 10, or 0.2 % if that is more."""
    return max(FEWEST, math.ceil(LEAST_SHARE * samples))


@style.styled
def reliability_curves(
    curves: "dict[str, Reliability]", *, score_name: str, layout: Layout = style.WIDE
) -> "Figure":
    """One panel per configuration: accuracy over confidence, and how many samples lie where."""
    rows, columns = (len(curves), 1) if layout.narrow else (1, len(curves))
    height = 2.9 * rows + 0.4 if layout.narrow else 3.2
    figure, grid = style.canvas(layout, height, rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, curve) in zip(grid.flat, curves.items(), strict=True):
        _panel(axes, curve)
        axes.set_title(f"{name}\nECE {100 * curve.calibration_error:.1f} %")
    for axes in grid[:, 0]:
        axes.set_ylabel(f"{score_name}, %")
    for axes in grid[-1]:
        axes.set_xlabel("confidence, %")
    return figure


def _panel(axes: "Axes", curve: "Reliability") -> None:
    drawn = curve.count >= fewest(int(curve.count.sum()))
    share = curve.count / curve.count.sum()
    width = 100 / len(share)
    centres = [(i + 0.5) * width for i in range(len(share))]
    axes.bar(centres, 100 * share, width * 0.86, color=style.FAINT, zorder=1)
    axes.plot([0, 100], [0, 100], "--", color=style.MUTED, lw=1, zorder=2)
    axes.plot(
        100 * np.where(drawn, curve.confidence, np.nan),
        100 * np.where(drawn, curve.accuracy, np.nan),
        "o-",
        color=style.BLUE,
        zorder=3,
        clip_on=False,
    )
    axes.set(xlim=(0, 100), ylim=(0, 102), xticks=range(0, 101, 25), yticks=range(0, 101, 25))
