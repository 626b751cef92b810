"""What is promised of a policy, and what a sample loses by it."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from policies.base import Decision, FloatArray, IntArray
from policies.errors import UsageError
from policies.guarantee.bounds import Bounds, Kind
from policies.table import OutcomeTable

Loss = Literal["score", "answer"]
LOSSES: tuple[Loss, ...] = ("score", "answer")
BLOCK_ROWS = 8192
LARGEST = 0.1
"""A guarantee of a larger loss is no guarantee; whoever asks for 0.5 means half a point."""


@dataclass(frozen=True)
class Promise:
    """With `confidence`, the mean loss of a policy is below `limit` on samples like the calibration samples.

    loss: "score", what the full configuration scores above the policy (needs labels), or "answer", how often
    the policy gives another answer (needs none). limit: in [0, 1], 0.005 is half a point.
    """

    limit: float
    confidence: float = 0.95
    loss: Loss = "score"

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 1:
            raise UsageError(f"limit {self.limit}: expected a loss in [0, 1], such as 0.005")
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence {self.confidence}: expected a fraction in (0, 1), such as 0.95")

    @property
    def level(self) -> float:
        """The chance of a wrong promise."""
        return 1 - self.confidence

    def views(self, table: OutcomeTable) -> list[OutcomeTable]:
        """The tables to train on: with agreement as the score, no label is seen; with labels, both.

        Where little may be lost, candidates that seldom answer differently are certified with fewer samples.
        """
        unlabelled = table.samples.assign(target=-1)
        blind = replace(table, score=table.agreement, nll=None, samples=unlabelled)
        return [blind] if self.loss == "answer" else [table, blind]

    def losses(self, table: OutcomeTable, rows: IntArray, decision: Decision) -> FloatArray:
        """What each sample at `rows` (n,) loses by a decision made for it, in [-1, 1]."""
        at = np.arange(len(rows))
        if self.loss == "answer":
            same = np.asarray(table.agreement[rows], dtype=np.float64)[at, decision.configuration]
            return np.where(decision.configuration == table.full, 0.0, 1 - same)
        scores = np.asarray(table.score[rows], dtype=np.float64)
        return np.asarray(scores[:, table.full] - scores[at, decision.configuration])

    def bounds(self, table: OutcomeTable) -> Bounds:
        """Exact tests where every outcome of the table is a hit or a miss, else bets."""
        values = table.agreement if self.loss == "answer" else table.score
        whole: Kind = "binomial" if self.loss == "answer" else "trinomial"
        return Bounds(whole if _hits_and_misses(values) else "betting", self.confidence)


def _hits_and_misses(values: np.ndarray) -> bool:
    blocks = (np.asarray(values[i : i + BLOCK_ROWS]) for i in range(0, len(values), BLOCK_ROWS))
    return all(bool(((block == 0) | (block == 1)).all()) for block in blocks)
