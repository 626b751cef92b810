"""How per-sample policies did, and against whom."""

import pandas as pd

from adapcli.report import labels
from adapcli.report.document import Block, Grid, Missing, Section, Text
from adapcli.report.findings import Findings
from adapcli.report.policies import Evaluated
from adapcli.report.units import MISSING, part, percent, points, span

COMMAND = "train-policy --algo threshold"


def section(findings: Findings) -> Section:
    """Policies, the static choices they compete with, and the bounds."""
    blocks: list[Block] = []
    if not findings.policies:
        blocks.append(Missing("No policy has been trained in this run.", findings.command(COMMAND)))
    blocks += [Text(_how_to_read(findings)), _grid(findings)]
    return Section("policies", "Policies", blocks)


def _how_to_read(findings: Findings) -> str:
    return (
        f"On {findings.n_text}, none of which a policy or a static choice was made from. Cost is the mean "
        "per sample, with features, the policy's own network and every readout. “Saves, of static” compares "
        "with the static front at equal accuracy: the honest rival, since it needs no policy. Oracles know "
        "the answer; they show what is left to gain, and nothing reaches them."
    )


def _grid(findings: Findings) -> Grid:
    statics, everything = _statics(findings), [*findings.policies, *findings.oracles]
    rows = [row for row, _ in statics] + [_row(findings, e) for e in everything]
    frame = pd.DataFrame([record for _, record in statics] + [_record(findings, e) for e in everything])
    costs = [findings.unit.name, "of full", "saves, of full", "saves, of static", "95 % interval, %"]
    columns = ["", findings.score_name, "95 % interval, %", "against full, points", *costs]
    first, last = len(statics), len(statics) + len(findings.policies)
    caption = f"Policies and their rivals, on {findings.n_text}"
    strong = frozenset(first + i for i, e in enumerate(findings.policies) if e is findings.best_policy)
    quiet = frozenset(range(last, len(rows)))
    return Grid("policies", frame, columns, rows, caption, numeric=8, strong=strong, quiet=quiet)


def _row(findings: Findings, e: Evaluated) -> list[str]:
    saved = e.saving_static
    return [
        e.name if e.kind == "policy" else f"{e.name} (not achievable)",
        percent(e.score.mean),
        span(e.score),
        points(e.change.mean),
        findings.unit.number(e.cost_flops),
        part(e.cost_flops / findings.full_flops),
        percent(e.saving_full.mean),
        percent(saved.mean) if saved else MISSING,
        span(saved) if saved else "",
    ]


def _record(findings: Findings, e: Evaluated) -> dict[str, object]:
    saved = e.saving_static
    return {
        "name": e.name,
        "kind": e.kind,
        "score": e.score.mean,
        "low": e.score.low,
        "high": e.score.high,
        "change": e.change.mean,
        "change_low": e.change.low,
        "change_high": e.change.high,
        "cost_flops": e.cost_flops,
        "overhead_flops": e.overhead_flops,
        "fraction": e.cost_flops / findings.full_flops,
        "saving_full": e.saving_full.mean,
        "saving_static": saved.mean if saved else None,
        "saving_static_low": saved.low if saved else None,
        "saving_static_high": saved.high if saved else None,
    }


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
    record = {"name": name, "kind": "static", "score": score.mean, "low": score.low, "high": score.high}
    record |= {"change": change, "cost_flops": cost, "overhead_flops": 0.0, "fraction": fraction}
    return [*row, percent(1 - fraction), MISSING, ""], record | {"saving_full": 1 - fraction}
