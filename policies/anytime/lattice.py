"""Where a sample may go on to from each configuration: a graph over the grid, with the price of each step.

Steps are relative, so that one rule serves every place: stay, one level further along an axis, along all of
them, two along all of them, to the end. Which axes can be walked is read from the increments: those along
which a step computes nothing again. The others (a width that forces a restart) are fixed by where a sample
enters. Where no axis is like that (a cascade of unrelated models), every axis that can be walked at all is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from policies.errors import FileError, UsageError
from policies.table import OutcomeTable
from policies.table.schema import id_columns

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

FAR = 10**6
"""More levels than any axis has: to its end."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A actions at each of C configurations.

    actions: their names, the first is `stop`. moves (C, A): the position in the grid that an action leads
    to; its own where it changes nothing, which is a stop too. step_flops (C, A): what is executed for it,
    the readout there included. level (C, axes): place along each axis of the grid that has several values,
    from 0 to 1. order (C,): every move leads to a place later in it.
    """

    actions: tuple[str, ...]
    moves: IntArray
    step_flops: FloatArray
    level: FloatArray
    order: IntArray

    @classmethod
    def of(cls, table: OutcomeTable, along: Sequence[str] | None = None) -> "Lattice":
        """The lattice of a table. along: the axes to walk, by default those that need nothing again.

        UsageError for an axis that the table lacks.
        """
        places = _places(table.configs, table.cost_flops)
        walked = _walked(table, places) if along is None else list(along)
        for axis in walked:
            if axis not in places:
                raise UsageError(
                    f"the outcome table has no axis {axis}", f"it has: {', '.join(map(str, places))}"
                )
        at = places[walked].to_numpy(np.int64)
        held = _groups(places.drop(columns=walked))
        deltas = _deltas(len(walked))
        here = np.arange(table.n_configs)
        moves = np.column_stack([here, *(_targets(at, held, delta, table) for delta in deltas.values())])
        steps = np.where(moves == here[:, None], 0.0, table.increment_flops[here[:, None], moves])
        spread = places.to_numpy(np.float64) / np.maximum(places.to_numpy().max(axis=0, initial=0), 1)
        order = np.lexsort((here, at.sum(axis=1)))
        return cls(("stop", *deltas), moves, steps, spread, order)

    def reachable(self, entry: int) -> tuple[int, ...]:
        """Every position that can be visited from `entry`, itself first, in an order in which it may be."""
        return reachable(self.moves, entry, self.order)

    @property
    def ends(self) -> npt.NDArray[np.bool_]:
        """Where no action leads on, (C,)."""
        return np.asarray((self.moves == self.moves[:, :1]).all(axis=1))


def reachable(moves: IntArray, entry: int, order: IntArray) -> tuple[int, ...]:
    """As `Lattice.reachable`, of moves (C, A) that all lead later in `order` (C,)."""
    seen = np.zeros(len(moves), bool)
    seen[entry] = True
    for at in order:
        if seen[at]:
            seen[moves[at]] = True
    return tuple(int(at) for at in order if seen[at])


def _places(configs: pd.DataFrame, cost_flops: FloatArray) -> pd.DataFrame:
    """Each configuration's level, 0 upwards, on the axes of several values: by value, or names by cost."""
    found = {}
    for axis in id_columns(configs):
        column = configs[axis]
        if column.nunique() <= 1:
            continue
        if column.dtype.kind in "iuf":
            found[axis] = np.unique(column.to_numpy(), return_inverse=True)[1]
        else:
            mean = pd.Series(cost_flops).groupby(column.to_numpy()).transform("mean")
            found[axis] = _ranked(column.astype(str).to_numpy(), mean.to_numpy(np.float64))
    return pd.DataFrame(found, index=range(len(configs)))


def _ranked(names: npt.NDArray[Any], cost: FloatArray) -> IntArray:
    pairs = sorted(set(zip(cost.tolist(), names.tolist(), strict=True)))
    rank = {name: place for place, (_, name) in enumerate(pairs)}
    return np.array([rank[name] for name in names.tolist()], dtype=np.int64)


def _walked(table: OutcomeTable, places: pd.DataFrame) -> list[str]:
    """The axes along which nothing is computed again, else all that can be walked."""
    found: dict[str, tuple[bool, bool]] = {axis: _kind(table, places, axis) for axis in places.columns}
    exact = [axis for axis, (possible, again) in found.items() if possible and not again]
    return exact or [axis for axis, (possible, _) in found.items() if possible]


def _kind(table: OutcomeTable, places: pd.DataFrame, axis: str) -> tuple[bool, bool]:
    """Whether any step of one level along the axis is possible, and whether one computes again."""
    at, after = _neighbours(places, axis)
    steps = table.increment_flops[at, after]
    possible = np.isfinite(steps)
    readout = table.configs["readout_flops"].to_numpy(np.float64)
    new = table.cost_flops[after] - table.cost_flops[at] + readout[at]
    again = steps[possible] > new[possible] + 1e-6 * table.cost_flops[after][possible]
    return bool(possible.any()), bool(again.any())


def _neighbours(places: pd.DataFrame, axis: str) -> tuple[IntArray, IntArray]:
    """Pairs of configurations that differ by one level on one axis."""
    others = _groups(places.drop(columns=axis))
    level = places[axis].to_numpy()
    where = {(int(group), int(place)): i for i, (group, place) in enumerate(zip(others, level, strict=True))}
    pairs = [
        (i, where[group, place + 1]) for (group, place), i in where.items() if (group, place + 1) in where
    ]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _groups(places: pd.DataFrame) -> IntArray:
    """A number per distinct row."""
    if not places.columns.size:
        return np.zeros(len(places), dtype=np.int64)
    rows = np.unique(places.to_numpy(np.int64), axis=0, return_inverse=True)[1]
    return np.asarray(rows, dtype=np.int64).reshape(-1)


def _deltas(n_axes: int) -> dict[str, IntArray]:
    """Levels that each action adds on each axis; one axis has no use for `both`."""
    single = {f"+1 on {axis}": np.eye(n_axes, dtype=np.int64)[axis] for axis in range(n_axes)}
    together = {"+1 on all": np.ones(n_axes, dtype=np.int64)} if n_axes > 1 else {}
    if not n_axes:
        return {}
    two, far = np.full(n_axes, 2, dtype=np.int64), np.full(n_axes, FAR, dtype=np.int64)
    return {**single, **together, "+2 on all": two, "to the end": far}


def _targets(at: IntArray, held: IntArray, delta: IntArray, table: OutcomeTable) -> IntArray:
    """Where `delta` leads from every configuration (C,): clipped to the largest level of its group; its own
    place where that does not exist or cannot be gone to."""
    where = {(int(group), *map(int, place)): i for i, (group, place) in enumerate(zip(held, at, strict=True))}
    highest = {int(group): at[held == group].max(axis=0) for group in np.unique(held)}
    found = np.arange(len(at))
    for here, (group, place) in enumerate(zip(held.tolist(), at, strict=True)):
        goal = np.minimum(place + delta, highest[group])
        there = where.get((group, *map(int, goal)), here)
        if np.isfinite(table.increment_flops[here, there]):
            found[here] = there
    return found


def topological(moves: IntArray) -> IntArray:
    """An order of the C configurations in which every move (C, A) leads on; FileError if one leads back."""
    here = np.arange(len(moves))
    waiting = np.zeros(len(moves), dtype=np.int64)
    forward = moves != here[:, None]
    np.add.at(waiting, moves[forward], 1)
    ready, found = here[waiting == 0].tolist(), []
    while ready:
        at = ready.pop(0)
        found.append(at)
        ready += list(_released(moves[at][forward[at]], waiting))
    if len(found) != len(moves):
        raise FileError("steps lead in a circle")
    return np.array(found, dtype=np.int64)


def _released(targets: IntArray, waiting: IntArray) -> Iterator[int]:
    for target in targets.tolist():
        waiting[target] -= 1
        if not waiting[target]:
            yield target
