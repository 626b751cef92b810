"""What things cost: both conventions of FLOPs, memory, and latency where it was measured."""

import pandas as pd

from adapcli.report import labels
from adapcli.report.document import Block, Drawing, Facts, Grid, Section, Text
from adapcli.report.figures.latency import latency
from adapcli.report.findings import Findings
from adapcli.report.units import CostUnit, part, significant


def section(findings: Findings) -> Section:
    """The full configuration in both conventions, the extremes, and latencies."""
    blocks: list[Block] = [Text(CONVENTIONS), Facts(_facts(findings))]
    measured = findings.table.latency
    if measured is not None and len(measured):
        blocks += _latency(findings, measured)
    return Section("cost", "Cost", blocks)


SHOWN = 12
"""A longer table of latencies is folded."""
CONVENTIONS = (
    "1 multiply-add = 2 FLOPs, batch 1. Executed is what this project runs and what every figure here "
    "counts: the readout's constant query is folded into the weights, and attention skips what the block "
    "mask hides. Published counts the plain readout and dense attention, as the paper does."
)


def _facts(findings: Findings) -> list[tuple[str, str]]:
    table, unit = findings.table, findings.unit
    known = table.meta.get("full_configuration", {})
    cheapest = findings.cheapest
    items = [("full configuration, executed", unit.text(findings.full_flops))]
    if "published_flops" in known:
        items.append(("full configuration, published", _own_unit(known["published_flops"])))
    items.append(
        (f"cheapest, {labels.configuration(table.configs, cheapest)}", _cheapest(findings, cheapest))
    )
    items.append(
        (
            "features that policies see",
            _own_unit(table.feature_flops) if table.feature_names else "not stored",
        )
    )
    items.append(
        (
            "readout of the full configuration",
            _own_unit(float(table.configs["readout_flops"].iloc[table.full])),
        )
    )
    items.append(("memory of the full configuration", f"{significant(_mebibytes(findings))} MiB, estimated"))
    return items


def _own_unit(cost_flops: float) -> str:
    return CostUnit.of([cost_flops]).text(cost_flops)


def _cheapest(findings: Findings, index: int) -> str:
    cost = float(findings.table.cost_flops[index])
    return f"{findings.unit.text(cost)}, {part(cost / findings.full_flops)} of full"


def _mebibytes(findings: Findings) -> float:
    return float(findings.table.configs["memory_bytes"].iloc[findings.table.full]) / 2**20


def _latency(findings: Findings, measured: pd.DataFrame) -> list[Block]:
    columns = [str(name) for name in measured.columns]
    rows = [[_cell(value) for value in row] for row in measured.itertuples(index=False)]
    text = [i for i, name in enumerate(columns) if not pd.api.types.is_numeric_dtype(measured[name])]
    numeric = len(columns) - 1 - max(text, default=0)
    grid = Grid("latency", measured, columns, rows, "Latency as measured", numeric, folded=len(rows) > SHOWN)
    return [_drawing(findings, measured), grid] if _drawable(findings, measured) else [grid]


def _drawable(findings: Findings, measured: pd.DataFrame) -> bool:
    """Whether the rows say which configuration took how long."""
    if not {"configuration", "median_ms"} <= set(measured.columns):
        return False
    known = measured["configuration"].isin(range(findings.table.n_configs)).all()
    return bool(known and pd.api.types.is_numeric_dtype(measured["median_ms"]))


def _drawing(findings: Findings, measured: pd.DataFrame) -> Drawing:
    costs = findings.table.cost_flops[measured["configuration"].to_numpy(int)]
    frame = measured.assign(cost_flops=costs)
    return Drawing(
        "latency",
        lambda layout: latency(frame, unit=findings.unit, layout=layout),
        f"Measured latency over FLOPs, {len(frame)} measurements.",
        "Median latency over FLOPs; a colour for each batch size, device, type and number of threads.",
    )


def _cell(value: object) -> str:
    return significant(value, 3) if isinstance(value, float) else str(value)
