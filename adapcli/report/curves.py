"""The learning curves of a training run: read from its journal, drawn into its folder."""

from pathlib import Path

import pandas as pd

from adapcli.report import style
from adapcli.training.journal import read_lines
from policies.files import write_bytes, write_text

JOURNAL, NAME = "metrics.jsonl", "curves"


def read_curves(folder: Path) -> pd.DataFrame | None:
    """A journal's lines, one row each; None if there is none, or nothing that can be drawn in it.

    Columns step, stage, learning_rate, and numbers by name; what a line lacks is NaN.
    """
    lines = [line for line in read_lines(folder / JOURNAL) if _drawable(line)]
    if not lines:
        return None
    frame = pd.DataFrame(lines)
    numbers = [name for name in frame.columns if name != "stage"]
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    frame = frame.replace([float("inf"), -float("inf")], float("nan"))
    return frame


def draw_curves(folder: Path) -> Path | None:
    """Write curves.png and curves.svg beside the journal in `folder`; where the PNG is, None without one."""
    from adapcli.report.figures.training import learning_curves

    lines = read_curves(folder)
    if lines is None:
        return None
    figure = learning_curves(lines)
    write_bytes(folder / f"{NAME}.png", style.to_png(figure))
    write_text(folder / f"{NAME}.svg", style.to_svg(figure))
    return folder / f"{NAME}.png"


def _drawable(line: dict[str, object]) -> bool:
    return isinstance(line.get("stage"), str) and isinstance(line.get("learning_rate"), int | float)
