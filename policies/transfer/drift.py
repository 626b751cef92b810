"""Whether what a policy sees is distributed as where it was fitted: a test per signal and place.

The two-sample Kolmogorov-Smirnov distance, at the reference's edges alone, so at most the true one: its
p-values are too large, never too small. Holm's correction over all tests (1979): with no drift at all, one
or more are found with a chance of at most `LEVEL`, if samples are drawn independently. They seldom are quite
(scenes share scans, photographs share scenes), and with many samples everything differs: so drift is what is
beyond chance *and* moves at least `LEAST` of the samples *and* twice as many as the policy's own splits
differ by.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import kolmogi, kolmogorov  # type: ignore[import-untyped]

from policies.base import FloatArray, IntArray, StoredPolicy
from policies.table import OutcomeTable
from policies.transfer.reference import FEWEST, Column, Place, Reference
from policies.transfer.sights import Sight, sights

LEVEL = 0.01
LEAST = 0.05
OWN = 2.0


@dataclass(frozen=True)
class Shift:
    """How far one signal moved at one place.

    configuration: where it is looked at; None before the model runs. distance: largest difference of the
    shares of samples at or below a value, in [0, 1]; at: that value; share, share_before: the two. own: the
    distance between the policy's own splits. p_value: by itself; adjusted: for all tests. beyond_chance:
    adjusted below LEVEL; drifted: beyond chance, large, and larger than own.
    """

    configuration: int | None
    name: str
    n: int
    n_before: int
    distance: float
    at: float
    share: float
    share_before: float
    own: float
    p_value: float
    adjusted: float
    beyond_chance: bool
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """All shifts, what drifted first, then the surest (by p-value).

    visible: the least distance that would be beyond chance at every place. left_out: places with too few
    samples, here or before, to say anything.
    """

    split: str
    shifts: tuple[Shift, ...]
    visible: float
    left_out: int

    @property
    def found(self) -> bool:
        """Whether anything drifted."""
        return any(shift.drifted for shift in self.shifts)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rules = {"level": LEVEL, "least": LEAST, "own": OWN}
        return {"found": self.found, "against": self.split, "visible": self.visible, "rules": rules,
                "left_out": self.left_out, "shifts": [asdict(s) for s in self.shifts]}  # fmt: skip


def drift(
    policy: StoredPolicy, reference: Reference, table: OutcomeTable, rows: IntArray, split: str = "fit"
) -> Drift:
    """What the policy sees of the samples at `rows` against what it saw of the `split` it was made with.

    FileError if the table lacks what the policy needs.
    """
    seen = {sight.configuration: sight for sight in sights(policy, table, rows)}
    known = [place for place in reference.places if split in place.n]
    places = [(place, seen[place.configuration]) for place in known if place.configuration in seen]
    enough = [(p, s) for p, s in places if min(p.n[split], len(s.rows)) >= FEWEST]
    raw = [found for place, sight in enough for found in _distances(place, sight, split)]
    adjusted = holm(np.array([found.p_value for found in raw]))
    shifts = [_judged(found, float(p)) for found, p in zip(raw, adjusted, strict=True)]
    # Below 1e-300 p-values are all 0: the statistic they come from still tells them apart.
    shifts.sort(key=lambda s: (not s.drifted, s.p_value, -s.distance * _weight(s.n, s.n_before)))
    visible = max((_visible(s.n, s.n_before, len(shifts)) for s in shifts), default=1.0)
    return Drift(split, tuple(shifts), visible, len(known) - len(enough))


def holm(p_values: npt.NDArray[Any]) -> FloatArray:
    """P-values (m,) adjusted for their number, step-down (Holm 1979)."""
    order, m = np.argsort(p_values, kind="stable"), len(p_values)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * (m - np.arange(m))))
    return adjusted


def _distances(place: Place, sight: Sight, split: str) -> Iterator[Shift]:
    """Each signal's distance, not yet adjusted for the number of tests."""
    n, before = len(sight.rows), place.n[split]
    values = dict(zip(sight.names, sight.values.T, strict=True))
    for column in place.columns:
        if column.name not in values:
            continue
        share, share_before = column.count(values[column.name]) / n, column.below[split] / before
        gap = np.abs(share - share_before)
        at = int(gap.argmax())
        p = float(kolmogorov(gap[at] * _weight(n, before)))
        numbers = (float(gap[at]), float(column.edges[at]), float(share[at]), float(share_before[at]))
        own = _own(column, place)
        yield Shift(place.configuration, column.name, n, before, *numbers, own, p, p, False, False)


def _own(column: Column, place: Place) -> float:
    """The largest distance between two of the policy's own splits."""
    shares = [column.below[split] / place.n[split] for split in place.n if place.n[split] >= FEWEST]
    return max((float(np.abs(a - b).max()) for a in shares for b in shares), default=0.0)


def _judged(shift: Shift, adjusted: float) -> Shift:
    beyond = adjusted < LEVEL
    large = shift.distance >= max(LEAST, OWN * shift.own)
    return Shift(
        **{**asdict(shift), "adjusted": adjusted, "beyond_chance": beyond, "drifted": beyond and large}
    )


def _weight(n: int, before: int) -> float:
    return float(np.sqrt(n * before / (n + before)))


def _visible(n: int, before: int, tests: int) -> float:
    return float(min(1.0, kolmogi(LEVEL / max(tests, 1)) / _weight(n, before)))
