"""How a training run went."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adapcli.report import style
from adapcli.report.figures.plane import percent_axis
from adapcli.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES = (
    ("loss", "total", style.INK),
    ("token_loss", "tokens", style.BLUE),
    ("depth_loss", "depth", style.VERMILLION),
    ("feature_loss", "features", style.GREEN),
)
CORNERS = (
    ("accuracy_full", "full", style.INK, "o-"),
    ("accuracy_narrowest", "narrowest", style.GREEN, "^-"),
    ("accuracy_shallowest", "shallowest", style.VERMILLION, "D-"),
    ("accuracy_fewest_tokens", "fewest tokens", style.BLUE, "v-"),
    ("accuracy_cheapest", "cheapest", style.ORANGE, "s-"),
)
NOISY_FROM = 60
"""From so many points on, a curve is drawn smoothed over what was measured."""


@style.styled
def learning_curves(lines: pd.DataFrame, *, layout: Layout = style.WIDE) -> "Figure":
    """lines: a journal, by step: stage, learning_rate, losses, accuracies (fractions); NaN: not measured.

    Panels: parts of the loss; accuracy of the corners of the grid; learning rate. Stages are told apart by
    dotted lines.
    """
    from adapcli.plotting import FuncFormatter

    rows, columns = (3, 1) if layout.narrow else (1, 3)
    height = 2.5 * rows + 0.6 if layout.narrow else 3.4
    figure, grid = style.canvas(layout, height, rows, columns, squeeze=False)
    losses, scores, rates = grid.flat
    _losses(losses, lines)
    _scores(scores, lines)
    rates.plot(lines["step"], lines["learning_rate"], color=style.INK)
    rates.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    rates.set(title="Learning rate", ylim=(0, None))
    for axes in grid.flat:
        _steps(axes, lines)
    for axes in (losses, scores):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="best", fontsize=8, handlelength=1.4)
    return figure


def _losses(axes: "Axes", lines: pd.DataFrame) -> None:
    axes.set_title("Loss and its parts")
    for name, label, colour in LOSSES:
        measured = lines[lines[name].fillna(0) != 0] if name in lines else lines[:0]
        if len(measured) >= NOISY_FROM:
            axes.plot(measured["step"], measured[name], color=colour, lw=0.6, alpha=0.25)
        if len(measured):
            axes.plot(measured["step"], _smoothed(measured, name), color=colour, label=label, lw=1.4)
    shown = np.concatenate([line.get_ydata() for line in axes.lines]) if axes.lines else np.ones(1)
    axes.set_ylim(0, 1.05 * float(np.quantile(shown, 0.99)))


def _smoothed(measured: pd.DataFrame, name: str) -> pd.Series:
    """A rolling mean where there are many points; never across the border of two stages."""
    if len(measured) < NOISY_FROM:
        return measured[name]
    window = max(5, len(measured) // 40)
    stage = measured["stage"].ne(measured["stage"].shift()).cumsum()
    rolled = measured.groupby(stage)[name].rolling(window, center=True, min_periods=1).mean()
    return rolled.droplevel(0)


def _scores(axes: "Axes", lines: pd.DataFrame) -> None:
    axes.set_title("Accuracy, tune samples")
    for name, label, colour, form in CORNERS:
        if name in lines and lines[name].notna().any():
            measured = lines[["step", name]].dropna()
            few = form if len(measured) < 30 else "-"
            axes.plot(measured["step"], measured[name], few, color=colour, label=label, ms=3, lw=1.4)
    percent_axis(axes, "accuracy")


def _steps(axes: "Axes", lines: pd.DataFrame) -> None:
    from adapcli.plotting import FuncFormatter, MaxNLocator

    axes.set_xlabel("step")
    last = float(lines["step"].max())
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    if last >= 10_000:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))
    stages = lines["stage"]
    for step in lines["step"][stages != stages.shift()].iloc[1:]:
        axes.axvline(step, color=style.MUTED, lw=0.9, ls=":", zorder=1)
