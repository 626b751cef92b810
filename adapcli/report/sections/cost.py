"""What things cost: both conventions of FLOPs, memory, and latency where it was measured."""

import numpy as np

from adapcli.report import labels
from adapcli.report.document import Block, Facts, Section, Text
from adapcli.report.findings import Findings
from adapcli.report.sections import hardware
from adapcli.report.units import CostUnit, part, significant


def section(findings: Findings) -> Section:
    """The full configuration in both conventions, the extremes, and latencies."""
    blocks: list[Block] = [Text(CONVENTIONS), Facts(_facts(findings)), *hardware.blocks(findings)]
    return Section("cost", "Cost", blocks)


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
    shared = _shared_flops(findings)
    if shared:
        told = f"{_own_unit(shared)}, {part(shared / findings.full_flops)} of full"
        items.append(("paid by every configuration (input stage, fewest tokens)", told))
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


def _shared_flops(findings: Findings) -> float:
    """What every configuration executes before it differs from any other; 0 where that is not known.

    Going on from another configuration saves at least that: the dearest way to continue saves nothing else.
    """
    table = findings.table
    going_on = np.where(np.isfinite(table.increment_flops), table.increment_flops, 0.0)
    dearest = going_on.max(axis=0, where=~np.eye(table.n_configs, dtype=bool), initial=0.0)
    saved = np.where(dearest > 0, table.cost_flops - dearest, 0.0)
    return max(0.0, float(saved.min()))


def _own_unit(cost_flops: float) -> str:
    return CostUnit.of([cost_flops]).text(cost_flops)


def _cheapest(findings: Findings, index: int) -> str:
    cost = float(findings.table.cost_flops[index])
    return f"{findings.unit.text(cost)}, {part(cost / findings.full_flops)} of full"


def _mebibytes(findings: Findings) -> float:
    return float(findings.table.configs["memory_bytes"].iloc[findings.table.full]) / 2**20
