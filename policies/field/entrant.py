"""Who takes part, the simplest first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies import registry
from policies.rl import ALGORITHMS
from policies.table import OutcomeTable

_FROM_FEATURES = ("linear", "knn", "supervised", "ppo")


@dataclass(frozen=True)
class Entrant:
    """A way to train: an algorithm, its options, and what it learns in.

    rank: how simple it is, 0 the simplest; equal ones decide in the same way and learned differently.
    by_trial: it learns from samples of what it does, so several seeds tell more than one, and it must beat
    what needs no trial.
    """

    name: str
    algo: str
    rank: int
    env: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_trial(self) -> bool:
        """Whether it is reinforcement learning."""
        return self.algo in (*ALGORITHMS, "reinforce")

    @property
    def takes(self) -> list[str]:
        """The options that its trainer knows."""
        return registry.options(self.algo, self.env)

    def lacks(self, table: OutcomeTable) -> str | None:
        """What it needs that the table does not have, if anything."""
        if self.algo == "reinforce" and table.patches is None:
            return "the table has no patches: sweep with --patches"
        if self.algo in _FROM_FEATURES and self.env != "anytime" and not len(table.feature_names):
            return "the table has no features"
        return None


_KNOWN = (
    Entrant("static", "static", 0),
    Entrant("random", "random", 1),
    Entrant("threshold", "threshold", 2),
    Entrant("one-threshold", "one-threshold", 3),
    Entrant("path", "path", 4),
    Entrant("linear", "linear", 5),
    Entrant("knn", "knn", 6),
    Entrant("supervised", "supervised", 7),
    Entrant("gate-hard", "gate", 8, None, {"score": "hard"}),
    Entrant("gate", "gate", 8),
    Entrant("reinforce", "reinforce", 10),
    Entrant("ppo", "ppo", 10),
    Entrant("anytime-ppo", "ppo", 10, "anytime"),
)
_OTHERS = 9
_LEFT_OUT = ("a2c", "dqn")
"""Learn what ppo learns, in the same environments, and less of it."""


def entrants() -> list[Entrant]:
    """The field, simplest first; algorithms that are not listed here come before those by trial."""
    names = registry.names()
    known = [entrant for entrant in _KNOWN if entrant.algo in names]
    listed = {entrant.algo for entrant in known}
    others = [Entrant(name, name, _OTHERS) for name in names if name not in listed and name not in _LEFT_OUT]
    return [
        *(entrant for entrant in known if not entrant.by_trial),
        *others,
        *(entrant for entrant in known if entrant.by_trial),
    ]
