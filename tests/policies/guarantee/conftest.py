"""Tables of statics whose true losses are known: configuration k differs from the full one at given rates."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from policies.table import OutcomeTable

FULL = 0.8
SIZES = {"fit": 2000, "tune": 1000, "calibration": 1000, "test": 1000}


def draw_scores(rng, n, worse, better):
    """Hits and misses (n, K + 1), the full configuration last; what one loses, a cheaper one loses too."""
    full, u = rng.random(n) < FULL, rng.random(n)[:, None]
    own = np.where(full[:, None], u >= worse / FULL, u < better / (1 - FULL))
    return np.c_[own, full].astype(np.float32)


@pytest.fixture(scope="session")
def make_losing_table():
    def make(losses, disagreement=None, *, costs=None, sizes=SIZES, seed=0):
        """losses (K,): true mean losses, cheapest first; disagreement (K,): 3 times that unless given."""
        losses = np.asarray(losses, dtype=float)
        differ = 3 * losses if disagreement is None else np.asarray(disagreement, dtype=float)
        worse, better = (differ + losses) / 2, (differ - losses) / 2
        rng, n = np.random.default_rng(seed), sum(sizes.values())
        depth = np.arange(1, len(losses) + 2)
        costs = 100.0 * depth if costs is None else np.r_[costs, 1000.0]
        configs = pd.DataFrame({"depth": depth, "cost_flops": costs, "readout_flops": 1, "memory_bytes": 1})
        samples = pd.DataFrame({"split": np.repeat(list(sizes), list(sizes.values()))})
        scores = draw_scores(rng, n, worse, better)
        return OutcomeTable.from_arrays(configs=configs, score=scores, samples=samples)

    return make


@pytest.fixture(scope="session")
def redraw():
    def again(table, losses, disagreement, rng):
        """The same table with other calibration samples of the same population."""
        rows = table.rows("calibration")
        worse, better = (disagreement + losses) / 2, (disagreement - losses) / 2
        score = np.array(table.score)
        score[rows] = draw_scores(rng, len(rows), worse, better)
        return replace(table, score=score)

    return again
