"""`path`: run a few states one after the other, stop as soon as one is sure enough; a threshold for each.

The states are found by Optuna (`policies.anytime.pathfinding`). The thresholds of a path need no search:
given the others, the best one for a price is read off sorted signals, state by state until none changes.
`one-threshold` is the same with one threshold for all states, the usual early exit, along several axes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.anytime.lattice import Lattice
from policies.anytime.pathfinding import STATES, TRIALS, Pathfinder
from policies.anytime.prices import learned_range, price_range
from policies.anytime.soft import ScoreKind, Singles, Target, aimed, scores_of
from policies.base import Decision, FloatArray, IntArray, Progress, StoredPolicy, Trained, measure, split_rows
from policies.errors import UsageError
from policies.grid import Grid
from policies.live import Looks, Verdict
from policies.objective import Objective
from policies.shown import short_repr
from policies.table import OutcomeTable
from policies.threshold import Chain, Sweep, Threshold, signal_of, stage_costs

PRICES_TRIED = 33
SAMPLES = 10_000
"""Fit samples that paths are compared on, at most."""
ROUNDS = 8
"""Of choosing each threshold anew, at most; two or three are usual."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Path:
    """Runs `chain` (K positions in the grid) in order; stops where the signal reaches the state's threshold.

    thresholds (K - 1,): of all states but the last, whose answer stands whatever its signal. lambda_: the
    price it was made for. Cost: the first configuration, every increment with its readout, a comparison each.
    """

    __repr__ = short_repr

    grid: Grid
    chain: Chain
    thresholds: tuple[float, ...]
    lambda_: float
    signal: str = "confidence"
    name: str = "path"

    kind = "path"
    feature_names = ()

    def __post_init__(self) -> None:
        for configuration in self.chain:
            self.grid.check(configuration)
        if not self.chain or len(set(self.chain)) != len(self.chain):
            raise UsageError(f"path {list(self.chain)}: expected configurations, each once")
        if len(self.thresholds) != len(self.chain) - 1:
            raise UsageError(f"{len(self.thresholds)} thresholds for {len(self.chain)} states")
        if not all(abs(tau) <= LARGEST for tau in self.thresholds):
            raise UsageError(f"thresholds {list(self.thresholds)}: expected finite numbers")
        if not (np.isfinite(self.lambda_) and self.lambda_ >= 0):
            raise UsageError(f"lambda {self.lambda_}: expected a finite price, 0 or more")

    @property
    def own_flops(self) -> int:
        """Of one look."""
        return 1 if len(self.chain) > 1 else 0

    @property
    def look_flops(self) -> int:
        """Of each look after the first, see policies.live.Stopper."""
        return self.own_flops

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See policies.base.Policy. UsageError without the signal, FileError if the path breaks."""
        chain = np.array(self.chain)
        signal = signal_of(table, self.signal, np.asarray(rows), chain[:-1])
        sure = np.column_stack([signal >= self._thresholds, np.ones(len(rows), bool)])
        stage = sure.argmax(axis=1)
        return Decision(chain[stage], stage_costs(table, self.chain)[stage] + self.own_flops * (stage + 1))

    @property
    def _thresholds(self) -> Singles:
        return np.array(self.thresholds, dtype=np.float32)

    def reachable(self) -> Chain:
        """See policies.live.Stopper."""
        return self.chain

    def verdict(self, looks: Looks) -> Verdict:
        """See policies.live.Stopper. UsageError without the signal."""
        if self.signal not in looks.signal_names:
            known = ", ".join(looks.signal_names)
            raise UsageError(f"policy {self.name} needs the signal {self.signal}", f"there are: {known}")
        place = {at: i for i, at in enumerate(self.chain[:-1])}
        stage = np.array([place.get(at, -1) for at in looks.at.tolist()], dtype=np.int64)
        tau = np.append(self._thresholds, -np.inf)[stage]  # where the path ends, any signal will do
        signal = looks.signal(self.signal)
        after = np.append(np.array(self.chain[1:], dtype=np.int64), -1)[stage]
        slack = np.abs(signal.astype(np.float64) - tau)
        return Verdict(np.where(signal >= tau, looks.at, after), slack)

    def parameters(self) -> dict[str, Any]:
        """See policies.base.StoredPolicy."""
        return {
            "chain": list(self.chain),
            "thresholds": list(self.thresholds),
            "lambda": self.lambda_,
            "signal": self.signal,
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See policies.base.StoredPolicy."""
        return {}

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """See policies.base.StoredPolicy."""
        return cls(
            grid=grid,
            chain=tuple(map(int, parameters["chain"])),
            thresholds=tuple(map(float, parameters["thresholds"])),
            lambda_=float(parameters["lambda"]),
            signal=str(parameters["signal"]),
            name=name,
        )


class Each:
    """Paths with a threshold per state: the best ones for each price, on samples to learn from.

    signal, scores (n, C); prices (P,).
    """

    def __init__(
        self, table: OutcomeTable, rows: IntArray, scores: Singles, prices: FloatArray, signal: str
    ) -> None:
        self._table, self._scores, self._name = table, scores, signal
        self._signal = signal_of(table, signal, rows, np.arange(table.n_configs))
        self._order = np.argsort(self._signal, axis=0, kind="stable")
        self.prices, self._unit = prices, prices / table.cost_flops[table.full]

    def utilities(self, chain: Chain) -> FloatArray:
        """Mean score less price x cost of the path at its best, (P,)."""
        return self._solved(chain)[0]

    def policy(self, chain: Chain, at_price: int, name: str) -> Path:
        """The path at one price, without the states that nobody goes on to."""
        taus = self._solved(chain)[1][:, at_price].tolist()
        left = next((i for i, tau in enumerate(taus) if tau == -LARGEST), len(taus))
        price = float(self.prices[at_price])
        return Path(Grid.of(self._table), chain[: left + 1], tuple(taus[:left]), price, self._name, name)

    def _solved(self, chain: Chain) -> tuple[FloatArray, FloatArray]:
        """Utilities (P,) and thresholds (K - 1, P)."""
        costs = np.diff(stage_costs(self._table, chain)) + 1
        taus = np.full((len(costs), len(self._unit)), LARGEST, np.float32)
        # First as if everybody came to each state; then for those who do, by the thresholds before it.
        worth = self._backwards(chain, costs, taus, None)
        for _ in range(ROUNDS if len(costs) > 1 else 0):
            before = taus.copy()
            worth = self._backwards(chain, costs, taus, self._reaching(chain, taus))
            if (taus == before).all():
                break
        entering = (self._table.cost_flops[chain[0]] + (len(chain) > 1)) * self._unit
        return worth.mean(axis=0, dtype=np.float64) - entering, taus.astype(np.float64)

    def _backwards(
        self, chain: Chain, costs: FloatArray, taus: Singles, reaching: list[npt.NDArray[np.bool_]] | None
    ) -> Singles:
        """Make each threshold the best, the last one first; worth of entering without its cost, (n, P)."""
        worth = np.repeat(self._scores[:, chain[-1], None], len(self._unit), axis=1)
        for i in range(len(costs) - 1, -1, -1):
            stop, signal = self._scores[:, chain[i], None], self._signal[:, chain[i], None]
            onward = worth - (costs[i] * self._unit).astype(np.float32)
            gained = onward - stop if reaching is None else np.where(reaching[i], onward - stop, 0)
            taus[i] = self._best_thresholds(chain[i], gained)
            worth = np.where(signal >= taus[i], stop, onward)
        return worth

    def _reaching(self, chain: Chain, taus: Singles) -> list[npt.NDArray[np.bool_]]:
        """Who comes to each state but the last, (n, P) each."""
        here = np.ones((len(self._signal), len(self._unit)), bool)
        found = []
        for at, tau in zip(chain, taus, strict=False):
            found.append(here)
            here = here & (self._signal[:, at, None] < tau)
        return found

    def _best_thresholds(self, at: int, gained: Singles) -> Singles:
        """Where going on with all below gains most, given what each sample gains by it (n, P); (P,).

        Samples of one signal go together.
        """
        order = self._order[:, at]
        signal = self._signal[order, at]
        total = np.cumsum(gained[order], axis=0, dtype=np.float64)
        total[:-1][signal[1:] == signal[:-1]] = -np.inf
        last = total.argmax(axis=0)
        above = np.append(signal[1:], np.nextafter(signal[-1], np.float32(np.inf)))
        return np.where(total[last, np.arange(len(last))] > 0, above[last], np.float32(-LARGEST))


class One:
    """Paths with one threshold for all states; see `Each`."""

    def __init__(
        self, table: OutcomeTable, rows: IntArray, scores: Singles, prices: FloatArray, signal: str
    ) -> None:
        self._table, self._signal, self.prices = table, signal, prices
        self._sweep = Sweep(table, rows, signal, scores=scores)
        self._unit = prices / table.cost_flops[table.full]

    def utilities(self, chain: Chain) -> FloatArray:
        """As `Each.utilities`."""
        return np.asarray(self._all(chain).max(axis=1), dtype=np.float64)

    def policy(self, chain: Chain, at_price: int, name: str) -> Threshold:
        """The path at the threshold that is best for a price."""
        tau = float(self._sweep.tau[self._all(chain)[at_price].argmax()])
        return Threshold(Grid.of(self._table), chain, tau, self._signal, name)

    def _all(self, chain: Chain) -> FloatArray:
        """At every price and threshold, (P, T)."""
        curve = self._sweep.curve(chain)
        return np.asarray(curve.score - self._unit[:, None] * curve.cost_flops)


def train_path(
    table: OutcomeTable,
    objective: Objective,
    *,
    signal: str = "confidence",
    target: Target = "score",
    score: ScoreKind | None = None,
    along: tuple[str, ...] | None = None,
    states: int = STATES,
    trials: int = TRIALS,
    seed: int = 0,
    progress: Progress | None = None,
    name: str = "path",
) -> Trained:
    """Paths and their thresholds on the fit split for many prices, the price on the tune split.

    signal: what is compared with the thresholds; states: of a path, at most; trials: paths that Optuna
    proposes, in all; target, score, along: as for `policies.anytime.gate.train_gate`. The same seed gives the
    same policy. Raises UsageError for arguments out of range, InfeasibleError if no price meets the
    objective.
    """
    table = aimed(table, target)
    finder = Pathfinder.of(Lattice.of(table, along), table, states=states, trials=trials, seed=seed)
    return _trained(Each, finder, table, objective, signal, score, name, progress)


def train_one_threshold(
    table: OutcomeTable,
    objective: Objective,
    *,
    signal: str = "confidence",
    target: Target = "score",
    score: ScoreKind | None = None,
    along: tuple[str, ...] | None = None,
    states: int = STATES,
    trials: int = TRIALS,
    seed: int = 0,
    progress: Progress | None = None,
    name: str = "one-threshold",
) -> Trained:
    """As `train_path`, with one threshold for all states."""
    table = aimed(table, target)
    finder = Pathfinder.of(Lattice.of(table, along), table, states=states, trials=trials, seed=seed)
    return _trained(One, finder, table, objective, signal, score, name, progress)


def _trained(
    kind: type[Each] | type[One],
    finder: Pathfinder,
    table: OutcomeTable,
    objective: Objective,
    signal: str,
    score: ScoreKind | None,
    name: str,
    progress: Progress | None,
) -> Trained:
    rows, every = split_rows(table, "fit"), price_range(table, objective)
    some = rows[:: 1 + (len(rows) - 1) // SAMPLES]
    prices = every.grid(PRICES_TRIED) if not objective.lambda_ else np.array([objective.lambda_])
    judge = kind(table, some, scores_of(table, score)(table, some), prices, signal)
    usual = learned_range(table, objective, every)
    best = finder.search(judge.utilities, prices, usual, progress)
    family: list[StoredPolicy] = [judge.policy(chain, i, name) for i, chain in enumerate(best)]
    measured = measure(family, table, split_rows(table, "tune"))
    return measured.trained(family, objective, measured.choose(table, objective))
