"""What a policy looks at, and where: the same for every kind, read off the protocols of `policies.live`."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.base import FloatArray, IntArray, StoredPolicy, feature_columns
from policies.errors import FileError
from policies.live import Looks, Stopper
from policies.table import OutcomeTable

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sight:
    """What n samples show a policy at one place.

    configuration: whose readout is looked at; None before the model runs. rows (n,): of the table; values
    (n, K): the signals, features or patch channels called `names`.
    """

    configuration: int | None
    names: tuple[str, ...]
    rows: IntArray
    values: Singles


def sights(policy: StoredPolicy, table: OutcomeTable, rows: IntArray) -> Iterator[Sight]:
    """What the policy sees of the samples at `rows`, in the order in which it looks; nothing if it is blind.

    FileError naming every signal or feature that the table lacks.
    """
    require(policy, table)
    rows = np.asarray(rows, dtype=np.int64)
    if policy.feature_names:
        columns = feature_columns(table, policy.feature_names)
        values = np.asarray(table.features[rows], np.float32)[:, columns]
        yield Sight(None, policy.feature_names, rows, values)
    if getattr(policy, "patch_count", 0) and table.patches is not None:
        # One mean per channel: as many columns as a readout has latents would say little more.
        means = np.asarray(table.patches[rows]).mean(axis=1, dtype=np.float32)
        names = tuple(f"patch channel {i}" for i in range(means.shape[1]))
        yield Sight(None, names, rows, means)
    if isinstance(policy, Stopper):
        yield from _along(policy, table, rows, signals_of(policy, table))


def signals_of(policy: object, table: OutcomeTable) -> tuple[str, ...]:
    """The signals that a policy needs by name; all of the table if it does not say."""
    if not isinstance(policy, Stopper):
        return ()
    one = getattr(policy, "signal", None)
    several = getattr(policy, "signal_names", (one,) if isinstance(one, str) else table.signal_names)
    return tuple(several)


def require(policy: StoredPolicy, table: OutcomeTable) -> None:
    """FileError naming every signal and feature that the policy needs and the table lacks."""
    for what, needed, known in (
        ("feature", policy.feature_names, table.feature_names),
        ("signal", signals_of(policy, table), table.signal_names),
    ):
        lacking = [name for name in needed if name not in known]
        if lacking:
            names = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
            plural = "s" if len(lacking) > 1 else ""
            raise FileError(
                f"policy {policy.name} needs the {what}{plural} {names}, which the table lacks",
                f"it has: {', '.join(known) or 'none'}",
            )


def _along(policy: Stopper, table: OutcomeTable, rows: IntArray, names: tuple[str, ...]) -> Iterator[Sight]:
    """At each configuration where there is something to decide, those that get there."""
    wanted = [table.signal_names.index(name) for name in names]
    walked = Walked.begin(policy, table, rows)
    for at in policy.reachable():
        here = np.flatnonzero(walked.at == at)
        if len(here) and walked.look(policy, table, here):
            yield Sight(at, names, rows[here], walked.signals[here][:, wanted])


@dataclass(eq=False)
class Walked:
    """n samples on their way through a table as a stopper leads them; changed in place.

    at, before (n,): present and last configuration; cost (n,): spent; signals, signals_before (n, S);
    count (n,): readouts made.
    """

    rows: IntArray
    at: IntArray
    before: IntArray
    cost: FloatArray
    signals: Singles
    signals_before: Singles
    count: IntArray

    @classmethod
    def begin(cls, policy: Stopper, table: OutcomeTable, rows: IntArray) -> "Walked":
        """Everyone at the first configuration, which is paid, and so is the first look."""
        entry, n = policy.reachable()[0], len(rows)
        unseen = np.full((n, len(table.signal_names)), np.nan, np.float32)
        cost = np.full(n, float(table.cost_flops[entry]) + policy.own_flops)
        at, before, count = np.full(n, entry), np.full(n, -1), np.zeros(n, np.int64)
        return cls(rows, at, before, cost, unseen, unseen.copy(), count)

    def look(self, policy: Stopper, table: OutcomeTable, here: IntArray) -> bool:
        """Read out and decide for the samples `here`, all at one configuration; whether it could matter."""
        at = int(self.at[here[0]])
        self.signals_before[here] = self.signals[here]
        self.signals[here] = np.asarray(table.signals[self.rows[here], at], np.float32)
        self.count[here] += 1
        before = self.before[here], self.signals_before[here]
        seen = (self.signals[here], self.cost[here], *before, self.count[here])
        verdict = policy.verdict(Looks(table.signal_names, self.at[here], *seen))
        on = here[verdict.go_to != at]
        goals = verdict.go_to[verdict.go_to != at]
        self.cost[on] += table.increment_flops[at, goals] + getattr(policy, "look_flops", 0)
        self.before[on], self.at[on] = at, goals
        return bool(np.isfinite(verdict.slack).any())
