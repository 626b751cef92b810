import numpy as np
import pandas as pd
import pytest

from policies.anytime.lattice import Lattice
from policies.errors import UsageError
from policies.table import OutcomeTable


def like_a_model(configs, restart=()):
    """A table whose increments are those of a model: nothing again, but along `restart` all but the input."""
    n, source, readout = len(configs), 10.0, 2.0
    numbers = configs.select_dtypes("number").to_numpy(float)
    trunk = numbers.prod(axis=1)
    cost = source + trunk + readout
    steps = np.full((n, n), np.inf)
    for a in range(n):
        for b in range(n):
            same = all(configs[axis].iloc[a] == configs[axis].iloc[b] for axis in restart)
            grows = (numbers[b] >= numbers[a]).all()
            steps[a, b] = trunk[b] - trunk[a] + readout if same and grows else cost[b] - source
    np.fill_diagonal(steps, 0.0)
    return OutcomeTable.from_arrays(
        configs=configs.assign(cost_flops=cost, readout_flops=readout, memory_bytes=0),
        score=np.ones((4, n)),
        samples=pd.DataFrame({"split": ["fit", "tune", "calibration", "test"]}),
        increment_flops=steps,
    )


def grid(**axes):
    names, values = list(axes), list(axes.values())
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in _product(values)])


def _product(values):
    return np.array(np.meshgrid(*values, indexing="ij")).reshape(len(values), -1).T


@pytest.fixture
def table():
    return like_a_model(grid(tokens=(1, 2, 4, 8), width=(8, 16), depth=(1, 2, 3)), restart=("width",))


def test_steps_are_those_that_need_nothing_again(table):
    """Tokens and depth are walked, the width stays."""
    lattice = Lattice.of(table)
    configs = table.configs
    tokens, depths = [1, 2, 4, 8], [1, 2, 3]
    for at, row in configs.iterrows():
        i, j = tokens.index(row.tokens), depths.index(row.depth)
        goals = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 2), (9, 9)]
        expected = [(tokens[min(i + a, 3)], row.width, depths[min(j + b, 2)]) for a, b in goals]
        found = configs.iloc[lattice.moves[at]][["tokens", "width", "depth"]]
        assert [tuple(r) for r in found.to_numpy()] == expected
    here = np.arange(len(configs))[:, None]
    np.testing.assert_array_equal(
        lattice.step_flops, np.where(lattice.moves == here, 0, table.increment_flops[here, lattice.moves])
    )


def test_what_is_reached_is_ahead_and_in_order(table):
    lattice = Lattice.of(table)
    place = np.argsort(lattice.order)
    assert (place[lattice.moves] >= place[:, None]).all()
    for entry in range(table.n_configs):
        found = lattice.reachable(entry)
        ahead = table.configs[["tokens", "depth"]] >= table.configs.loc[entry, ["tokens", "depth"]]
        same = table.configs["width"] == table.configs.loc[entry, "width"]
        assert found[0] == entry
        assert sorted(found) == np.flatnonzero(ahead.all(axis=1) & same).tolist()
        assert sorted(found, key=lambda at: place[at]) == list(found)
    assert lattice.ends.sum() == 2


def test_axes_may_be_chosen(table):
    lattice = Lattice.of(table, ("depth",))
    assert lattice.actions == ("stop", "+1 on 0", "+2 on all", "to the end")
    moved = table.configs.iloc[lattice.moves[0]]
    assert moved["depth"].tolist() == [1, 2, 3, 3]
    assert moved["tokens"].tolist() == [1] * 4
    with pytest.raises(UsageError, match="no axis layers"):
        Lattice.of(table, ("layers",))


def test_a_cascade_of_models_is_walked_from_cheap_to_dear():
    """Nothing can be reused, so everything that is possible is a step; names are ordered by their cost."""
    configs = pd.DataFrame({"model": ["zeta", "alpha", "mid"]})
    cost = np.array([1.0, 9.0, 3.0])
    table = OutcomeTable.from_arrays(
        configs=configs.assign(cost_flops=cost, readout_flops=0.0, memory_bytes=0),
        score=np.ones((4, 3)),
        samples=pd.DataFrame({"split": ["fit", "tune", "calibration", "test"]}),
        increment_flops=np.where(np.eye(3) > 0, 0, cost[None]),
    )
    lattice = Lattice.of(table)
    assert lattice.reachable(0) == (0, 2, 1)
    assert lattice.moves[0].tolist() == [0, 2, 1, 1]
    assert lattice.step_flops[0].tolist() == [0, 3, 9, 9]


def test_what_is_not_there_is_not_gone_to():
    """A grid with a hole, and configurations from which nothing can be continued."""
    whole = grid(tokens=(1, 2), depth=(1, 2))
    lattice = Lattice.of(like_a_model(whole.drop(index=1).reset_index(drop=True)))
    assert lattice.moves[0].tolist() == [0, 1, 0, 2, 2, 2]
    table = like_a_model(whole)
    stuck = np.full((4, 4), np.inf)
    np.fill_diagonal(stuck, 0.0)
    alone = OutcomeTable.from_arrays(
        configs=table.configs, score=table.score, samples=table.samples, increment_flops=stuck
    )
    lattice = Lattice.of(alone)
    assert lattice.ends.all()
    assert lattice.reachable(2) == (2,)
