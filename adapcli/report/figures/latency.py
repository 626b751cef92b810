"""FLOPs are not seconds."""

from typing import TYPE_CHECKING

import pandas as pd

from adapcli.report import style
from adapcli.report.figures.plane import cost_axis
from adapcli.report.style import Layout
from adapcli.report.units import CostUnit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def latency(measured: pd.DataFrame, *, unit: CostUnit, layout: Layout = style.WIDE) -> "Figure":
    """measured: rows (cost_flops, median_ms, and any of batch, device, dtype, threads)."""
    figure, axes = style.canvas(layout, 3.8)
    by = [name for name in ("batch", "device", "dtype", "threads", "compiled") if name in measured]
    groups = measured.groupby(by, sort=True) if by else [("measured", measured)]
    for i, (key, rows) in enumerate(groups):
        label = _label(measured, by, key if isinstance(key, tuple) else (key,))
        x = rows["cost_flops"] / unit.flops
        axes.plot(
            x,
            rows["median_ms"],
            style.MARKERS[i % 6],
            color=style.SERIES[i % 6],
            label=label,
            ms=5,
            markeredgecolor=style.PAPER,
        )
    cost_axis(axes, measured["cost_flops"].to_numpy(float), unit, "cost")
    axes.set_ylabel("median latency, ms")
    axes.set_ylim(bottom=0)
    style.legend_below(figure, axes, layout)
    return figure


def _label(measured: pd.DataFrame, by: list[str], values: tuple[object, ...]) -> str:
    """What tells a group from the others: the batch size, and whatever else varies."""
    told = [
        f"{name} {value}"
        for name, value in zip(by, values, strict=False)
        if name == "batch" or measured[name].nunique() > 1
    ]
    return ", ".join(told) or "measured"
