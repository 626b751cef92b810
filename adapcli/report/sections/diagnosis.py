"""What was diagnosed of the checkpoint: a line per failure signature."""

from collections.abc import Sequence

import pandas as pd

from adapcli.evaluation.diagnosis.check import Check
from adapcli.report import labels
from adapcli.report.document import Block, Grid, Section, Text
from adapcli.report.findings import Findings
from adapcli.report.units import percent

COLUMNS = ("tokens", "width", "depth", "ece")


def section(findings: Findings) -> Section:
    """The verdicts, with what they warn of, and every readout's calibration error; or how to get them."""
    found = findings.diagnosis
    if found is None:
        told = f"The checkpoint was not diagnosed; {findings.command('diagnose')} does."
        return Section("diagnosis", "Diagnosis", [Text(told)])
    warned = len(found.warnings)
    counted = f"{warned} of {len(found.checks)} checks {'warns' if warned == 1 else 'warn'}"
    blocks: list[Block] = [Text(f"{counted if warned else 'No check warns'}.")]
    blocks += [Text(labels.readable(f"Warning, {c.name}: it {c.limit}.")) for c in found.warnings]
    blocks += [_verdicts(found.checks), *_readouts(found.checks)]
    return Section("diagnosis", "Diagnosis", blocks)


def _verdicts(checks: Sequence[Check]) -> Grid:
    rows = [[c.name, "warning" if c.warning else "ok", c.verdict] for c in checks]
    shown = [[labels.readable(name), labels.readable(f"{state}: {told}")] for name, state, told in rows]
    frame = pd.DataFrame(rows, columns=["check", "state", "verdict"])
    frame["limit"] = [c.limit for c in checks]
    strong = frozenset(i for i, check in enumerate(checks) if check.warning)
    caption = "Failure signatures looked for; the csv says from where on each is a warning, and why"
    return Grid("diagnosis", frame, ["check", "verdict"], shown, caption, numeric=0, strong=strong)


def _readouts(checks: Sequence[Check]) -> list[Block]:
    """Calibration error by depth and tokens, at the full width; the csv holds every width."""
    numbers = next((c.numbers.get("readouts") for c in checks if c.name == "calibration"), None)
    frame = pd.DataFrame(numbers if isinstance(numbers, list) else [])
    if not set(COLUMNS) <= set(frame.columns) or not all(
        pd.api.types.is_numeric_dtype(frame[name]) for name in COLUMNS
    ):
        return []
    widest = frame[frame["width"] == frame["width"].max()]
    by_depth = widest.pivot_table(index="depth", columns="tokens", values="ece")
    columns = ["depth", *(f"t={tokens:g}" for tokens in by_depth.columns)]
    rows = [[f"{depth:g}", *(percent(value) for value in row)] for depth, row in by_depth.iterrows()]
    caption = f"Calibration error of every readout, by depth and tokens, at width {frame['width'].max():g}"
    return [Grid("readouts", frame, columns, rows, caption, numeric=len(columns), folded=len(rows) > 12)]
