"""What a policy was fitted on, in short: how often each signal lay below some of its quantiles.

Kept as `reference.json` beside the policy, tied to it by the digest of its description. The counts are exact,
so that a test against them is one between two samples; no sample can be read from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies import base
from policies.base import FloatArray, IntArray, StoredPolicy
from policies.errors import FileError
from policies.files import read_json, write_json
from policies.table import OutcomeTable
from policies.transfer.sights import Sight, sights

NAME = "reference.json"
SCHEMA_VERSION = 1
SPLITS = ("fit", "tune", "calibration")
LEVELS = 32
FEWEST = 50
"""Fewer samples at a place say nothing of a distribution; it is left out."""


@dataclass(frozen=True, eq=False)
class Column:
    """How one signal was distributed. edges (K,): ascending; below: per split, how many were at most each."""

    name: str
    edges: FloatArray
    below: Mapping[str, IntArray]

    def count(self, values: npt.NDArray[Any]) -> IntArray:
        """How many of `values` (n,) are at most each edge, (K,)."""
        return np.searchsorted(np.sort(np.asarray(values, np.float64)), self.edges, side="right")


@dataclass(frozen=True, eq=False)
class Place:
    """A place where the policy looks; None is before the model runs. n: per split, how many got there."""

    configuration: int | None
    n: Mapping[str, int]
    columns: tuple[Column, ...]


@dataclass(frozen=True, eq=False)
class Reference:
    """Every place where a policy looks, on the splits it was made with. n: samples per split."""

    n: Mapping[str, int]
    places: tuple[Place, ...]

    @classmethod
    def of(cls, policy: StoredPolicy, table: OutcomeTable) -> "Reference":
        """From the table that the policy was trained on. FileError if it lacks what the policy needs."""
        rows = {split: table.rows(split) for split in SPLITS if len(table.rows(split))}
        seen = {split: {s.configuration: s for s in sights(policy, table, at)} for split, at in rows.items()}
        first = seen.get("fit", {})
        places = tuple(
            _place({split: found[at] for split, found in seen.items() if at in found})
            for at, sight in first.items()
            if len(sight.rows) >= FEWEST
        )
        return cls({split: len(at) for split, at in rows.items()}, places)

    def save(self, folder: str | Path) -> None:
        """Write reference.json beside the policy that is kept in `folder`."""
        content = {"schema_version": SCHEMA_VERSION, "policy_sha256": base.read(folder).digest}
        write_json(Path(folder) / NAME, content | self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"n": dict(self.n), "places": [_told(place) for place in self.places]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Reference":
        """From `to_dict`. KeyError, TypeError or ValueError for what is none."""
        return cls(_counts(content["n"]), tuple(_read(place) for place in content["places"]))


def kept(folder: str | Path) -> Reference | None:
    """The reference kept with the policy in `folder`; None if it has none, as policies of older versions.

    FileError if it cannot be read, or belongs to another policy.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return None
    content, stored = read_json(path), base.read(folder)
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise FileError(f"{path}: not a reference of version {SCHEMA_VERSION}")
    if content.get("policy_sha256") != stored.digest:
        raise FileError(f"{path}: does not belong to the policy beside it", "train the policy again")
    try:
        found = Reference.from_dict(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileError(f"{path}: not a usable reference: {error}") from error
    size = len(stored.content["grid"]["configurations"])
    if any(p.configuration is not None and not 0 <= p.configuration < size for p in found.places):
        raise FileError(f"{path}: looks at configurations beyond the {size} there are")
    return found


def _place(seen: Mapping[str, Sight]) -> Place:
    fit = seen["fit"]
    columns = tuple(_column(name, {split: s.values[:, i] for split, s in seen.items()})
                    for i, name in enumerate(fit.names))  # fmt: skip
    return Place(fit.configuration, {split: len(s.rows) for split, s in seen.items()}, columns)


def _column(name: str, values: Mapping[str, npt.NDArray[Any]]) -> Column:
    """Edges at quantiles of the fit samples; rounded, which moves an edge but not the counts' exactness."""
    quantiles = np.quantile(values["fit"].astype(np.float64), np.arange(1, LEVELS) / LEVELS)
    edges = np.unique([float(f"{edge:.6g}") for edge in quantiles])
    blank = Column(name, edges, {})
    return Column(name, edges, {split: blank.count(part) for split, part in values.items()})


def _told(place: Place) -> dict[str, Any]:
    columns = [
        {
            "name": column.name,
            "edges": column.edges.tolist(),
            "below": {split: counts.tolist() for split, counts in column.below.items()},
        }
        for column in place.columns
    ]
    return {"configuration": place.configuration, "n": dict(place.n), "columns": columns}


def _read(content: Mapping[str, Any]) -> Place:
    at, n = content["configuration"], _counts(content["n"])
    if at is not None and type(at) is not int:
        raise ValueError(f"configuration {at!r}")
    return Place(at, n, tuple(_read_column(column, n) for column in content["columns"]))


def _read_column(content: Mapping[str, Any], n: Mapping[str, int]) -> Column:
    edges = np.array(content["edges"], dtype=np.float64)
    below = {str(split): np.array(counts, dtype=np.int64) for split, counts in content["below"].items()}
    if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError("edges: ascending finite numbers expected")
    for split, counts in below.items():
        rising = counts.shape == edges.shape and (np.diff(counts, prepend=0, append=n[split]) >= 0).all()
        if not rising:
            raise ValueError(f"counts of {content['name']!r} do not rise to {n[split]}")
    if set(below) != set(n) or "fit" not in below:
        raise ValueError(f"counts of the splits {', '.join(below)} for {', '.join(n)}")
    return Column(str(content["name"]), edges, below)


def _counts(content: Mapping[str, Any]) -> dict[str, int]:
    if not isinstance(content, Mapping):
        raise ValueError("numbers of samples: one per split expected")
    if any(type(count) is not int or count < 0 for count in content.values()):
        raise ValueError("numbers of samples are whole")
    return {str(split): count for split, count in content.items()}
