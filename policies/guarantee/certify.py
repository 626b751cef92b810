"""From a family of policies to the cheapest one that keeps a promise."""

from collections.abc import Sequence
from dataclasses import replace

from policies.base import StoredPolicy, Trained, measure, split_rows
from policies.errors import InfeasibleError
from policies.guarantee.certificate import Certificate
from policies.guarantee.promise import Promise
from policies.guarantee.sequence import candidates, walk
from policies.guarantee.words import too_few
from policies.objective import Objective
from policies.table import OutcomeTable


def certify(
    family: Sequence[StoredPolicy], table: OutcomeTable, promise: Promise, *, best_effort: bool = False
) -> tuple[StoredPolicy, Certificate]:
    """The cheapest policy of the family for which the calibration samples certify the promise.

    With `best_effort`, where none is certified, the one nearest to it, with a certificate that says so.
    Otherwise InfeasibleError tells the tightest limit that these samples certify and how many it would take.
    FileError if one of the splits fit, tune and calibration is empty.
    """
    sequence = candidates(family, table, promise)
    if not sequence:
        raise InfeasibleError(
            "no candidate is cheaper than the full configuration",
            "choose another algorithm, such as threshold",
        )
    tested = walk(sequence, table, promise)
    passed = sum(one.p_value <= promise.level for one in tested)
    if not passed and not best_effort:
        full_cost = float(table.cost_flops[table.full])
        raise too_few(tested[0], sequence, promise.bounds(table), promise, full_cost)
    at = max(passed, 1)
    chosen = tested[at - 1]
    certificate = Certificate.of(chosen, table, promise, position=at, candidates=len(sequence))
    return chosen.candidate.policy, certificate


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
