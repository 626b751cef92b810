"""What a policy learns from: hits and misses, or scores that say how likely an answer is to be right.

A label is one draw; the full configuration's belief in an answer tells nearly as much as many draws. The
soft score of configuration c is the full configuration's calibrated probability of c's answer, plus what
makes its mean over the fit split that of c's true scores (measured: with soft scores 2 000 fit samples do
what hard ones do with 20 000). Evaluation is always on the true scores.

A table keeps no logits, so the probability of an answer is put together from what it keeps: the full
configuration's confidence where the answers agree, exp(-nll) where the answer is the label, and else the
second largest probability, which that of any other answer cannot exceed. (Against probabilities from logits:
correlation 0.996 on the packaged digits, and policies learned from either save the same.) Calibration is a
logistic map on the log-odds: a temperature and a shift.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from policies.base import split_rows
from policies.errors import UsageError
from policies.table import OutcomeTable

ScoreKind = Literal["hard", "soft"]
Target = Literal["score", "same-answer"]

Singles = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1: float32 tells no more."""
PAIRS = 1 << 20
"""Answers that a calibration looks at, at most."""
BLOCK_ROWS = 4096


class Scores(Protocol):
    """Scores to learn from, of some samples and every configuration."""

    def __call__(self, table: OutcomeTable, rows: IntArray) -> Singles:
        """(n, C)."""


class HardScores:
    """The table's own."""

    def __call__(self, table: OutcomeTable, rows: IntArray) -> Singles:
        """See Scores."""
        return np.asarray(table.score[rows], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class SoftScores:
    """sigmoid(slope x log-odds + intercept) of the full configuration's probability, plus `offset` (C,)."""

    slope: float
    intercept: float
    offset: FloatArray

    @classmethod
    def fit(cls, table: OutcomeTable) -> "SoftScores":
        """Calibrated and unbiased on the fit split. UsageError if the table lacks what it needs."""
        lacking = missing(table)
        if lacking:
            raise UsageError(f"soft scores need {lacking}, which the table lacks", "use the hard score")
        rows = split_rows(table, "fit")
        every = max(1, len(rows) * table.n_configs // PAIRS)
        some = rows[::every]
        right = np.asarray(table.score[some], dtype=np.float64)
        slope, intercept = logistic(_log_odds(belief(table, some)).reshape(-1, 1), right.reshape(-1, 1))
        biased = cls(float(slope[0]), float(intercept[0]), np.zeros(table.n_configs))
        parts = [rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS)]
        excess = sum(
            (np.asarray(table.score[part]) - biased(table, part)).sum(0, np.float64) for part in parts
        )
        return replace(biased, offset=excess / len(rows))

    def __call__(self, table: OutcomeTable, rows: IntArray) -> Singles:
        """See Scores."""
        odds = self.slope * _log_odds(belief(table, rows)) + self.intercept
        return np.asarray(1 / (1 + np.exp(-odds)) + self.offset, dtype=np.float32)


def scores_of(table: OutcomeTable, kind: ScoreKind | None = None) -> Scores:
    """Scores of a kind, fitted on the fit split; None: soft where the table has what they need.

    UsageError for another kind, or for soft where they cannot be.
    """
    if kind not in (None, "hard", "soft"):
        raise UsageError(f"score {kind!r}: not known", "allowed: soft, hard")
    if kind == "hard" or (kind is None and missing(table)):
        return HardScores()
    return SoftScores.fit(table)


def aimed(table: OutcomeTable, target: Target) -> OutcomeTable:
    """The table with what is aimed at as its score.

    "same-answer": the agreement with the full configuration, for which no label is needed; whatever else
    tells of labels is taken out. UsageError for another target.
    """
    if target == "score":
        return table
    if target != "same-answer":
        raise UsageError(f"target {target!r}: not known", "allowed: score, same-answer")
    unknown = table.samples.assign(target=-1)
    return replace(table, score=table.agreement, prediction=None, nll=None, samples=unknown)


def missing(table: OutcomeTable) -> str:
    """What the table lacks for soft scores, in words; nothing if it lacks nothing."""
    if table.prediction is None or table.nll is None:
        return "prediction and nll"
    if "confidence" not in table.signal_names:
        return "the signal confidence"
    sample = np.asarray(table.score[:BLOCK_ROWS])
    return "" if np.isin(sample, (0, 1)).all() else "scores that are 0 or 1"


def belief(table: OutcomeTable, rows: IntArray) -> FloatArray:
    """The full configuration's probability of every configuration's answer, (n, C), see above."""
    assert table.prediction is not None
    assert table.nll is not None
    full = table.full
    answer = np.asarray(table.prediction[rows], dtype=np.int64)
    own = answer[:, full]
    sure = _full_signal(table, rows, "confidence")
    label = np.exp(-np.asarray(table.nll[rows, full], dtype=np.float64))
    right = np.asarray(table.score[rows]) == 1
    left = np.maximum(1 - sure - np.where(right[:, full], 0.0, label), 0.0)
    if "margin" in table.signal_names:
        left = np.minimum(left, sure - _full_signal(table, rows, "margin"))
    other = np.where(right, label[:, None], left[:, None])
    return np.where(answer == own[:, None], sure[:, None], other)


def _full_signal(table: OutcomeTable, rows: IntArray, name: str) -> FloatArray:
    return np.asarray(table.signals[rows, table.full, table.signal_names.index(name)], dtype=np.float64)


def _log_odds(probability: FloatArray) -> FloatArray:
    inside = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def logistic(x: FloatArray, y: FloatArray, *, steps: int = 25) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept (K,) of P(y = 1) = sigmoid(slope x + intercept), one fit per column of x, y (n, K).

    Newton's method with a little shrinkage towards slope 1, intercept 0, so that separable or constant
    columns stay finite.
    """
    slope, intercept = np.ones(x.shape[1]), np.zeros(x.shape[1])
    weight = 0.1
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(slope * x + intercept, -40, 40)))
        rest, spread = y - p, p * (1 - p)
        g0, g1 = rest.sum(0) - weight * intercept, (rest * x).sum(0) - weight * (slope - 1)
        h00, h01, h11 = spread.sum(0) + weight, (spread * x).sum(0), (spread * x * x).sum(0) + weight
        det = h00 * h11 - h01 * h01
        move0, move1 = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
        size = np.maximum(1.0, np.maximum(np.abs(move0), np.abs(move1)))  # no step beyond 1
        intercept, slope = intercept + move0 / size, slope + move1 / size
        if max(np.abs(move0).max(initial=0), np.abs(move1).max(initial=0)) < 1e-6:
            break
    return slope, intercept
