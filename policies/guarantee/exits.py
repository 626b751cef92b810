"""What the samples lose that end at the same configuration: fine on the whole is not fine everywhere."""

import numpy as np

from policies.base import Policy, split_rows
from policies.guarantee.bounds import interval
from policies.guarantee.certificate import Group
from policies.guarantee.promise import Loss, Promise
from policies.table import OutcomeTable


def exits(
    policy: Policy,
    table: OutcomeTable,
    split: str = "test",
    *,
    loss: Loss = "score",
    confidence: float = 0.95,
) -> tuple[Group, ...]:
    """The mean loss against the full configuration of each group of samples, the largest group first.

    With `confidence`, all intervals hold together: each is at 1 - (1 - confidence) / groups (Bonferroni), by
    the exact tests that certificates use, so that few samples give a wide one. loss: of score, or of the full
    configuration's answer, which needs no labels. FileError if the split is empty.
    """
    rows = split_rows(table, split)
    decision, promise = policy.select(table, rows), Promise(0.0, confidence, loss)
    losses, kind = promise.losses(table, rows, decision), promise.bounds(table).kind
    chosen, counts = np.unique(decision.configuration, return_counts=True)
    each = 1 - (1 - confidence) / len(chosen)
    found = []
    for at in chosen[np.argsort(-counts, kind="stable")].tolist():
        some = losses[decision.configuration == at]
        found.append(Group(at, len(some), len(some) / len(rows), interval(some, kind, each)))
    return tuple(found)
