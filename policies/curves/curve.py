"""The curve of a policy: score and cost of every member of its family, over the same draws of samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.base import Decision, FloatArray, IntArray, OneLook, Policy, split_rows
from policies.curves.draws import Resampling
from policies.shown import short_repr
from policies.table import OutcomeTable

CHUNK = 1 << 14


@dataclass(frozen=True, eq=False)
class Curve:
    """K members of one family on one split.

    score, cost_flops: (1 + resamples, K) means, first of the samples as they are, then of each draw; costs
    hold features, networks and every readout. parameters: (K,) prices or thresholds, NaN where there is none.
    """

    __repr__ = short_repr

    name: str
    score: FloatArray
    cost_flops: FloatArray
    parameters: FloatArray

    def __len__(self) -> int:
        return len(self.parameters)


def curve_of(
    members: Sequence[Policy], table: OutcomeTable, split: str, resampling: Resampling, *, name: str = ""
) -> Curve:
    """Measure members on all samples of a split. FileError if it is empty.

    Memory: one (n, 2 K) float32 matrix, of the samples' scores and costs.
    """
    rows, full = split_rows(table, split), float(table.cost_flops[table.full])
    means = resampling.means(_columns(members, table, rows, full))
    size = len(members)
    parameters = np.array([parameter(member) for member in members], dtype=np.float64)
    return Curve(name or members[0].name, means[:, :size], means[:, size:] * full, parameters)


def _columns(
    members: Sequence[Policy], table: OutcomeTable, rows: IntArray, full: float
) -> npt.NDArray[np.float32]:
    """Per sample the members' scores, then their costs over the full configuration's; (n, 2 K)."""
    found = np.empty((len(rows), 2 * len(members)), np.float32)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        scores, at = np.asarray(table.score[part]), np.arange(len(part))
        block = found[start : start + CHUNK]
        for i, decision in enumerate(decisions(members, table, part)):
            block[:, i] = scores[at, decision.configuration]
            block[:, len(members) + i] = decision.cost_flops / full
    return found


def decisions(members: Sequence[Policy], table: OutcomeTable, rows: IntArray) -> Iterator[Decision]:
    """What each member decides for the samples at `rows`; those that see the same look once."""
    shared: object = None
    seen: object = None
    for member in members:
        if not isinstance(member, OneLook):
            yield member.select(table, rows)
            continue
        if seen is None or member.shared is not shared:
            shared, seen = member.shared, member.look(table, rows)
        chosen = member.best(seen)
        yield Decision(chosen, table.cost_flops[chosen] + member.overhead_flops(table))


def parameter(policy: Policy) -> float:
    """What tells the members of a family apart: a price or a threshold; NaN if there is neither."""
    value = getattr(policy, "lambda_", getattr(policy, "tau", None))
    return float("nan") if value is None else float(value)


def members_of(family: Sequence[Policy], at_most: int, kept: Policy | None = None) -> list[Policy]:
    """At most so many members, evenly from the family's order, ends included; `kept` always among them."""
    some = np.unique(np.linspace(0, len(family) - 1, min(at_most, len(family))).round().astype(int))
    chosen = [family[i] for i in some]
    if kept is None or any(member is kept for member in chosen):
        return chosen
    place = next((i for i, member in enumerate(family) if member is kept), len(family))
    before = int(np.searchsorted(some, place))
    return [*chosen[:before], kept, *chosen[before:]]
