"""How numbers are written: one unit of cost per report, a dash for what is not there."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from policies import texts
from policies.statistics import Interval

MISSING = "–"


@dataclass(frozen=True)
class CostUnit:
    """FLOPs in a unit that suits the largest cost of a report."""

    name: str
    flops: float

    @classmethod
    def of(cls, costs_flops: Iterable[float]) -> "CostUnit":
        """The largest unit in which the dearest cost is 1 or more."""
        dearest = max(costs_flops)
        for name, flops in (("TFLOPs", 1e12), ("GFLOPs", 1e9), ("MFLOPs", 1e6), ("kFLOPs", 1e3)):
            if dearest >= flops:
                return cls(name, flops)
        return cls("FLOPs", 1.0)

    def text(self, cost_flops: float) -> str:
        """Three significant digits and the unit."""
        return f"{self.number(cost_flops)} {self.name}" if math.isfinite(cost_flops) else MISSING

    def number(self, cost_flops: float) -> str:
        """Three significant digits."""
        return significant(cost_flops / self.flops)


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, never in exponent form for ordinary sizes."""
    return texts.significant(value, digits).replace("-", "−") if math.isfinite(value) else MISSING


def percent(fraction: float, digits: int = 1) -> str:
    """0.8312 -> "83.1 %"."""
    value = 100 * fraction
    return f"{value:.{digits}f} %".replace("-", "−") if math.isfinite(value) else MISSING


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, signed."""
    value = 100 * difference
    if not math.isfinite(value):
        return MISSING
    text = f"{value:+.1f}"
    return ("0.0" if text[1:] == "0.0" else text).replace("-", "−")


def part(fraction: float) -> str:
    """A cost as part of the full configuration's: "0.42", and "0.0643" where two decimals say little."""
    return (
        significant(fraction) if 0 < fraction < 0.0995 or not math.isfinite(fraction) else f"{fraction:.2f}"
    )


def span(interval: Interval, digits: int = 1) -> str:
    """The ends of an interval of fractions, in percent: "82.0 to 84.1"; empty if there is none."""
    low, high = 100 * interval.low, 100 * interval.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{low:.{digits}f} to {high:.{digits}f}".replace("-", "−")


def half_width(interval: Interval) -> float:
    """Half the interval's length: the "±" of a symmetric reading."""
    return (interval.high - interval.low) / 2


def duration(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute} min" if hours else f"{minute} min {second} s"
