"""A certificate: what was promised of a policy, from which samples, and what they said."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from policies import base
from policies.base import split_rows
from policies.errors import FileError
from policies.guarantee.bounds import KINDS, PRECISION, Kind, interval
from policies.guarantee.promise import LOSSES, Loss, Promise
from policies.guarantee.sequence import Tested
from policies.statistics import Interval
from policies.table import OutcomeTable

MEASURES = ("limit", "confidence", "p_value", "observed", "upper_bound", "disagreement", "saving")
TESTS: dict[Kind, str] = {
    "trinomial": "exact trinomial test",
    "binomial": "exact binomial test",
    "betting": "betting test of Waudby-Smith and Ramdas",
}


@dataclass(frozen=True)
class Group:
    """The samples that end at one configuration (its position); their mean loss, 95 %, each by itself."""

    configuration: int
    n: int
    share: float
    loss: Interval


@dataclass(frozen=True)
class Certificate:
    """A promise and its test on n calibration samples.

    certified: with `confidence`, the mean loss is below `limit` (a share: 0.005 is half a point) on samples
    drawn like those. loss: of score, or of the same answer. observed: the mean loss on them; upper_bound: of
    this policy looked at alone. saving: 1 - cost / full cost on them; disagreement: share of them that lose
    or gain. position: in the sequence of `candidates` that was tested in order. split_sha256: of the samples'
    names and data.
    """

    certified: bool
    loss: Loss
    limit: float
    confidence: float
    test: Kind
    n: int
    p_value: float
    observed: float
    upper_bound: float
    disagreement: float
    saving: float
    position: int
    candidates: int
    split_sha256: str
    groups: tuple[Group, ...]

    @classmethod
    def of(
        cls, tested: Tested, table: OutcomeTable, promise: Promise, *, position: int, candidates: int
    ) -> "Certificate":
        """The certificate of a tested candidate; position counts from 1."""
        bounds = promise.bounds(table)
        return cls(
            certified=tested.p_value <= promise.level,
            loss=promise.loss,
            limit=promise.limit,
            confidence=promise.confidence,
            test=bounds.kind,
            n=len(tested.losses),
            p_value=tested.p_value,
            observed=float(tested.losses.mean()),
            upper_bound=bounds.upper(tested.losses),
            disagreement=float((tested.losses != 0).mean()),
            saving=1 - float(tested.cost_flops.mean() / table.cost_flops[table.full]),
            position=position,
            candidates=candidates,
            split_sha256=fingerprint(table, "calibration"),
            groups=groups(tested, bounds.kind),
        )

    @property
    def unit(self) -> str:
        """Of a hundred times the loss, for people."""
        return "points" if self.loss == "score" else "%"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "groups": [asdict(group) for group in self.groups]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Certificate":
        """From `to_dict`; what it does not know is left out. KeyError, TypeError or ValueError else."""
        values = {field.name: content[field.name] for field in fields(cls)}
        values["groups"] = tuple(Group(**{**g, "loss": Interval(**g["loss"])}) for g in content["groups"])
        found = cls(**values)
        counts = (found.n, found.position, found.candidates, *(g.n for g in found.groups))
        numbers = [getattr(found, name) for name in MEASURES]
        numbers += [x for g in found.groups for x in (g.share, g.loss.mean, g.loss.low, g.loss.high)]
        if any(type(count) is not int or count < 1 for count in counts):
            raise ValueError("counts are whole numbers from 1")
        if any(type(x) not in (int, float) or not math.isfinite(x) for x in numbers):
            raise ValueError("measures are finite numbers")
        if found.test not in KINDS or found.loss not in LOSSES or type(found.certified) is not bool:
            raise ValueError(f"a certificate of {found.loss!r} by {found.test!r}: {found.certified!r}")
        found._check()
        return found

    def _check(self) -> None:
        """ValueError unless its parts agree: what was typed in by hand seldom does."""
        if self.certified != (self.p_value <= 1 - self.confidence):
            raise ValueError(f"p = {self.p_value:g} and certified {self.certified} do not go together")
        if self.certified and self.upper_bound > self.limit + 2 * PRECISION:
            raise ValueError(f"the upper bound {self.upper_bound:g} is above the limit {self.limit:g}")
        if sum(group.n for group in self.groups) != self.n:
            raise ValueError("its groups have not as many samples together as it says")


def groups(tested: Tested, kind: Kind) -> tuple[Group, ...]:
    """The loss of each group that ends at the same configuration, the largest first."""
    chosen, counts = np.unique(tested.configuration, return_counts=True)
    order, n = np.argsort(-counts, kind="stable"), len(tested.losses)
    parts = ((int(chosen[i]), tested.losses[tested.configuration == chosen[i]]) for i in order)
    return tuple(Group(at, len(losses), len(losses) / n, interval(losses, kind)) for at, losses in parts)


def fingerprint(table: OutcomeTable, split: str) -> str:
    """SHA-256 of the names of a split's samples, in order, and of the fingerprints of data and checkpoint."""
    names = table.samples["sample_id"].to_numpy()[split_rows(table, split)]
    digest = hashlib.sha256(str(sorted(table.meta.get("fingerprints", {}).items())).encode())
    for name in names:
        digest.update(b"\0" + str(name).encode())
    return digest.hexdigest()


def kept(folder: str | Path) -> Certificate | None:
    """The certificate kept with the policy in `folder`, if it has one.

    Raises FileError if it cannot be read, or was made for another policy than the one beside it.
    """
    stored = base.read(folder)
    content = stored.certificate()
    if content is None:
        return None
    try:
        found = Certificate.from_dict(content)
        size = len(stored.content["grid"]["configurations"])
        if any(type(g.configuration) is not int or not 0 <= g.configuration < size for g in found.groups):
            raise ValueError(f"its groups end at configurations beyond the {size} there are")
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{stored.path}: not a usable certificate: {error}") from error
