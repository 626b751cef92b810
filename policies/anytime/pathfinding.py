"""Finding paths: which states to run, one after the other. Optuna proposes, exact costs decide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.anytime.induction import groups
from policies.anytime.lattice import IntArray, Lattice
from policies.base import FloatArray, Progress
from policies.encoding import Prices
from policies.errors import UsageError
from policies.table import OutcomeTable
from policies.threshold import Chain

if TYPE_CHECKING:
    import optuna

STATES = 4
TRIALS = 300
ANCHORS = 5
"""Prices that paths are sought for; what is tried for one is known to all."""
LIMITS = {"states": (1, 32), "trials": (1, 10**6), "seed": (0, 2**32 - 1)}

Utilities = Callable[[Chain], FloatArray]


@dataclass(frozen=True, eq=False)
class Pathfinder:
    """Sequences of configurations, each a continuation of the one before.

    level (C, axes): place of each configuration on the axes that are walked; owner (C,): the group between
    whose configurations steps lead, of which there are `groups`.
    """

    level: IntArray
    owner: IntArray
    groups: int
    increment_flops: FloatArray
    states: int = STATES
    trials: int = TRIALS
    seed: int = 0

    def __post_init__(self) -> None:
        for option, (low, high) in LIMITS.items():
            value = getattr(self, option)
            if not low <= value <= high:
                raise UsageError(f"{option} {value}: expected {low} to {high}")

    @classmethod
    def of(cls, lattice: Lattice, table: OutcomeTable, **given: int) -> "Pathfinder":
        """Over a lattice. states: of a path, at most; trials: paths to try; seed."""
        parts, owner = groups(lattice), np.zeros(len(lattice.moves), dtype=np.int64)
        for label, part in enumerate(parts):
            owner[part] = label
        walked = [
            along for along in lattice.level.T if any(len(np.unique(along[part])) > 1 for part in parts)
        ]
        levels = [np.unique(along, return_inverse=True)[1] for along in walked]
        level = np.array(levels, dtype=np.int64).reshape(len(levels), len(owner)).T
        return cls(level, owner, len(parts), table.increment_flops, **given)

    def search(
        self, utilities: Utilities, prices: FloatArray, usual: Prices, progress: Progress | None = None
    ) -> list[Chain]:
        """The best path tried for each of the prices (P,).

        Paths are sought for some of the usual prices, by Optuna's TPE; each is judged at all prices.
        """
        inside = np.abs(np.log(prices[:, None] / usual.grid(ANCHORS))).argmin(axis=0)
        tried: dict[Chain, FloatArray] = {(at,): utilities((at,)) for at in range(len(self.owner))}
        anchors = np.unique(inside)
        for number, anchor in enumerate(anchors):
            done = self.trials * number // len(anchors)
            todo = self.trials * (number + 1) // len(anchors) - done
            study = self._study(self.seed + number)
            if number:
                study.enqueue_trial(self._told(_best(tried, anchor)))
            for step in range(todo):
                trial = study.ask()
                chain = self._proposed(trial)
                if chain not in tried:
                    tried[chain] = utilities(chain)
                study.tell(trial, float(tried[chain][anchor]))
                if progress is not None:
                    progress(done + step + 1, self.trials)
        return [_best(tried, at) for at in range(len(prices))]

    def _study(self, seed: int) -> "optuna.Study":
        import optuna

        # Creating a study talks on stderr; the level is the library's alone and is put back.
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
            return optuna.create_study(direction="maximize", sampler=sampler)
        finally:
            optuna.logging.set_verbosity(before)

    def _proposed(self, trial: "optuna.Trial") -> Chain:
        """States in turn, none before the last one on any axis; what cannot be gone to is left out."""
        group = trial.suggest_int("group", 0, self.groups - 1)
        highest, found, here = self.level.max(axis=0, initial=0), list[int](), None
        for state in range(self.states):
            wanted = [
                trial.suggest_int(f"state {state} axis {axis}", 0, int(most))
                for axis, most in enumerate(highest)
            ]
            here = np.array(wanted) if here is None else np.maximum(here, wanted)
            at = self._nearest(group, here)
            if not found or (at != found[-1] and np.isfinite(self.increment_flops[found[-1], at])):
                found.append(at)
        return tuple(found)

    def _nearest(self, group: int, level: IntArray) -> int:
        """The group's configuration at a level, or as near below it as there is one."""
        members = np.flatnonzero(self.owner == group)
        below = members[(self.level[members] <= level).all(axis=1)]
        if not len(below):
            return int(members[self.level[members].sum(axis=1).argmin()])
        return int(below[self.level[below].sum(axis=1).argmax()])

    def _told(self, chain: Chain) -> dict[str, int]:
        """A path as Optuna's parameters."""
        states = [*chain, *[chain[-1]] * (self.states - len(chain))]
        levels = {
            f"state {i} axis {axis}": int(level)
            for i, at in enumerate(states)
            for axis, level in enumerate(self.level[at])
        }
        return {"group": int(self.owner[chain[0]]), **levels}


def _best(tried: dict[Chain, FloatArray], at_price: int) -> Chain:
    """Ties go to the path tried first."""
    return max(tried, key=lambda chain: float(tried[chain][at_price]))
