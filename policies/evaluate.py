"""One protocol for every policy, on a split that nothing was chosen on.

Everything a policy executes is in its cost. The rival is the static hull of the same split, that is, the best
static choices and their mixtures with hindsight of this very split: a policy that beats it beats any fair
search, and on few samples the comparison leans towards the rival.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from policies import pareto
from policies.base import Decision, FloatArray, IntArray, Policy, StoredPolicy, measure, split_rows
from policies.baselines import HindsightOracle, SameAnswerOracle
from policies.objective import Objective
from policies.shown import short_repr
from policies.statistics import Interval, mean_interval, normal_interval, paired_bootstrap
from policies.table import OutcomeTable

RESAMPLES = 1000
SAME_MAP = 0.05
"""How far below 1 two maps may agree and be the same answer."""
BLOCK_VALUES = 1 << 23


@dataclass(frozen=True)
class Evaluation:
    """A policy on n samples of one split, with 95 % intervals.

    score, agreement: means in [0, 1]. cost_flops: mean per sample, features, network and readouts included.
    score_difference: score minus the full configuration's, paired. saving_full: 1 - cost / cost of the full
    one.
    saving_static: 1 - cost / cost of the static hull at this score (paired bootstrap over samples, the hull
    drawn again each time); above the best static score, against the cheapest best static: `beats_statics`
    is then True.
    shares: how often each configuration was chosen, (C,). overhead_flops: mean cost beyond the chosen
    configurations' own, of which feature_flops and policy_flops are known beforehand.
    """

    __repr__ = short_repr

    name: str
    split: str
    n: int
    score: Interval
    agreement: Interval
    cost_flops: Interval
    full_score: float
    full_cost_flops: float
    score_difference: Interval
    saving_full: Interval
    saving_static: Interval
    static_cost_flops: float
    beats_statics: bool
    shares: tuple[float, ...]
    feature_flops: int
    policy_flops: int
    overhead_flops: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "shares": list(self.shares)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Evaluation":
        """From `to_dict`. Raises KeyError or TypeError for anything else."""
        fields = dict(content)
        for name in INTERVALS:
            fields[name] = Interval(**fields[name])
        return cls(**{**fields, "shares": tuple(fields["shares"])})


INTERVALS = ("score", "agreement", "cost_flops", "score_difference", "saving_full", "saving_static")


def evaluate(
    policy: Policy, table: OutcomeTable, split: str = "test", *, resamples: int = RESAMPLES, seed: int = 0
) -> Evaluation:
    """Run `policy` on a split of `table`.

    Raises FileError if the split is empty or the policy was made for another grid.
    """
    if hasattr(policy, "grid"):
        policy.grid.require(table, policy.name)
    rows = split_rows(table, split)
    decision = policy.select(table, rows)
    return judge(decision, table, split, policy=policy, resamples=resamples, seed=seed)


def met(objective: Objective, evaluation: Evaluation) -> bool | None:
    """Whether the means of an evaluation keep what the objective asks; None for a price, which asks nothing.

    A policy that keeps it on tune, where it was chosen, may miss it on other samples.
    """
    if objective.flops_target is not None:
        share = evaluation.cost_flops.mean / evaluation.full_cost_flops
        return share <= objective.flops_target * (1 + 1e-12)
    if objective.max_drop is not None:
        return evaluation.score_difference.mean >= -objective.max_drop - 1e-12
    if objective.same_answer is not None:
        return evaluation.agreement.mean >= 1 - objective.same_answer - 1e-12
    return None


def judge(
    decision: Decision,
    table: OutcomeTable,
    split: str,
    *,
    policy: Policy,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Measure a decision that `policy` made for all rows of the split, in their order."""
    rows = split_rows(table, split)
    scores = np.asarray(table.score[rows], dtype=np.float32)
    score = _chosen(scores, decision)
    cost, full_cost = decision.cost_flops, float(table.cost_flops[table.full])
    cost_interval = _mean(cost)
    statics = scores.mean(axis=0, dtype=np.float64)
    kept = policy if isinstance(policy, StoredPolicy) else None
    full = decision.configuration == table.full  # agrees with itself, however a map's agreement is rounded
    return Evaluation(
        name=policy.name,
        split=split,
        n=len(rows),
        score=mean_interval(score),
        agreement=mean_interval(np.where(full, 1.0, _chosen(np.asarray(table.agreement[rows]), decision))),
        cost_flops=cost_interval,
        full_score=float(statics[table.full]),
        full_cost_flops=full_cost,
        score_difference=paired_bootstrap(score, scores[:, table.full].astype(np.float64), seed=seed),
        saving_full=Interval(
            *(1 - x / full_cost for x in (cost_interval.mean, cost_interval.high, cost_interval.low))
        ),
        saving_static=_saving_static(scores, score, cost, table.cost_flops, resamples, seed),
        static_cost_flops=_static_cost(table.cost_flops, statics, float(score.mean())),
        beats_statics=bool(score.mean() > statics.max()),
        shares=tuple((np.bincount(decision.configuration, minlength=table.n_configs) / len(rows)).tolist()),
        feature_flops=table.feature_flops if kept and kept.feature_names else 0,
        policy_flops=kept.own_flops if kept else 0,
        overhead_flops=float((cost - table.cost_flops[decision.configuration]).mean()),
    )


def _chosen(values: npt.NDArray[np.float32], decision: Decision) -> FloatArray:
    return values[np.arange(len(values)), decision.configuration].astype(np.float64)


def _mean(values: FloatArray) -> Interval:
    """Student's interval; a cost that is the same everywhere is known exactly."""
    if values.min() == values.max():
        return Interval(float(values[0]), float(values[0]), float(values[0]))
    return normal_interval(values)


def _static_cost(cost_flops: FloatArray, statics: FloatArray, score: float) -> float:
    """The least mean cost of a mixture of statics with this score; beyond the best, of the best."""
    return float(pareto.cost_at(cost_flops, statics, min(score, float(statics.max()))))


def _saving_static(
    scores: npt.NDArray[np.float32],
    score: FloatArray,
    cost: FloatArray,
    cost_flops: FloatArray,
    resamples: int,
    seed: int,
) -> Interval:
    """1 - policy's cost / static hull's cost at the policy's score, with its percentile interval."""
    kept = near_hull(scores, cost_flops)
    scores, cost_flops = scores[:, kept], cost_flops[kept]

    def saving(statics: FloatArray, mean_score: float, mean_cost: float) -> float:
        return 1 - mean_cost / _static_cost(cost_flops, statics, mean_score)

    point = saving(scores.mean(axis=0, dtype=np.float64), float(score.mean()), float(cost.mean()))
    drawn = [saving(*means) for means in _resampled_means(scores, score, cost, resamples, seed)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (point, point)
    return Interval(point, float(low), float(high))


def near_hull(scores: npt.NDArray[np.float32], cost_flops: FloatArray) -> IntArray:
    """Configurations that a resample of `scores` (n, C) may put on the static hull, ascending.

    Left out are those so far below the hull's line at their own cost that no resample lifts them onto it:
    by more than 6 standard errors of the paired difference. The bootstrap is as much faster.
    """
    means = scores.mean(axis=0, dtype=np.float64)
    corners = pareto.hull(cost_flops, means)
    weights = np.stack(
        [np.interp(cost_flops, cost_flops[corners], unit) for unit in np.eye(len(corners))]
    ).astype(np.float32)
    total, squares, n = np.zeros(len(means)), np.zeros(len(means)), len(scores)
    step = max(1, BLOCK_VALUES // len(means))
    for block in (scores[start : start + step] for start in range(0, n, step)):
        below = block[:, corners] @ weights - block
        total += below.sum(axis=0, dtype=np.float64)
        squares += np.einsum("nc,nc->c", below, below, dtype=np.float64)
    mean = total / n
    error = np.sqrt(np.maximum(squares / n - mean**2, 0) / n)
    kept = mean <= 6 * error + 1e-6
    kept[corners] = True
    return np.flatnonzero(kept)


def _resampled_means(
    scores: npt.NDArray[np.float32], score: FloatArray, cost: FloatArray, resamples: int, seed: int
) -> Iterator[tuple[FloatArray, float, float]]:
    """Means of the statics (C,), of the policy's score and of its cost over draws with replacement."""
    rng, n = np.random.default_rng(seed), len(scores)
    step = max(1, BLOCK_VALUES // n)
    # Single precision halves the time of the one large product; it is right to 1e-6.
    scale = cost.max() or 1.0
    columns = np.column_stack([scores, score, cost / scale]).astype(np.float32)
    for start in range(0, resamples, step):
        counts = np.empty((min(step, resamples - start), n), np.float32)
        for drawn in counts:
            drawn[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        means = (counts @ columns).astype(np.float64) / n
        yield from zip(means[:, :-2], means[:, -2], means[:, -1] * scale, strict=True)


@dataclass(frozen=True)
class Baselines:
    """The rivals on one split.

    statics: one row per configuration: its id columns, `configuration` (position), cost_flops, score,
    agreement, on_front and on_hull. oracles: what hindsight could do, and what an honest ceiling is.
    """

    split: str
    statics: pd.DataFrame
    oracles: tuple[Evaluation, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "split": self.split,
            "statics": self.statics.to_dict(orient="records"),
            "oracles": [oracle.to_dict() for oracle in self.oracles],
        }


def baselines(
    table: OutcomeTable, split: str = "test", *, resamples: int = RESAMPLES, seed: int = 0
) -> Baselines:
    """Every static configuration and both oracles on a split; without labels, where the two are one, one.

    FileError if the split is empty.
    """
    rows = split_rows(table, split)
    grid = table.configs.drop(columns=["readout_flops", "memory_bytes"]).assign(
        configuration=np.arange(table.n_configs),
        score=np.asarray(table.score[rows]).mean(axis=0, dtype=np.float64),
        agreement=np.asarray(table.agreement[rows]).mean(axis=0, dtype=np.float64),
    )
    for column, choose in (("on_front", pareto.front), ("on_hull", pareto.hull)):
        grid[column] = np.isin(grid["configuration"], choose(table.cost_flops, grid["score"]))
    same = _same_answer(table)
    oracles: tuple[Policy, ...] = (HindsightOracle(), same) if table.labelled else (same,)
    judged = tuple(evaluate(oracle, table, split, resamples=resamples, seed=seed) for oracle in oracles)
    return Baselines(split, grid, judged)


def _same_answer(table: OutcomeTable) -> SameAnswerOracle:
    """Two maps are hardly ever the same in every pixel: nearly the same will do."""
    if table.metrics is None:
        return SameAnswerOracle()
    return SameAnswerOracle(SAME_MAP, name=f"same-answer oracle (agreement of {1 - SAME_MAP:g})")


def curve(policies: Sequence[Policy], table: OutcomeTable, split: str = "test") -> pd.DataFrame:
    """Means of several policies, such as one network at many prices: one row each."""
    measured = measure(policies, table, split_rows(table, split))
    return pd.DataFrame(
        {
            "name": [policy.name for policy in policies],
            "lambda": [getattr(policy, "lambda_", None) for policy in policies],
            "score": measured.score,
            "cost_flops": measured.cost_flops,
            "cost_share": measured.cost_flops / table.cost_flops[table.full],
        }
    )


def choices(decision: Decision, table: OutcomeTable, rows: IntArray) -> pd.DataFrame:
    """What was decided per sample: row, sample_id, configuration, cost_flops, score."""
    return pd.DataFrame(
        {
            "row": rows,
            "sample_id": table.samples["sample_id"].to_numpy()[rows],
            "configuration": decision.configuration,
            "cost_flops": decision.cost_flops,
            "score": _chosen(np.asarray(table.score[rows]), decision),
        }
    )
