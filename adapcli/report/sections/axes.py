"""What tokens, width and depth each do."""

import pandas as pd

from adapcli.report import labels, tables
from adapcli.report.document import Block, Drawing, Grid, Section, Text
from adapcli.report.figures.axes import axis_effects
from adapcli.report.findings import Findings
from adapcli.report.units import part, percent, points


def section(findings: Findings) -> Section:
    """One small figure per axis."""
    effects = tables.axis_effects(findings.configs, findings.table.full)
    if effects.empty:
        return Section(
            "axes",
            "Effect of each axis",
            [Text("No axis of numbers varies over the table's configurations.")],
        )
    names = list(effects["axis"].unique())
    drawing = Drawing(
        "axes",
        lambda layout: axis_effects(effects, score_name=findings.score_name, layout=layout),
        f"{labels.opening(findings.score_name)} over {', '.join(names)}, others at full and at the cheapest.",
        "One axis at a time, the others held at the full configuration's values and at the cheapest's. The "
        "second line of the ticks is the cost, as part of the full configuration's, with the others at full. "
        f"Bars are 95 % intervals (smaller than the marks where not seen). On {findings.n_text}.",
    )
    return Section("axes", "Effect of each axis", [drawing, _extremes(findings, effects, names)])


def _extremes(findings: Findings, effects: pd.DataFrame, names: list[str]) -> Block:
    """What the lowest value of each axis loses and saves, the others at full."""
    rows = []
    for name in names:
        line = effects[(effects["axis"] == name) & (effects["others"] == "full")].sort_values("value")
        low, high = line.iloc[0], line.iloc[-1]
        change, saved = low["score"] - high["score"], 1 - low["fraction"] / high["fraction"]
        steps = f"{high['value']} to {low['value']}"
        rows.append([name, steps, part(low["fraction"]), percent(saved), points(change)])
    columns = ["axis", "from full to least", "cost, of full", "saves", f"{findings.score_name}, points"]
    caption = "Taking one axis from full to its least value, the others at full"
    return Grid("axis_effects", effects, columns, rows, caption, numeric=3)
