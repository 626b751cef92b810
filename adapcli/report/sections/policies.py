"""How per-sample policies did, and against whom."""

import pandas as pd

from adapcli.report import labels
from adapcli.report.document import Block, Grid, Missing, Section, Text
from adapcli.report.findings import SPLIT, Findings
from adapcli.report.policies import Judged
from adapcli.report.sections import guarantees
from adapcli.report.units import MISSING, part, percent, points, span

OBJECTIVES = {
    "max_drop": "drop of at most",
    "same_answer": "other answers of at most",
    "flops_target": "cost, of full, of at most",
    "lambda_": "price",
}
COMMAND = "train-policy --algo threshold"


def section(findings: Findings) -> Section:
    """Policies, the static choices they compete with, and the bounds."""
    blocks: list[Block] = []
    if not findings.policies:
        blocks.append(Missing("No policy has been trained in this run.", findings.command(COMMAND)))
    blocks += [Text(_how_to_read(findings)), _grid(findings)]
    if findings.policies:
        blocks += [_making(findings), *guarantees.blocks(findings), *guarantees.lost_at_exits(findings)]
    return Section("policies", "Policies", blocks)


def _how_to_read(findings: Findings) -> str:
    told = (
        f"On {findings.n_text}, from which no policy was made. Cost is the mean per sample, with features, "
        "the policy's own network and every readout. “Saves, of static” compares with static choices "
        "and their mixtures at equal score, picked with hindsight of these very samples: a policy that beats "
        "them beats any search. Oracles know the answer; they show what is left to gain, out of reach for a "
        "policy."
    )
    if any(judged.evaluation.beats_statics for judged in [*findings.policies, *findings.oracles]):
        told += " “≥”: no static choice is as good, so the comparison is with the cost of the best one."
    return told


def _grid(findings: Findings) -> Grid:
    statics, judged = _statics(findings), [*findings.policies, *findings.oracles]
    rows = [row for row, _ in statics] + [_row(findings, j) for j in judged]
    frame = pd.DataFrame([record for _, record in statics] + [_record(j) for j in judged])
    costs = [findings.unit.name, "of full", "saves, of full", "saves, of static", "95 % interval, %"]
    columns = ["", findings.score_name, "95 % interval, %", "against full, points", *costs]
    first, last = len(statics), len(statics) + len(findings.policies)
    caption = f"Policies and their rivals, on {findings.n_text}"
    strong = frozenset(first + i for i, p in enumerate(findings.policies) if p is findings.best_policy)
    quiet = frozenset(range(last, len(rows)))
    return Grid("policies", frame, columns, rows, caption, numeric=8, strong=strong, quiet=quiet)


def _making(findings: Findings) -> Grid:
    """What each policy is, and what it was chosen for."""
    columns = ["", "algorithm", "chosen for", "met on tune", f"met on {SPLIT}"]
    columns += [f"{findings.score_name} on tune", "cost on tune, of full"]
    rows = [[p.name, *_made(p), *_tuned(p)] for p in findings.policies]
    frame = pd.DataFrame([_making_record(p) for p in findings.policies])
    return Grid("policies_made", frame, columns, rows, "How policies were chosen", numeric=2)


def _made(judged: Judged) -> list[str]:
    kind = judged.policy.kind if judged.policy is not None else MISSING
    name, limit = _goal(judged)
    goal = MISSING if name is None else f"{OBJECTIVES[name]} {limit:g}"
    return [kind, goal, _yes(_met_on_tune(judged)), _yes(judged.met)]


def _goal(judged: Judged) -> tuple[str, float] | tuple[None, None]:
    """Which limit or price, and its value."""
    if judged.objective is None:
        return None, None
    return next(iter(judged.objective.to_dict().items()))


def _met_on_tune(judged: Judged) -> bool | None:
    """As training recorded it; a price sets no limit to meet."""
    if judged.certificate is not None:
        return None  # the calibration samples say
    recorded = judged.made.get("met")
    return recorded if isinstance(recorded, bool) and _goal(judged)[0] != "lambda_" else None


def _yes(value: bool | None) -> str:
    return MISSING if value is None else "yes" if value else "no"


def _tuned(judged: Judged) -> list[str]:
    e = judged.tuned
    return (
        [MISSING] * 2 if e is None else [percent(e.score.mean), part(e.cost_flops.mean / e.full_cost_flops)]
    )


def _making_record(judged: Judged) -> dict[str, object]:
    name, limit = _goal(judged)
    record: dict[str, object] = {"name": judged.name, "algorithm": judged.policy and judged.policy.kind}
    record |= {"objective": name, "limit": limit, "met_on_tune": _met_on_tune(judged)}
    record |= {f"met_on_{SPLIT}": judged.met}
    e = judged.tuned
    if e is not None:
        record |= {"tune_score": e.score.mean, "tune_cost_flops": e.cost_flops.mean}
        record |= {"tune_fraction": e.cost_flops.mean / e.full_cost_flops}
    return record


def _row(findings: Findings, judged: Judged) -> list[str]:
    e = judged.evaluation
    return [
        f"{judged.name} (not achievable)" if judged.kind == "oracle" else judged.name,
        percent(e.score.mean),
        span(e.score),
        points(e.score_difference.mean),
        findings.unit.number(e.cost_flops.mean),
        part(e.cost_flops.mean / e.full_cost_flops),
        percent(e.saving_full.mean),
        ("≥ " if e.beats_statics else "") + percent(e.saving_static.mean),
        span(e.saving_static),
    ]


def _record(judged: Judged) -> dict[str, object]:
    """Every number of an evaluation but the shares, intervals as three columns."""
    record: dict[str, object] = {"name": judged.name, "kind": judged.kind}
    for name, value in judged.evaluation.to_dict().items():
        if isinstance(value, dict):
            record |= {name: value["mean"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        elif name not in ("name", "shares"):
            record[name] = value
    return record


def _statics(findings: Findings) -> list[tuple[list[str], dict[str, object]]]:
    """The full configuration, and the chosen one."""
    full, chosen = findings.table.full, findings.chosen
    named = [("full configuration", full)]
    if chosen is not None and chosen != full:
        named.append((f"chosen: {labels.configuration(findings.table.configs, chosen)}", chosen))
    return [_static(findings, name, index) for name, index in named]


def _static(findings: Findings, name: str, index: int) -> tuple[list[str], dict[str, object]]:
    score, cost = findings.score(index), float(findings.table.cost_flops[index])
    fraction, change = cost / findings.full_flops, score.mean - findings.score(findings.table.full).mean
    against = MISSING if index == findings.table.full else points(change)
    row = [name, percent(score.mean), span(score), against, findings.unit.number(cost), part(fraction)]
    record = {"name": name, "kind": "static", "split": SPLIT, "n": len(findings.rows), "score": score.mean}
    record |= {
        "score_low": score.low,
        "score_high": score.high,
        "score_difference": change,
        "cost_flops": cost,
    }
    return [*row, percent(1 - fraction), "", ""], record | {"saving_full": 1 - fraction}
