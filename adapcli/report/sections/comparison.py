"""This run beside another one of the same task and data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adapcli.errors import FileError
from adapcli.report import labels
from adapcli.report.document import Drawing, Grid, Section, Text
from adapcli.report.figures.comparison import comparison
from adapcli.report.findings import Findings
from adapcli.report.fronts import StaticFront
from adapcli.report.units import percent, points
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
    name = labels.readable(other.run.folder.name or str(other.run.folder.resolve()))
    pair = Pair(findings, name, StaticFront.of(findings.table), StaticFront.of(other.table))
    return Section(
        "comparison", f"Compared with {name}", [_figure(pair), _equal_cost(pair), _equal_score(pair)]
    )


@dataclass(frozen=True, eq=False)
class Pair:
    """This run's findings and front; the other run's name and front."""

    findings: Findings
    name: str
    ours: StaticFront
    theirs: StaticFront


def _figure(pair: Pair) -> Drawing:
    findings, curves = pair.findings, [pair.ours.curve("this run"), pair.theirs.curve(pair.name)]
    return Drawing(
        "comparison",
        lambda layout: comparison(curves, unit=findings.unit, score_name=findings.score_name, layout=layout),
        f"Static fronts of this run and of {pair.name}.",
        "Static choices and their mixtures, chosen on the calibration split of each run, both scored on the "
        f"same {findings.n_text}.",
    )


def _equal_cost(pair: Pair) -> Grid | Text:
    """Differences of score at budgets that both fronts cover, paired by sample."""
    low = max(pair.ours.cost_flops[0], pair.theirs.cost_flops[0])
    high = min(pair.ours.cost_flops[-1], pair.theirs.cost_flops[-1])
    if low > high:
        return Text("The two fronts have no cost in common.")
    findings = pair.findings
    records = [_at_cost(pair, float(budget)) for budget in np.unique(np.geomspace(low, high, STEPS))]
    rows = [
        [
            findings.unit.number(r["cost_flops"]),
            *map(percent, (r["this_run"], r["other"])),
            points(r["difference"]),
            f"{points(r['low'])} to {points(r['high'])}",
        ]
        for r in records
    ]
    columns = [findings.unit.name, "this run", pair.name, "difference, points", "95 % interval"]
    caption = f"{labels.opening(findings.score_name)} at equal cost; differences are paired by sample"
    return Grid("comparison_at_equal_cost", pd.DataFrame(records), columns, rows, caption, numeric=5)


def _at_cost(pair: Pair, budget_flops: float) -> dict[str, float]:
    ours, theirs = pair.ours.mixture(budget_flops), pair.theirs.mixture(budget_flops)
    difference = paired_bootstrap(ours, theirs)
    return {
        "cost_flops": budget_flops,
        "this_run": float(ours.mean()),
        "other": float(theirs.mean()),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }


def _equal_score(pair: Pair) -> Grid | Text:
    """The cost at which each front first reaches a score."""
    findings, ours, theirs = pair.findings, pair.ours, pair.theirs
    low, high = max(ours.score.min(), theirs.score.min()), min(ours.score.max(), theirs.score.max())
    if low > high:
        return Text(f"The two fronts have no {findings.score_name} in common.")
    levels = np.unique(np.linspace(low, high, STEPS))
    costs = ours.cost_at(levels), theirs.cost_at(levels)
    records = {
        "score": levels,
        "this_run_flops": costs[0],
        "other_flops": costs[1],
        "ratio": costs[0] / costs[1],
    }
    number = findings.unit.number
    rows = [
        [percent(level), number(mine), number(its), f"{ratio:.2f}"]
        for level, mine, its, ratio in zip(*records.values(), strict=True)
    ]
    unit = findings.unit.name
    columns = [findings.score_name, f"this run, {unit}", f"{pair.name}, {unit}", "ratio"]
    caption = f"Cost at equal {findings.score_name}"
    return Grid("comparison_at_equal_score", pd.DataFrame(records), columns, rows, caption, numeric=4)
