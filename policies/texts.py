"""Numbers as people read them, the same in errors, on a terminal and in a report."""

import math


def count(n: int, noun: str, several: str = "") -> str:
    """ "1 sample", "2 000 samples"; several: the plural where it is not the noun with an s."""
    return f"{number(n)} {noun if n == 1 else several or noun + 's'}"


def number(n: int) -> str:
    """Thousands apart: "20 000"."""
    return f"{n:,}".replace(",", " ")


def percent(share: float) -> str:
    """A share in percent, such as "93.4 %"."""
    return f"{100 * share:.1f} %"


def significant(value: float, digits: int = 3) -> str:
    """So many significant digits and all before the point, never an exponent; nan and inf as they are."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
