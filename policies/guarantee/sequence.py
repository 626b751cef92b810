"""Fixed-sequence testing: from near the full configuration to ever cheaper candidates, until one fails.

The candidates and their order come from the fit and tune samples alone. The calibration samples are used
once: each candidate is tested at the full level, in that order, up to the first that is not certified. The
chance that any of the certified ones breaks the promise is then the level of one test, however many there
are: the first that would break it must be rejected wrongly before anything behind it is looked at (Maurer et
al. 1995).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from policies.base import FloatArray, IntArray, StoredPolicy, split_rows
from policies.guarantee.promise import Promise
from policies.table import OutcomeTable

AT_MOST = 30
"""Candidates in a sequence."""


@dataclass(frozen=True)
class Candidate:
    """A policy with its means on the samples that it was ordered by.

    loss: mean loss; square: mean squared loss, of hits and misses the share that lose or gain.
    """

    policy: StoredPolicy
    cost_flops: float
    loss: float
    square: float

    def expected_bound(self, n: int, confidence: float) -> float:
        """The upper bound of the mean loss to expect from n other samples, roughly."""
        spread = np.sqrt(max(0.0, self.square - self.loss**2) / n)
        return float(self.loss + NormalDist().inv_cdf(confidence) * spread + 3 / n)


@dataclass(frozen=True)
class Tested:
    """A candidate on the calibration samples: losses (n,), cost_flops (n,), configuration (n,)."""

    candidate: Candidate
    losses: FloatArray
    cost_flops: FloatArray
    configuration: IntArray
    p_value: float


def front_of(family: Sequence[StoredPolicy], table: OutcomeTable, promise: Promise) -> list[Candidate]:
    """Those cheaper than full for which no other is both cheaper and likelier to be certified, dearest first.

    They do not depend on the limit. FileError without calibration samples.
    """
    n = len(split_rows(table, "calibration"))
    rows = np.concatenate([split_rows(table, "fit"), split_rows(table, "tune")])
    n_tune = len(split_rows(table, "tune"))
    measured = [_measured(policy, table, rows, n_tune, n, promise) for policy in family]
    cheaper = [c for c in measured if c.cost_flops < table.cost_flops[table.full]]
    bounds = {id(c): c.expected_bound(n, promise.confidence) for c in cheaper}
    front: list[Candidate] = []
    for candidate in sorted(cheaper, key=lambda c: (bounds[id(c)], c.cost_flops)):
        if not front or candidate.cost_flops < front[-1].cost_flops:
            front.append(candidate)
    return front


def candidates(
    family: Sequence[StoredPolicy], table: OutcomeTable, promise: Promise, at_most: int = AT_MOST
) -> list[Candidate]:
    """The candidates to test, dearest first; see `sequence_of`."""
    n = len(split_rows(table, "calibration"))
    return sequence_of(front_of(family, table, promise), n, promise, at_most)


def sequence_of(
    front: Sequence[Candidate], n: int, promise: Promise, at_most: int = AT_MOST
) -> list[Candidate]:
    """Of a front, those to test on n samples: the first, whatever the limit, then those it is a question for.

    These might miss the limit, but should not.
    """
    bounds = {id(c): c.expected_bound(n, promise.confidence) for c in front}
    rest = [c for c in front[1:] if promise.limit / 2 < bounds[id(c)] <= promise.limit]
    kept = np.unique(np.linspace(0, len(rest) - 1, min(at_most - 1, len(rest))).astype(int))
    return [*front[:1], *(rest[i] for i in kept)]


def walk(sequence: Sequence[Candidate], table: OutcomeTable, promise: Promise) -> list[Tested]:
    """Test in order on the calibration samples; the last of the result failed, unless all passed."""
    rows, bounds, found = split_rows(table, "calibration"), promise.bounds(table), []
    for candidate in sequence:
        decision = candidate.policy.select(table, rows)
        losses = promise.losses(table, rows, decision)
        p_value = bounds.p_value(losses, promise.limit)
        found.append(Tested(candidate, losses, decision.cost_flops, decision.configuration, p_value))
        if p_value > promise.level:
            break
    return found


def _measured(
    policy: StoredPolicy, table: OutcomeTable, rows: IntArray, n_tune: int, n: int, promise: Promise
) -> Candidate:
    """Means over the samples at `rows`, or the tune samples alone, which come last, where these expect more.

    A policy may know the fit samples by heart.
    """
    decision = policy.select(table, rows)
    losses = promise.losses(table, rows, decision)
    cost = float(decision.cost_flops.mean())
    both = [
        Candidate(policy, cost, float(x.mean()), float((x**2).mean())) for x in (losses, losses[-n_tune:])
    ]
    return max(both, key=lambda c: c.expected_bound(n, promise.confidence))
