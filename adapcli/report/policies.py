"""The policies of a run, loaded and judged on the test split by `policies.evaluate`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from adapcli.errors import FileError, UsageError
from adapcli.report import labels
from adapcli.run import Run
from policies import registry
from policies.base import StoredPolicy
from policies.evaluate import Evaluation, evaluate, met
from policies.files import read_csv, read_json
from policies.grid import Grid
from policies.guarantee import Certificate, kept
from policies.objective import Objective
from policies.table import OutcomeTable

CURVE_COLUMNS = ("score", "score_low", "score_high", "cost_flops")
BLIND = ("static", "random")
"""Kinds of policies that treat every sample alike: rivals, kept as policies."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A policy, or an oracle that none can be, under the name that people see, with its evaluation.

    tuned: the same on the tune split, where policies are chosen (without tune samples, `evaluation` again).
    made: how it came about, as evaluation.json tells; empty if that is missing. certificate: of what is
    guaranteed of it, if anything. curve: its whole trade-off, as curve.csv holds it, if it is there.
    """

    name: str
    kind: Literal["policy", "oracle"]
    evaluation: Evaluation
    policy: StoredPolicy | None = None
    tuned: Evaluation | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    certificate: Certificate | None = None
    curve: pd.DataFrame | None = None

    @property
    def gap(self) -> float:
        """How much of the gap to the ceiling its curve closes, as recorded; 0 if that is not known."""
        recorded = self.made.get("curve")
        gap = recorded.get("gap") if isinstance(recorded, Mapping) else None
        mean = gap.get("mean") if isinstance(gap, Mapping) else None
        return float(mean) if isinstance(mean, int | float) else 0.0

    @property
    def per_sample(self) -> bool:
        """Whether it looks at the sample before it chooses."""
        return self.policy is not None and self.policy.kind not in BLIND

    @property
    def objective(self) -> Objective | None:
        """What it was chosen for, if that was recorded and can be read."""
        given = self.made.get("objective")
        if not isinstance(given, Mapping) or not any(value is not None for value in given.values()):
            return None
        try:
            return Objective(**given)
        except (TypeError, UsageError):
            return None

    @property
    def met(self) -> bool | None:
        """Whether it keeps its objective on the split it is judged on; None where that has no answer."""
        return None if self.objective is None else met(self.objective, self.evaluation)

    def choice(self, table: OutcomeTable, row: int) -> int:
        """The configuration that a policy answers the sample at `row` with."""
        assert self.policy is not None
        return int(self.policy.select(table, np.array([row])).configuration[0])


def judge_all(run: Run, table: OutcomeTable, split: str, warnings: list[str]) -> list[Judged]:
    """The policies in the run folder, by the names of their folders.

    One that was made for another table is left out, and `warnings` says so; of one that was made from other
    data they say that it may have learned from what it is judged on. FileError for a damaged one.
    """
    found, data = [], Grid.of(table).fingerprints.get("data")
    for name in run.policy_names():
        policy, shown = registry.load(run.policies / name), labels.readable(name)
        try:
            judged = evaluate(policy, table, split)
        except FileError as error:
            warnings.append(f"Policy {shown} is left out: {error.message}.")
            continue
        if policy.grid.fingerprints.get("data") != data:
            warnings.append(
                f"Policy {shown} was made from other data or another split: it may have seen the samples "
                "that it is judged on. Train it again."
            )
        tuned = evaluate(policy, table, "tune", resamples=0) if len(table.rows("tune")) else judged
        sure = kept(run.policies / name)
        made, line = _made(run.policies / name), _curve(run.policies / name)
        found.append(Judged(shown, "policy", judged, policy, tuned, made, sure, line))
    return found


def _curve(folder: Path) -> pd.DataFrame | None:
    """The trade-off that training recorded; FileError if it cannot be drawn."""
    path = folder / "curve.csv"
    if not path.exists():
        return None
    found = read_csv(path)
    numbers = found.reindex(columns=CURVE_COLUMNS).apply(pd.to_numeric, errors="coerce")
    if not len(found) or not np.isfinite(numbers.to_numpy()).all() or (numbers["cost_flops"] <= 0).any():
        raise FileError(f"{path}: not a policy's curve", "train the policy again")
    return found


def _made(folder: Path) -> dict[str, Any]:
    """What training recorded beside the policy."""
    path = folder / "evaluation.json"
    content = read_json(path) if path.exists() else {}
    return content if isinstance(content, dict) else {}
