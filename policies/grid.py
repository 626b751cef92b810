"""Which configurations a policy was made for, and whether a table has the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from policies.errors import FileError, UsageError
from policies.shown import short_repr
from policies.table import OutcomeTable
from policies.table.recalibration import FINGERPRINT, Recalibration, load
from policies.table.schema import id_columns

RECALIBRATE = (
    "adap sweep --calibration RUN_OR_POLICY scores other data with the calibration of a policy's run"
)


@dataclass(frozen=True)
class Grid:
    """The configurations a policy was made for, and what the outcomes were made from.

    columns: names of the identifying columns; configurations: one tuple of their values each; cost_flops:
    their costs; feature_flops: what the features cost; fingerprints: as in the table's meta; recalibration:
    with which their outcomes were made from logits, and must be where the policy is used; its digest is among
    the fingerprints.
    """

    __repr__ = short_repr

    columns: tuple[str, ...]
    configurations: tuple[tuple[str | int | float, ...], ...]
    cost_flops: tuple[float, ...]
    feature_flops: float = 0.0
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    recalibration: Recalibration | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, table: OutcomeTable) -> "Grid":
        """The grid of a table."""
        columns = tuple(id_columns(table.configs))
        rows = zip(*(table.configs[name].tolist() for name in columns), strict=True)
        fingerprints = table.meta.get("fingerprints", {})
        return cls(
            columns=columns,
            configurations=tuple(rows),
            cost_flops=tuple(map(float, table.cost_flops)),
            feature_flops=float(table.feature_flops),
            fingerprints={name: _text(value) for name, value in fingerprints.items()},
            recalibration=table.recalibration,
        )

    def __len__(self) -> int:
        return len(self.configurations)

    def check(self, configuration: int) -> None:
        """Raise UsageError unless `configuration` is a position in the grid."""
        if not 0 <= configuration < len(self):
            raise UsageError(f"configuration {configuration}: the grid has {len(self)}")

    def differences(self, other: "Grid") -> list[str]:
        """What keeps a policy for this grid from being used on the other; empty if nothing.

        Other data is no obstacle: a policy may be tried on data it was not made from.
        """
        found = []
        if self.columns != other.columns:
            found.append(f"columns {', '.join(self.columns)} / {', '.join(other.columns)}")
        elif self.configurations != other.configurations:
            found.append(self._first_difference(other))
        elif not np.allclose(self.cost_flops, other.cost_flops, rtol=1e-9, atol=0):
            found.append("cost_flops of the same configurations")
        for name, absent in (("checkpoint", "unknown"), (FINGERPRINT, "none")):
            mine, theirs = self.fingerprints.get(name), other.fingerprints.get(name)
            if mine != theirs:
                found.append(f"{name} {_short(mine, absent)} / {_short(theirs, absent)}")
        return found

    def _first_difference(self, other: "Grid") -> str:
        if len(self) != len(other):
            return f"{len(self)} / {len(other)} configurations"
        pairs = zip(self.configurations, other.configurations, strict=True)
        at, (mine, theirs) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        return f"configuration {at}: {self._named(mine)} / {self._named(theirs)}"

    def _named(self, values: Sequence[object]) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(self.columns, values, strict=True))

    def require(self, table: OutcomeTable, policy: str) -> None:
        """Raise FileError, listing what differs, unless `table` has this grid."""
        differences = self.differences(Grid.of(table))
        if differences:
            message = f"policy {policy} was made for another grid: {'; '.join(differences)} (policy / table)"
            alone = len(differences) == 1 and differences[0].startswith(FINGERPRINT)
            raise FileError(message, RECALIBRATE if alone else "train it again on this table")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "columns": list(self.columns),
            "configurations": [list(row) for row in self.configurations],
            "cost_flops": list(self.cost_flops),
            "feature_flops": self.feature_flops,
            "fingerprints": dict(self.fingerprints),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Grid":
        """From JSON, without a recalibration. KeyError, TypeError or ValueError for what is not a grid."""
        grid = cls(
            columns=tuple(map(str, content["columns"])),
            configurations=tuple(tuple(row) for row in content["configurations"]),
            cost_flops=tuple(map(float, content["cost_flops"])),
            feature_flops=float(content["feature_flops"]),
            fingerprints={str(k): str(v) for k, v in dict(content["fingerprints"]).items()},
        )
        if not grid.columns or {len(row) for row in grid.configurations} != {len(grid.columns)}:
            raise ValueError("configurations do not fit their columns")
        if len(grid.cost_flops) != len(grid) or not np.isfinite(grid.cost_flops).all():
            raise ValueError("cost_flops: one finite number per configuration expected")
        return grid


def kept_recalibration(folder: Path, content: object) -> Recalibration | None:
    """What the fingerprints of a grid, as JSON, tell of, from beside it; None for what is no grid.

    FileError if it is not there, or damaged.
    """
    grid = content if isinstance(content, dict) else {}
    fingerprints, rows = grid.get("fingerprints"), grid.get("configurations")
    if not isinstance(fingerprints, dict) or not isinstance(rows, list):
        return None
    return load(folder, fingerprints, len(rows))


def _text(fingerprint: object) -> str:
    return fingerprint if isinstance(fingerprint, str) else json.dumps(fingerprint, sort_keys=True)


def _short(fingerprint: str | None, absent: str) -> str:
    return fingerprint[:12] if fingerprint else absent
