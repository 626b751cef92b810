"""What stands in the plane of cost and score: configurations, policies, rivals."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapcli.report import style
from policies.statistics import Interval

Floats = NDArray[np.float64]
Kind = Literal["policy", "oracle", "chosen", "full", "rival"]


@dataclass(frozen=True)
class Mark:
    """One way to run the model, evaluated. cost_flops: mean per sample, everything included."""

    label: str
    kind: Kind
    score: Interval
    cost_flops: float


@dataclass(frozen=True)
class Curve:
    """A line in the same plane, by ascending cost; cost_flops and score (K,).

    low, high: of the score's 95 % interval, if it has one.
    """

    label: str
    cost_flops: Floats
    score: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class Look:
    """How a mark is drawn; the same policy looks the same in every figure. fill: solid, hollow or ring."""

    colour: str
    marker: str
    fill: str = "solid"
    size: float = 7.5


def looks(marks: list[Mark]) -> list[Look]:
    """A look per mark, by kind and by position among its kind."""
    seen: dict[str, int] = {}
    found = []
    for mark in marks:
        i = seen.get(mark.kind, 0)
        seen[mark.kind] = i + 1
        found.append(_look(mark.kind, i))
    return found


def _look(kind: Kind, i: int) -> Look:
    if kind == "policy":
        return Look(style.SERIES[i % len(style.SERIES)], style.MARKERS[(i + i // 6) % len(style.MARKERS)])
    if kind == "full":
        return Look(style.INK, "s", size=7)
    if kind == "chosen":
        return Look(style.INK, "o", "ring", 11)
    if kind == "oracle":
        return Look(style.MUTED, ("*", "p")[i % 2], "hollow", (11, 8)[i % 2])
    return Look(style.MUTED, ("d", "h")[i % 2], "solid", 7)


def shade_axis(configs: pd.DataFrame) -> str | None:
    """The axis that colours tell apart: depth if it varies, else tokens, else width, else none."""
    varying = [
        axis for axis in ("depth", "tokens", "width") if axis in configs and configs[axis].nunique() > 1
    ]
    return varying[0] if varying else None
