"""A kept policy on another outcome table: what it gives there, what it promised, and whether to trust it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.base import StoredPolicy, split_rows
from policies.errors import FileError
from policies.evaluate import Evaluation, evaluate
from policies.files import read_json
from policies.grid import Grid
from policies.guarantee import Certificate
from policies.guarantee import kept as kept_certificate
from policies.objective import Objective
from policies.statistics import Interval
from policies.table import OutcomeTable
from policies.texts import count
from policies.transfer.drift import Drift, drift
from policies.transfer.reference import kept as kept_reference
from policies.transfer.sights import require

RISE = 0.005
"""More answers that differ from the full configuration's than were promised: half a point is borne."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """A policy on n samples of another table.

    evaluation: there; promised: on its own test split, None if that was not kept. labelled: whether the
    table knows right from wrong; without, score is the agreement. same_data: whether the table was made from
    the samples that the policy was made with. drift: against its fit samples, None if nothing is kept of
    them; certificate_drift: against its calibration samples, for policies with a certificate. more_different:
    rise of the share of answers that differ from the full configuration's, 95 %.
    """

    evaluation: Evaluation
    promised: Evaluation | None
    objective: Objective | None
    labelled: bool
    same_data: bool
    drift: Drift | None
    certificate: Certificate | None
    certificate_drift: Drift | None
    more_different: Interval | None

    @property
    def drifted(self) -> bool | None:
        """Whether what it sees drifted; None if that is not known."""
        return None if self.drift is None else self.drift.found

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the policy should be calibrated anew on samples like these; none if nothing asks for it."""
        return tuple(reason for reason in (_of_drift(self), _of_answers(self), _of_loss(self)) if reason)

    @property
    def certificate_applies(self) -> bool | None:
        """False if these samples are not like the calibration ones or break the promise; None: not known.

        True says that nothing speaks against it.
        """
        if self.certificate is None or not self.certificate.certified:
            return None
        if _broken(self) or (self.certificate_drift is not None and self.certificate_drift.found):
            return False
        return None if self.certificate_drift is None else True

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        more = self.more_different
        return {
            "evaluation": self.evaluation.to_dict(),
            "promised": None if self.promised is None else self.promised.to_dict(),
            "labelled": self.labelled,
            "same_data": self.same_data,
            "drifted": self.drifted,
            "drift": None if self.drift is None else self.drift.to_dict(),
            "more_different": None if more is None else vars(more),
            "certificate_applies": self.certificate_applies,
            "recalibrate": bool(self.reasons),
            "reasons": list(self.reasons),
        }


def apply(
    policy: StoredPolicy, folder: str | Path, table: OutcomeTable, split: str = "test", **options: Any
) -> Transfer:
    """`policy`, kept in `folder`, on a split of a table of the same grid and checkpoint, whatever its data.

    options: of `policies.evaluate.evaluate`. FileError for another grid, listing what differs, for missing
    signals or features, by name, for an empty split, or for damaged files beside the policy.
    """
    policy.grid.require(table, policy.name)
    require(policy, table)
    rows = split_rows(table, split)
    found, (promised, objective) = evaluate(policy, table, split, **options), _made(Path(folder))
    reference, certificate = kept_reference(folder), kept_certificate(folder)
    calibrated = certificate is not None and reference is not None and "calibration" in reference.n
    return Transfer(
        evaluation=found,
        promised=promised,
        objective=objective,
        labelled=table.labelled,
        same_data=policy.grid.fingerprints.get("data") == Grid.of(table).fingerprints.get("data"),
        drift=None if reference is None else drift(policy, reference, table, rows),
        certificate=certificate,
        certificate_drift=drift(policy, reference, table, rows, "calibration")
        if calibrated and reference is not None
        else None,
        more_different=None if promised is None else difference(promised.agreement, found.agreement),
    )


def difference(first: Interval, second: Interval) -> Interval:
    """first - second of two means from separate samples, with the interval of Newcombe (1998, method 10)."""
    mean = first.mean - second.mean
    below = np.hypot(first.mean - first.low, second.high - second.mean)
    above = np.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(mean, float(mean - below), float(mean + above))


def _made(folder: Path) -> tuple[Evaluation | None, Objective | None]:
    """What training recorded beside the policy."""
    path = folder / "evaluation.json"
    if not path.exists():
        return None, None
    content = read_json(path)
    try:
        goal = content.get("objective")
        return Evaluation.from_dict(content["evaluation"]), Objective(**goal) if goal else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: not a usable evaluation: {error}") from error


def _of_drift(found: Transfer) -> str:
    if found.drift is None or not found.drift.found:
        return ""
    moved = [shift for shift in found.drift.shifts if shift.drifted]
    return (
        f"what it looks at has drifted: {len(moved)} of {count(len(found.drift.shifts), 'distribution')}, "
        f"{moved[0].name} by {100 * moved[0].distance:.0f} points"
    )


def _of_answers(found: Transfer) -> str:
    more = found.more_different
    if more is None or more.low <= 0 or more.mean <= RISE:
        return ""
    return (
        f"it differs from the full configuration in {100 * more.mean:.2f} points more of the answers than "
        f"promised ({100 * more.low:.2f} .. {100 * more.high:.2f})"
    )


def _of_loss(found: Transfer) -> str:
    """The loss against what was asked for or guaranteed; surely above it."""
    limit = found.objective.max_drop if found.objective else None
    if found.certificate is not None and _broken(found):
        return (
            f"its guarantee does not hold here: it loses more than {100 * found.certificate.limit:g} points"
        )
    drop = -found.evaluation.score_difference.high
    if limit is None or not found.labelled or drop <= limit:
        return ""
    return f"it loses more than the {100 * limit:g} points that were asked for: {100 * drop:.2f} or more"


def _broken(found: Transfer) -> bool:
    """Whether these samples contradict the certificate."""
    certificate = found.certificate
    if certificate is None or not certificate.certified:
        return False
    if certificate.loss == "answer":
        return 1 - found.evaluation.agreement.high > certificate.limit
    return found.labelled and -found.evaluation.score_difference.high > certificate.limit
