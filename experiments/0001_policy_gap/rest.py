"""What would close the rest of the gap: a shorter path, better signals, better learning, or a better model?

Each line changes one thing of `gate` and is measured by the same yardstick:

- fewer and more fit samples: what learning still lacks;
- boosted trees in place of piecewise linear regressors, on the same signals, and with the signals of the
  entry, whether the answer is still the entry's, and the class answered: what the readouts say beyond that;
- stopping with perfect foresight of the full configuration's answer, every readout and look on the way paid:
  what perfect signals would bring, so that what then remains is the price of the path.

    python experiments/0001_policy_gap/rest.py --run adap-run
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from policies import registry
from policies.anytime.gate import Gate
from policies.anytime.induction import KNOTS, Regressors, distinct, look_flops
from policies.anytime.lattice import Lattice
from policies.anytime.soft import scores_of
from policies.base import Decision, split_rows
from policies.curves import Worth, Yardstick, curve_of, members_of
from policies.files import write_json
from policies.table import OutcomeTable

SIZES = (500, 2_000, 5_000, 20_000)
PRICES = 9
TREES = {
    "max_iter": 150,
    "learning_rate": 0.08,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 100,
    "random_state": 0,
}

Inputs = Callable[[OutcomeTable, np.ndarray, int, int], np.ndarray]
"""(table, rows, configuration, entry) -> what is known there, (n, D)."""


@dataclass
class Walked:
    """A decision made already, for the rows of one split."""

    decision: Decision
    lambda_: float
    name: str = "walked"

    def select(self, table: OutcomeTable, rows: np.ndarray) -> Decision:
        first = int(
            rows[0] - np.flatnonzero(table.samples["split"] == table.samples["split"].iloc[rows[0]])[0]
        )
        part = slice(first, first + len(rows))
        return Decision(self.decision.configuration[part], self.decision.cost_flops[part])


def own(table, rows, at, entry):
    return np.asarray(table.signals[rows, at], np.float32)


def history(table, rows, at, entry):
    answer, before = (np.asarray(table.prediction[rows, c], np.int64) for c in (at, entry))
    classes = np.eye(int(answer.max()) + 1, dtype=np.float32)[answer]
    same = (answer == before).astype(np.float32)[:, None]
    return np.concatenate(
        [own(table, rows, at, entry), own(table, rows, entry, entry), same, classes], axis=1
    )


def trees(table: OutcomeTable, gate: Gate, split: str, inputs: Inputs) -> Walked:
    """Backward induction at the price and from the entry of `gate`, with trees as regressors."""
    fit, judged = split_rows(table, "fit"), split_rows(table, split)
    rows, n, lattice = np.r_[fit, judged], len(fit), Lattice.of(table)
    score, entry = scores_of(table)(table, fit), gate.nodes[0]
    unit, look = gate.lambda_ / table.cost_flops[table.full], gate.own_flops
    worth, goal_of, cost = {}, {}, {}
    for at in reversed(lattice.reachable(entry)):
        best, value = np.zeros(len(rows)), score[:, at].astype(np.float64)
        goal_of[at], cost[at] = np.full(len(judged), at), np.zeros(len(judged))
        known = inputs(table, rows, at, entry)
        for action, goal in distinct(lattice.moves[at]):
            paid = lattice.step_flops[at, action] + look
            gained = worth[goal] - paid * unit
            model = HistGradientBoostingRegressor(**TREES).fit(known[:n], gained - score[:, at])
            hoped = model.predict(known)
            better = hoped > best
            best, value = np.where(better, hoped, best), np.where(better[:n], gained, value)
            goal_of[at] = np.where(better[n:], goal_of[goal], goal_of[at])
            cost[at] = np.where(better[n:], cost[goal] + paid, cost[at])
        worth[at] = value
    return Walked(Decision(goal_of[entry], cost[entry] + table.cost_flops[entry] + look), gate.lambda_)


def foresight(table: OutcomeTable, entry: int, split: str) -> Walked:
    """The cheapest walk from `entry` to an answer as the full configuration's, looks included."""
    rows, lattice = split_rows(table, split), Lattice.of(table)
    size = Regressors.fit(table.signals[rows[:1000], entry], KNOTS).size
    look = look_flops(size, lattice.moves.shape[1] - 1)
    same, cost, goal_of = np.asarray(table.agreement[rows]) == 1, {}, {}
    for at in reversed(lattice.reachable(entry)):
        cost[at] = np.where(same[:, at] | lattice.ends[at], 0.0, np.inf)
        goal_of[at] = np.full(len(rows), at)
        for action, goal in distinct(lattice.moves[at]):
            further = cost[goal] + lattice.step_flops[at, action] + look
            goal_of[at] = np.where(further < cost[at], goal_of[goal], goal_of[at])
            cost[at] = np.minimum(cost[at], further)
    return Walked(Decision(goal_of[entry], cost[entry] + table.cost_flops[entry] + look), 0.0)


def spread(family: tuple[Gate, ...]) -> list[Gate]:
    return members_of([gate for gate in family if len(gate.nodes) > 1], PRICES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder with an outcome table")
    parser.add_argument("--split", choices=("test", "tune"), default="test")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--output", "-o", type=Path, default=Path(__file__).parent / "rest.json")
    options = parser.parse_args()
    table, split = OutcomeTable.load(options.run / "table"), options.split
    yardstick = Yardstick.of(table, split, resamples=options.resamples)
    found: dict[str, dict] = {}

    def judge(name: str, members) -> Worth:
        worth = yardstick.worth(curve_of(members, table, split, yardstick.resampling, name=name))
        gap = worth.to_dict()["gap"]
        print(f"{name:45s} gap {gap['mean']:.3f} ({gap['low']:.3f} .. {gap['high']:.3f})", flush=True)
        found[name] = {"members": len(members), **worth.to_dict()}
        return worth

    fit, others = table.rows("fit"), np.flatnonzero(table.samples["split"].to_numpy() != "fit")
    family = registry.train("gate", table).family
    judge(f"gate, {len(fit)} fit samples", list(family))
    for size in (size for size in SIZES if size < len(fit)):
        some = np.sort(np.r_[np.random.default_rng(0).permutation(fit)[:size], others])
        judge(f"gate, {size} fit samples", list(registry.train("gate", table.take(some)).family))
    few = spread(family)
    judge(f"gate, {len(few)} prices", few)
    judge("the same by trees", [trees(table, gate, split, own) for gate in few])
    judge("by trees, with entry and class", [trees(table, gate, split, history) for gate in few])
    entries = sorted({gate.nodes[0] for gate in few})
    judge("perfect foresight along the path", [foresight(table, entry, split) for entry in entries])
    content = {"schema_version": 1, "split": split, "n": yardstick.n, "resamples": options.resamples}
    write_json(options.output, {**content, "found": found})


if __name__ == "__main__":
    main()
