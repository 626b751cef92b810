"""What a scene's label is: small functions of the digits that were placed.

Legend: B scenes, N slots of a scene. Present slots come first, from the smallest digit to the largest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Uniforms = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A label rule.

    label: (values (B, N), present (B, N)) -> (B,) class; classes: largest number of digits -> number of
    classes; values: (uniforms (B, N + 2), present) -> values (B, N), how values are drawn; first: the number
    that class 0 stands for; apart: the largest digit must be clearly larger than the next.
    """

    label: Callable[[Ints, Bools], Ints]
    classes: Callable[[int], int]
    values: Callable[[Uniforms, Bools], Ints]
    first: int = 0
    apart: bool = False


def any_values(uniforms: Uniforms, present: Bools) -> Ints:
    """Every digit uniform over 0..9."""
    return (uniforms[:, :-2] * 10).astype(np.int64)


def values_up_to_label(uniforms: Uniforms, present: Bools) -> Ints:
    """The highest value uniform over 0..9 in a random present slot, the others uniform up to it.

    So the classes are balanced, and the number of digits says nothing about the label.
    """
    highest = (uniforms[:, -1] * 10).astype(np.int64)
    values = (uniforms[:, :-2] * (highest + 1)[:, None]).astype(np.int64)
    slot = (uniforms[:, -2] * present.sum(1)).astype(np.int64)
    values[np.arange(len(values)), slot] = highest
    return values


def maximum(values: Ints, present: Bools) -> Ints:
    """The highest value in the scene."""
    labels: Ints = np.where(present, values, 0).max(1)
    return labels


def total(values: Ints, present: Bools) -> Ints:
    """The sum of the values."""
    labels: Ints = (values * present).sum(1)
    return labels


def last_digit_of_total(values: Ints, present: Bools) -> Ints:
    """The sum modulo 10."""
    labels: Ints = total(values, present) % 10
    return labels


def largest(values: Ints, present: Bools) -> Ints:
    """The value of the digit drawn largest: the last present slot."""
    labels: Ints = values[np.arange(len(values)), present.sum(1) - 1]
    return labels


def count(values: Ints, present: Bools) -> Ints:
    """How many digits there are, less one."""
    labels: Ints = present.sum(1) - 1
    return labels


def count_distinct(values: Ints, present: Bools) -> Ints:
    """How many different values there are, less one."""
    seen = (values[:, :, None] == np.arange(10)) & present[:, :, None]
    labels: Ints = seen.any(1).sum(1) - 1
    return labels


def spread(values: Ints, present: Bools) -> Ints:
    """The highest value less the lowest."""
    labels: Ints = np.where(present, values, -1).max(1) - np.where(present, values, 10).min(1)
    return labels


RULES = {
    "maximum": Rule(maximum, lambda n: 10, values_up_to_label),
    "sum": Rule(total, lambda n: 9 * n + 1, any_values),
    "sum_mod_10": Rule(last_digit_of_total, lambda n: 10, any_values),
    "largest": Rule(largest, lambda n: 10, any_values, apart=True),
    "count": Rule(count, lambda n: n, any_values, first=1),
    "count_distinct": Rule(count_distinct, lambda n: min(n, 10), any_values, first=1),
    "spread": Rule(spread, lambda n: 10, any_values),
}
