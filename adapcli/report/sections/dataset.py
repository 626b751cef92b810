"""Metrics of the whole data set beside the mean scores: they are no means of scores, so they may disagree."""

from adapcli.report import labels, whole
from adapcli.report.document import Block, Grid, Section, Text
from adapcli.report.findings import SPLIT, Findings
from adapcli.report.units import part, percent


def sections(findings: Findings) -> list[Section]:
    """One section where the table keeps what such metrics sum up, else none."""
    if not whole.names(findings.table):
        return []
    return [Section("dataset", "Metrics of the whole data set", [_told(findings), _grid(findings)])]


def _told(findings: Findings) -> Block:
    listed = ", ".join(whole.names(findings.table))
    return Text(
        f"Search and policies choose by the mean {findings.score_name} per sample. {listed}: worked out from "
        f"sums over all {findings.n_text}, as the field reports them; intervals are over samples drawn again."
    )


def _grid(findings: Findings) -> Grid:
    table, rows = findings.table, findings.table.rows(SPLIT)
    shares = {name: table.cost_flops[index] for name, index in _statics(findings).items()}
    shares |= {judged.name: judged.evaluation.cost_flops.mean for judged in findings.policies}
    scores = {name: findings.score(index).mean for name, index in _statics(findings).items()}
    scores |= {judged.name: judged.evaluation.score.mean for judged in findings.policies}
    decided = dict(_statics(findings)) | {
        judged.name: judged.policy.select(table, rows).configuration
        for judged in findings.policies
        if judged.policy is not None
    }
    frame = whole.measured(table, decided, SPLIT)
    shown = [
        [name, part(shares[name] / findings.full_flops), percent(scores[name]), *whole.cells(frame, name)]
        for name in decided
    ]
    columns = ["", "cost, of full", f"mean {findings.score_name}", *whole.names(table)]
    caption = f"Metrics of the whole data set, on {findings.n_text}, with 95 % intervals"
    return Grid("dataset_metrics", frame, columns, shown, caption, numeric=len(columns) - 1)


def _statics(findings: Findings) -> dict[str, int]:
    table = findings.table
    kinds = {"cheapest": findings.cheapest, "chosen": findings.chosen, "full": table.full}
    return {
        f"{kind}: {labels.configuration(table.configs, index)}": index
        for kind, index in kinds.items()
        if index is not None
    }
