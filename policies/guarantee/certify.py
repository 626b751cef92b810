"""From a family of policies to the cheapest one that keeps a promise."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policies.base import StoredPolicy, Trained, measure, split_rows
from policies.errors import InfeasibleError
from policies.guarantee.certificate import Certificate
from policies.guarantee.promise import LARGEST, Promise
from policies.guarantee.sequence import Candidate, front_of, sequence_of, walk
from policies.guarantee.words import Alternative, too_few
from policies.objective import Objective
from policies.table import OutcomeTable

ASKED = 8
"""Candidates of a refused family whose own limits are tried; each costs a walk."""


def certify(
    family: Sequence[StoredPolicy], table: OutcomeTable, promise: Promise, *, best_effort: bool = False
) -> tuple[StoredPolicy, Certificate]:
    """The cheapest policy of the family for which the calibration samples certify the promise.

    With `best_effort`, where none is certified, the one nearest to it, with a certificate that says so.
    Otherwise InfeasibleError states which limits these samples certify, what asking for each would save,
    and how many samples it would take. FileError if one of the splits fit, tune and calibration is empty.
    """
    front = front_of(family, table, promise)
    sequence = sequence_of(front, len(split_rows(table, "calibration")), promise)
    if not sequence:
        raise InfeasibleError(
            "no candidate is cheaper than the full configuration",
            "choose another algorithm, such as threshold",
        )
    tested = walk(sequence, table, promise)
    passed = sum(one.p_value <= promise.level for one in tested)
    if not passed and not best_effort:
        raise too_few(table, sequence, promise, alternatives(front, table, promise))
    at = max(passed, 1)
    chosen = tested[at - 1]
    certificate = Certificate.of(chosen, table, promise, position=at, candidates=len(sequence))
    return chosen.candidate.policy, certificate


def alternatives(front: Sequence[Candidate], table: OutcomeTable, promise: Promise) -> list[Alternative]:
    """Limits that these samples certify in place of the promise's, and what asking for each would choose.

    One per candidate of the front, of `ASKED` of them: the tightest that certifies it by itself. What is
    chosen for a limit is worked out as `certify` does it, so it may be another, cheaper candidate. Larger
    limits that save no more are left out, and limits above `LARGEST`.
    """
    found: list[Alternative] = []
    full_cost, n = float(table.cost_flops[table.full]), len(split_rows(table, "calibration"))
    picked = np.unique(np.linspace(0, len(front) - 1, min(len(front), ASKED)).round().astype(int))
    limits = sorted(tightest_limit(front[i], table, promise) for i in picked)
    for limit in (limit for limit in limits if promise.limit < limit <= LARGEST):
        asked = replace(promise, limit=limit)
        tested = walk(sequence_of(front, n, asked), table, asked)
        passed = [one for one in tested if one.p_value <= asked.level]
        saving = 1 - float(passed[-1].cost_flops.mean()) / full_cost if passed else 0.0
        if passed and all(saving > other.saving for other in found):
            found.append(Alternative(limit, saving))
    return found


def tightest_limit(candidate: Candidate, table: OutcomeTable, promise: Promise) -> float:
    """The least limit that is certified of a candidate by itself, up to the next hundredth of a point."""
    rows = split_rows(table, "calibration")
    losses = promise.losses(table, rows, candidate.policy.select(table, rows))
    return min(1.0, math.ceil((promise.bounds(table).upper(losses) + 1e-9) * 10_000) / 10_000)


def certified(
    trained: Sequence[Trained], table: OutcomeTable, promise: Promise, *, best_effort: bool = False
) -> Trained:
    """One training, with the policy of all families that is certified as the chosen one; see `certify`."""
    family = tuple(policy for one in trained for policy in one.family)
    policy, certificate = certify(family, table, promise, best_effort=best_effort)
    means = measure([policy], table, split_rows(table, "tune"))
    goal = {"max_drop": promise.limit} if promise.loss == "score" else {"same_answer": promise.limit}
    return replace(
        trained[0],
        policy=policy,
        candidates=len(family),
        family=family,
        objective=Objective(**goal),
        met=certificate.certified,
        score=float(means.score[0]),
        cost_flops=float(means.cost_flops[0]),
        certificate=certificate.to_dict(),
    )
