"""A report in a few lines for a terminal, and as plain data."""

from dataclasses import asdict
from typing import Any

from adapcli.report.build import Report
from adapcli.report.document import Document, Missing
from adapcli.report.findings import Findings
from adapcli.report.units import part, percent, span


def rows(findings: Findings) -> list[list[str]]:
    """Full, chosen, policies and oracles; see `columns`."""
    found = []
    for mark in findings.marks():
        name = f"{mark.label} (not achievable)" if mark.kind == "oracle" else mark.label
        cost = [findings.unit.text(mark.cost_flops), part(mark.cost_flops / findings.full_flops)]
        found.append([name, percent(mark.score.mean), span(mark.score), *cost])
    return found


def columns(findings: Findings) -> list[str]:
    """What `rows` holds."""
    return ["", findings.score_name, "95 % interval", "cost", "of full"]


def verdict(report: Report) -> list[str]:
    """The answers, two lines each."""
    lines = []
    for answer in report.document.answers:
        lines += [f"{answer.label.capitalize()}: {answer.headline}", f"  {answer.numbers}"]
    return lines


def missing(document: Document) -> list[str]:
    """What the run lacks, and the command that adds it."""
    blocks = [block for section in document.sections for block in section.blocks]
    return [f"{block.text} {block.command}" for block in blocks if isinstance(block, Missing)]


def as_data(report: Report) -> dict[str, Any]:
    """For JSON: where the page is, the verdict, and every mark with its numbers."""
    findings = report.findings
    return {
        "report": report.index,
        "answers": [asdict(answer) for answer in report.document.answers],
        "samples": len(findings.rows),
        "full_flops": findings.full_flops,
        "marks": [asdict(mark) for mark in findings.marks()],
        "warnings": list(findings.warnings),
        "missing": missing(report.document),
        "figures": [drawing.name for drawing in report.document.drawings()],
        "tables": [grid.name for grid in report.document.grids()],
    }
