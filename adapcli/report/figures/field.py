"""How much of the gap each policy closes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapcli.report import labels, style
from adapcli.report.field import Standing
from adapcli.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def gaps(standings: Sequence[Standing], recommended: str, *, layout: Layout = style.WIDE) -> "Figure":
    """One line per standing that has a gap, in their order from above."""
    figure, axes = style.canvas(layout, 0.9 + 0.27 * len(standings))
    for place, standing in enumerate(standings):
        _draw(axes, -place, standing, strong=standing.name == recommended)
    names = [style.shortened(labels.readable(standing.name), 28) for standing in standings]
    axes.set_yticks([-place for place in range(len(standings))], names)
    axes.set_ylim(-len(standings) + 0.4, 0.6)
    axes.axvline(0, color=style.MUTED, lw=0.8, zorder=1)
    axes.axvline(1, color=style.MUTED, lw=0.8, zorder=1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("part of the gap closed: 0 static choices, 1 answers known beforehand")
    return figure


def _draw(axes: "Axes", y: float, standing: Standing, *, strong: bool) -> None:
    gap = standing.gap
    assert gap is not None
    colour = style.BLUE if strong else style.INK if standing.attainable else style.MUTED
    axes.hlines(y, gap.low, gap.high, color=colour, lw=2.2 if strong else 1.5, zorder=4)
    face = colour if standing.attainable else style.PAPER
    axes.plot(
        [gap.mean], [y], "o", color=colour, markerfacecolor=face, markersize=7 if strong else 5.5, zorder=5
    )
    for end in (standing.worst, standing.best):
        if end is not None:
            axes.plot([end], [y], "|", color=colour, markersize=9, zorder=4)
