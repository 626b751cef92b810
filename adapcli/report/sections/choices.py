"""What each policy chose, and for what."""

import numpy as np
import pandas as pd

from adapcli.report import labels, tables
from adapcli.report.document import Block, Drawing, Gallery, Grid, Section, Text
from adapcli.report.examples import examples
from adapcli.report.figures.choices import choices
from adapcli.report.findings import Findings
from adapcli.report.policies import Evaluated
from adapcli.report.units import percent

MOST_CHOSEN = 5


def section(findings: Findings) -> Section:
    """Shares of each axis' values, the configurations chosen most, and examples from easy to hard."""
    title = "What was chosen"
    everyone = [*findings.policies, *findings.oracles]
    blocks: list[Block] = []
    if not findings.policies:
        blocks.append(Text("Without policies, this shows what the oracles would choose."))
    if everyone and tables.varying_axes(findings.configs):
        blocks.append(_figure(findings, everyone))
    if everyone:
        blocks.append(_most(findings, everyone))
    return Section("choices", title, [*blocks, *_examples(findings)])


def _figure(findings: Findings, everyone: list[Evaluated]) -> Drawing:
    shares = axis_shares(findings, everyone)
    names = ", ".join(e.name for e in everyone)
    return Drawing(
        "choices",
        lambda layout: choices(shares, layout=layout),
        f"Share of samples per value of each axis, for {names}.",
        f"How many of {findings.n_text} each policy answered with how many tokens, what width, what depth. "
        "For a policy that exits early, this is where it stopped.",
    )


def axis_shares(findings: Findings, everyone: list[Evaluated]) -> pd.DataFrame:
    """Rows (name, axis, value, share)."""
    parts = []
    for e in everyone:
        for axis in tables.varying_axes(findings.configs):
            chosen = findings.configs[axis].to_numpy()[e.configuration]
            values, counts = np.unique(chosen, return_counts=True)
            parts.append(
                pd.DataFrame({"name": e.name, "axis": axis, "value": values, "share": counts / len(chosen)})
            )
    return pd.concat(parts, ignore_index=True)


def _most(findings: Findings, everyone: list[Evaluated]) -> Grid:
    records, rows = [], []
    for e in everyone:
        values, counts = np.unique(e.configuration, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        for i in order:
            name = labels.configuration(findings.table.configs, int(values[i]))
            records.append((e.name, name, int(counts[i]), counts[i] / counts.sum()))
        top = [f"{r[1]} {percent(r[3], 0)}" for r in records[-len(values) :][:MOST_CHOSEN]]
        rows.append([e.name, str(len(values)), ", ".join(top)])
    frame = pd.DataFrame(records, columns=["name", "configuration", "samples", "share"])
    columns = ["", "used", "most often"]
    return Grid("choices", frame, columns, rows, "Configurations chosen most often", numeric=0)


def _examples(findings: Findings) -> list[Block]:
    found = examples(findings)
    if isinstance(found, str):
        return [Text(f"Examples are left out: {found}.")]
    caption = (
        f"Test samples from easy to hard: by how many of the {len(findings.configs)} configurations answer "
        "them rightly. Under each: its class, that share, and what each policy ran and answered."
    )
    return [Gallery(found, "Example images from easy to hard", caption)]
