"""How the model was trained, if it was trained in this run."""

import pandas as pd

from adapcli.report import labels
from adapcli.report.curves import read_curves
from adapcli.report.document import Block, Drawing, Grid, Section, Text
from adapcli.report.figures.training import CORNERS, learning_curves
from adapcli.report.findings import Findings
from adapcli.report.units import MISSING, percent, significant

NAMES = {name: label for name, label, *_ in CORNERS}


def sections(findings: Findings) -> list[Section]:
    """Learning curves, and the last values of each stage; no section without a training run."""
    lines = read_curves(findings.run.train)
    if lines is None:
        return []
    drawing = Drawing(
        "training",
        lambda layout: learning_curves(lines, layout=layout),
        f"Learning curves over {labels.number(int(lines['step'].max()))} steps.",
        "Parts of the loss (smoothed where there are many points, pale: as measured), accuracy of the "
        "corners of the grid on tune samples with the averaged weights, and learning rate. Dotted lines: a "
        "new stage begins.",
    )
    blocks: list[Block] = [drawing, _stages(lines)]
    other = _other_checkpoint(findings)
    if other:
        blocks.insert(0, Text(other))
    return [Section("training", "Training", blocks)]


def _stages(lines: pd.DataFrame) -> Grid:
    """Per stage: its last step, last mean loss, and last accuracy of each corner."""
    shown = [name for name in NAMES if name in lines]
    numbers = ["step", "loss", *shown] if "loss" in lines else ["step", *shown]
    last = lines.groupby("stage", sort=False)[numbers].last().reset_index()
    rows = [
        [
            labels.readable(str(row["stage"])),
            labels.number(int(row["step"])),
            significant(row["loss"], 3) if "loss" in row and pd.notna(row["loss"]) else MISSING,
            *(percent(row[name]) if pd.notna(row[name]) else MISSING for name in shown),
        ]
        for _, row in last.iterrows()
    ]
    columns = ["stage", "to step", "loss", *(NAMES[name] for name in shown)]
    caption = "What was logged last in each stage; accuracies on tune samples"
    return Grid("training", last, columns, rows, caption, numeric=len(columns) - 1)


def _other_checkpoint(findings: Findings) -> str:
    """A sentence if the table is known to be of another checkpoint than this training made."""
    known = findings.provenance
    scored, trained = known.get("checkpoint"), known.get("trained")
    path = scored.get("path") if isinstance(scored, dict) else None
    if not isinstance(path, str) or path == trained:
        return ""
    ended = "has not ended" if not isinstance(trained, str) else f"made {labels.readable(trained)}"
    return f"This training {ended}; the table of this run is of another checkpoint, {labels.readable(path)}."
