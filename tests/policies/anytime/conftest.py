"""Tables on which looking pays."""

from dataclasses import replace

import numpy as np
import pytest


def walkable(make_table, n=400, *, factor=1000, seed=0, **given):
    """Signals that tell right from wrong, but not for sure; another width begins anew but for the input."""
    table = make_table(n, seed=seed, **given)
    cost, width = factor * table.cost_flops, table.configs["width"].to_numpy()
    axes = table.configs[["tokens", "depth"]].to_numpy()
    further = (axes[None] >= axes[:, None]).all(axis=2)
    same = np.equal.outer(width, width)
    on = np.where(same & further, cost[None] - cost[:, None] + 5 * factor, cost[None] - 10 * factor)
    np.fill_diagonal(on, 0.0)
    rng = np.random.default_rng(7)
    noisy = table.score + 0.4 * rng.normal(size=table.score.shape)
    return replace(
        table,
        configs=table.configs.assign(cost_flops=cost, readout_flops=5 * factor),
        increment_flops=on,
        signals=np.stack([noisy, rng.random(noisy.shape)], -1).astype(np.float32),
    )


@pytest.fixture(scope="session")
def make_walkable(make_table):
    return lambda n=400, **given: walkable(make_table, n, **given)
