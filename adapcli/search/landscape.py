"""An outcome table as a search sees it: a cost and a mean score per configuration."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import FileError
from adapcli.search.objectives import Objective
from policies import pareto
from policies.table import OutcomeTable

CHOSEN_ON, REPORTED_ON = "calibration", "test"
BLOCK_VALUES = 1 << 22
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Landscape:
    """cost (C,) in the objective's unit, fraction (C,) of the full one's, mean calibration score (C,).

    cost and fraction are infinite where the objective was not measured.
    """

    table: OutcomeTable
    objective: Objective
    cost: Floats
    fraction: Floats
    score: Floats

    @classmethod
    def of(cls, table: OutcomeTable, objective: Objective) -> "Landscape":
        """Average the scores over the calibration split.

        FileError if it, or the test split, is empty, or if the full configuration was not measured.
        """
        for split in (CHOSEN_ON, REPORTED_ON):
            if len(table.rows(split)) == 0:
                raise FileError(
                    f"the table has no {split} samples", "adap sweep --split 12:4:8:20 gives every split some"
                )
        cost = objective.values(table)
        if not np.isfinite(cost[table.full]):
            raise FileError(
                f"the full configuration's {objective.name} was not measured", "run adap bench again"
            )
        return cls(table, objective, cost, cost / cost[table.full], mean_scores(table, CHOSEN_ON))

    @property
    def eligible(self) -> Indices:
        """The configurations whose cost is known, ascending."""
        return np.flatnonzero(np.isfinite(self.cost))

    def front(self, among: Indices) -> Indices:
        """Those of the configurations `among` (n,) that none of them dominates, cheapest first."""
        return among[pareto.front(self.cost[among], self.score[among])]

    def hypervolume(self, among: Indices) -> float:
        """The best score within a budget, averaged over budgets from 0 to the full cost (0 where none fits).

        This is the area that the configurations dominate, with reference cost 1 (full) and score 0.
        """
        return pareto.hypervolume(self.fraction[among], self.score[among], 1.0, 0.0)


def mean_scores(table: OutcomeTable, split: str) -> Floats:
    """The mean score of every configuration on one split, (C,) float64, read a block at a time."""
    total = np.zeros(table.n_configs)
    for _, block in score_blocks(table, split):
        total += block.sum(axis=0, dtype=np.float64)
    return total / len(table.rows(split))


def score_columns(table: OutcomeTable, split: str, configurations: Indices) -> NDArray[np.float32]:
    """The scores of some configurations on one split, (n, configurations), in one pass over the table."""
    scores = np.empty((len(table.rows(split)), len(configurations)), np.float32)
    for start, block in score_blocks(table, split):
        scores[start : start + len(block)] = block[:, configurations]
    return scores


def score_blocks(table: OutcomeTable, split: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(start, scores) for pieces of a split's rows; `start` counts within the split."""
    rows = table.rows(split)
    step = max(1, BLOCK_VALUES // table.n_configs)
    for start in range(0, len(rows), step):
        yield start, table.score[rows[start : start + step]]
