"""This run beside another one of the same task and data."""

from typing import Any

import numpy as np
import pandas as pd

from adapcli.errors import FileError
from adapcli.report.document import Drawing, Grid, Section, Text
from adapcli.report.figures.comparison import comparison
from adapcli.report.findings import Findings
from adapcli.report.marks import Curve, Floats
from adapcli.report.units import percent, points
from policies import pareto
from policies.statistics import paired_bootstrap

STEPS = 7


def refuse_different(findings: Findings, other: Findings) -> None:
    """FileError listing what differs, unless both runs are of one task and report on the same samples."""
    told = [
        f"{name}: {ours} here, {theirs} there"
        for name, ours, theirs in zip(
            ("task", "classes", "data"), _identity(findings), _identity(other), strict=True
        )
        if ours != theirs
    ]
    if not told and _sample_ids(findings) != _sample_ids(other):
        told = ["test samples: others here than there"]
    if told:
        message = f"{other.run.folder} cannot be compared with {findings.run.folder}: {'; '.join(told)}"
        raise FileError(message, "compare runs of one task, made with the same --data, --seed and --limit")


def _identity(findings: Findings) -> tuple[Any, Any, Any]:
    meta = findings.table.meta
    data = meta.get("fingerprints", {}).get("data")
    split = data.get("test") if isinstance(data, dict) else data
    return meta.get("task"), tuple(meta.get("class_names", ())), split


def _sample_ids(findings: Findings) -> list[str]:
    return list(findings.table.samples["sample_id"].iloc[findings.rows])


def section(findings: Findings, other: Findings) -> Section:
    """Both fronts, and what lies between them at equal cost and at equal score."""
    name = _name(other)
    curves = [_curve(findings, "this run"), _curve(other, name)]
    drawing = Drawing(
        "comparison",
        lambda layout: comparison(curves, unit=findings.unit, score_name=findings.score_name, layout=layout),
        f"Static fronts of this run and of {name}.",
        "Static choices and their mixtures, chosen on the calibration split of each run, both scored on the "
        f"same {findings.n_text}.",
    )
    return Section(
        "comparison",
        f"Compared with {name}",
        [drawing, *_equal_cost(findings, other), *_equal_score(findings, other)],
    )


def _name(other: Findings) -> str:
    return other.run.folder.name or str(other.run.folder.resolve())


def _curve(findings: Findings, label: str) -> Curve:
    return Curve(label, findings.front.cost_flops, findings.front.score)


def _equal_cost(findings: Findings, other: Findings) -> list[Grid | Text]:
    """Differences of score at budgets that both fronts cover, paired by sample."""
    ours, theirs = findings.front.cost_flops, other.front.cost_flops
    low, high = max(ours[0], theirs[0]), min(ours[-1], theirs[-1])
    if low > high:
        return [Text("The two fronts have no cost in common.")]
    records = [
        _at_cost(findings, other, float(budget)) for budget in np.unique(np.geomspace(low, high, STEPS))
    ]
    frame = pd.DataFrame(records)
    rows = [
        [
            findings.unit.number(r["cost_flops"]),
            *map(percent, (r["this_run"], r["other"])),
            points(r["difference"]),
            f"{points(r['low'])} to {points(r['high'])}",
        ]
        for r in records
    ]
    columns = [findings.unit.name, "this run", _name(other), "difference, points", "95 % interval"]
    caption = f"{findings.score_name.capitalize()} at equal cost; differences are paired by sample"
    return [Grid("comparison_at_equal_cost", frame, columns, rows, caption, numeric=5)]


def _at_cost(findings: Findings, other: Findings, budget: float) -> dict[str, float]:
    ours, theirs = _mixture(findings, budget), _mixture(other, budget)
    difference = paired_bootstrap(ours, theirs)
    return {
        "cost_flops": budget,
        "this_run": float(ours.mean()),
        "other": float(theirs.mean()),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }


def _mixture(findings: Findings, budget: float) -> Floats:
    """Expected score of each test sample, (n,), under the mixture of two corners that costs `budget`."""
    costs = findings.front.cost_flops
    right = int(np.clip(np.searchsorted(costs, budget), 1, len(costs) - 1)) if len(costs) > 1 else 0
    left = max(right - 1, 0)
    gap = costs[right] - costs[left]
    share = float(np.clip((budget - costs[left]) / gap, 0, 1)) if gap > 0 else 1.0
    scores = np.asarray(findings.table.score[findings.rows][:, findings.corners[[left, right]]], np.float64)
    mixed: Floats = scores @ np.array([1 - share, share])
    return mixed


def _equal_score(findings: Findings, other: Findings) -> list[Grid | Text]:
    """The cost at which each front first reaches a score."""
    ours, theirs = findings.front, other.front
    low = max(ours.score.min(), theirs.score.min())
    high = min(ours.score.max(), theirs.score.max())
    if low >= high:
        return [Text(f"The two fronts have no {findings.score_name} in common.")]
    levels = np.linspace(low, high, STEPS)
    costs = [pareto.cost_at(curve.cost_flops, curve.score, levels) for curve in (ours, theirs)]
    frame = pd.DataFrame({"score": levels, "this_run_flops": costs[0], "other_flops": costs[1]})
    frame["ratio"] = frame["this_run_flops"] / frame["other_flops"]
    number = findings.unit.number
    rows = [
        [percent(level), number(ours), number(theirs), f"{ratio:.2f}"]
        for level, ours, theirs, ratio in frame.to_numpy(np.float64)
    ]
    columns = [
        findings.score_name,
        f"this run, {findings.unit.name}",
        f"{_name(other)}, {findings.unit.name}",
        "ratio",
    ]
    caption = f"Cost at equal {findings.score_name}"
    return [Grid("comparison_at_equal_score", frame, columns, rows, caption, numeric=4)]
