"""The policies of a run, loaded and judged on the test split by `policies.evaluate`."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adapcli.errors import FileError
from adapcli.report import labels
from adapcli.run import Run
from policies import registry
from policies.base import Policy
from policies.evaluate import Evaluation, evaluate
from policies.table import OutcomeTable

BLIND = ("static", "random")
"""Kinds of policies that treat every sample alike: rivals, kept as policies."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A policy, or an oracle that none can be, under the name that people see, with its evaluation."""

    name: str
    kind: Literal["policy", "oracle"]
    evaluation: Evaluation
    policy: Policy | None = None

    @property
    def per_sample(self) -> bool:
        """Whether it looks at the sample before it chooses."""
        return self.kind == "policy" and getattr(self.policy, "kind", "") not in BLIND

    def choice(self, table: OutcomeTable, row: int) -> int:
        """The configuration that a policy answers the sample at `row` with."""
        assert self.policy is not None
        return int(self.policy.select(table, np.array([row])).configuration[0])


def judge_all(run: Run, table: OutcomeTable, split: str, warnings: list[str]) -> list[Judged]:
    """The policies in the run folder, by the names of their folders.

    One that was made for another table is left out, and `warnings` says so. FileError for a damaged one.
    """
    found = []
    for name in run.policy_names():
        policy = registry.load(run.policies / name)
        try:
            found.append(Judged(labels.readable(name), "policy", evaluate(policy, table, split), policy))
        except FileError as error:
            warnings.append(f"Policy {name} is left out: {error.message}.")
    return found
