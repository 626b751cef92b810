"""What was measured on hardware: latency, throughput and memory, and where FLOPs mislead."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from adapcli.measure.bench import NOISY, Row, spread
from adapcli.measure.order import Comparison
from adapcli.measure.record import Measurement
from adapcli.report import labels
from adapcli.report.document import Block, Drawing, Grid, Text
from adapcli.report.figures.latency import latency as draw_latency
from adapcli.report.findings import Findings
from adapcli.report.units import MISSING, percent, significant
from policies.table import latency

SHOWN, FRONT_SHOWN = 12, 7
"""A longer table is folded; of a longer front some are shown."""
COLUMNS = (
    *("", "batch", "ms per batch", "quartiles", "samples per s", "peak memory, MiB"),
    *("against direct", "by FLOPs"),
)


def blocks(findings: Findings) -> list[Block]:
    """A table per machine, where both orders disagree, and every measurement; or how to measure."""
    measured = findings.table.latency
    found: list[Block] = list(_grids(findings))
    if findings.orders:
        found.append(_orders(findings.orders))
    if measured is not None and len(measured):
        found += _all(findings, measured)
    return found or [Text(f"Nothing was measured on hardware; {findings.command('bench')} does.")]


def gains(findings: Findings, kind: str, name: str) -> dict[int, float]:
    """Batch -> how many times as fast as the model as published, on the machine measured last.

    Empty if it was not measured there.
    """
    measurements = findings.bench.measurements if findings.bench else ()
    return {
        m.condition.batch: direct.median_ms / row.median_ms
        for m in sorted(measurements, key=lambda m: m.condition.batch)
        if m.condition.machine == measurements[-1].condition.machine
        and (row := m.row(kind, name))
        and (direct := m.row("direct"))
    }


def speed(findings: Findings, kind: str, name: str) -> list[str]:
    """A sentence on how fast something is on the machine measured last; none if it was not measured there."""
    found = gains(findings, kind, name)
    if not found or findings.bench is None:
        return []
    machine = labels.readable(findings.bench.measurements[-1].condition.machine)
    return [f"Measured speed against the model as published: {_times(found)} ({machine})."]


def slower(findings: Findings, kind: str, name: str, cost_flops: float) -> str:
    """Where something that saves FLOPs was measured to cost time, in a clause; else nothing."""
    found = {batch: gain for batch, gain in gains(findings, kind, name).items() if gain < 1}
    if not found or cost_flops >= findings.full_flops:
        return ""
    return f"fewer FLOPs but more time: {_times(found)} the speed of the model as published"


def _times(gains_: dict[int, float]) -> str:
    return ", ".join(f"{gain:.2f}x at batch {batch}" for batch, gain in gains_.items())


def _grids(findings: Findings) -> Iterable[Grid]:
    measurements = findings.bench.measurements if findings.bench else ()
    machines: dict[str, list[Measurement]] = {}
    for m in measurements:
        machines.setdefault(m.condition.machine, []).append(m)
    for number, same in enumerate(reversed(machines.values()), 1):
        name = "bench" if number == 1 else f"bench_{number}"
        yield _grid(findings, name, sorted(same, key=lambda m: m.condition.batch))


def _grid(findings: Findings, name: str, measurements: Sequence[Measurement]) -> Grid:
    """Direct, full, chosen, front and policies at every batch size, on one device."""
    rows: list[list[str]] = []
    records = []
    for m in measurements:
        direct = m.row("direct")
        for label, row in _worth_showing(findings, m):
            gain = direct.median_ms / row.median_ms if direct else float("nan")
            promised = _promised(findings, row)
            by_flops = MISSING if promised is None else f"{promised:.2f}x"
            rows.append([label, str(row.batch), *_numbers(row), f"{gain:.2f}x", by_flops])
            records.append(
                {"name": label, **_plain(row), "against_direct": gain, "promised_by_flops": promised}
            )
    caption = _caption(measurements[-1], [row for m in measurements for row in m.rows])
    return Grid(name, pd.DataFrame(records), COLUMNS, rows, caption, numeric=7, folded=len(rows) > 3 * SHOWN)


def _promised(findings: Findings, row: Row) -> float | None:
    """How much faster than direct it would be if FLOPs were time; None where its FLOPs are not known."""
    facts = findings.table.meta.get("full_configuration")
    direct = facts.get("published_flops") if isinstance(facts, dict) else None
    if row.kind == "direct" or not isinstance(direct, int | float):
        return 1.0 if row.kind == "direct" else None
    if row.kind == "policy":
        costs = {
            p.policy.name: p.evaluation.cost_flops.mean for p in findings.policies if p.policy is not None
        } | {p.name: p.evaluation.cost_flops.mean for p in findings.policies}
        return direct / costs[row.name] if row.name in costs else None
    configs = findings.table.configs
    known = {labels.configuration(configs, i): i for i in range(findings.table.n_configs)}
    at = known.get(row.name)
    return None if at is None else direct / float(findings.table.cost_flops[at])


def _caption(last: Measurement, rows: Sequence[Row]) -> str:
    noise = spread(rows)
    told = f"quartiles {percent(noise, 0)} apart as a rule"
    if noise > NOISY:
        told += ", which is noisy: measure again while little else is running"
    return (
        f"Measured on {labels.readable(last.condition.machine)}, {last.measured[:10]}: medians of "
        f"{last.protocol.get('rounds')} interleaved rounds, {told}. Direct is the full configuration as "
        "published: plain readout, dense attention; by FLOPs is what FLOPs promise against it (of a policy "
        "on the test samples). Peak memory is that of tensors, weights included"
    )


def _worth_showing(findings: Findings, measurement: Measurement) -> list[tuple[str, Row]]:
    """Rows and what to call them: direct, full, chosen, front, policies."""
    full, chosen = findings.table.full, findings.chosen
    static = {row.name: row for row in measurement.rows if row.kind == "static"}
    named = {full: "full configuration: "} | ({} if chosen is None else {chosen: "chosen: "})
    shown = [("direct", row) for row in measurement.rows if row.kind == "direct"]
    for index in dict.fromkeys((*named, *_some(findings.static_front))):
        label = labels.configuration(findings.table.configs, index)
        if label in static:
            shown.append((f"{named.get(index, '')}{label}", static[label]))
    policies = [row for row in measurement.rows if row.kind == "policy"]
    return [*shown, *((f"policy {labels.readable(row.name)}", row) for row in policies)]


def _some(front: Sequence[int]) -> list[int]:
    """The ends of the front and a few between."""
    return [front[round(i)] for i in np.linspace(0, len(front) - 1, min(len(front), FRONT_SHOWN))]


def _numbers(row: Row | latency.Cell) -> list[str]:
    quartiles = f"{significant(row.q25_ms)} to {significant(row.q75_ms)}"
    memory = significant(row.peak_memory_bytes / 2**20)
    return [significant(row.median_ms), quartiles, significant(row.samples_per_s), memory]


def _plain(row: Row) -> dict[str, object]:
    names = ("kind", "batch", "median_ms", "q25_ms", "q75_ms", "samples_per_s", "peak_memory_bytes", "rounds")
    return {name: getattr(row, name) for name in names}


def _orders(orders: Sequence[Comparison]) -> Grid:
    columns = ["measured at", "pairs compared", "in the other order", "rank correlation, all"]
    rows = [
        [
            labels.readable(str(o.condition)),
            labels.number(o.order.compared),
            labels.number(o.order.reversed),
            MISSING if o.overall is None else f"{o.overall:.2f}",
        ]
        for o in orders
    ]
    caption = (
        "FLOPs against latency: pairs of front configurations in which the one with fewer FLOPs is "
        "measurably slower (its lower quartile above the other's upper one)"
    )
    return Grid("order", pd.DataFrame(rows, columns=columns), columns, rows, caption, numeric=3)


def _all(findings: Findings, measured: pd.DataFrame) -> list[Block]:
    grid = _every(findings, measured) if findings.orders else _as_is(measured)
    return [_drawing(findings, measured), grid] if _drawable(findings, measured) else [grid]


def _every(findings: Findings, measured: pd.DataFrame) -> Grid:
    """Every measurement, the configuration by name; the csv holds every column."""
    columns = [
        "configuration",
        "measured at",
        "ms per batch",
        "quartiles",
        "samples per s",
        "peak memory, MiB",
    ]
    rows = [
        [
            labels.configuration(findings.table.configs, int(i)),
            labels.readable(str(m.condition)),
            *_numbers(row),
        ]
        for m in (latency.measured(measured, o.condition) for o in findings.orders)
        for i, row in m.rows()
    ]
    return Grid(
        "latency", measured, columns, rows, "Every configuration as measured", 4, folded=len(rows) > SHOWN
    )


def _as_is(measured: pd.DataFrame) -> Grid:
    """Rows of a table that was not made by a bench of ours."""
    columns = [str(name) for name in measured.columns]
    rows = [[_cell(value) for value in row] for row in measured.itertuples(index=False)]
    text = [i for i, name in enumerate(columns) if not pd.api.types.is_numeric_dtype(measured[name])]
    numeric = len(columns) - 1 - max(text, default=0)
    return Grid("latency", measured, columns, rows, "Latency as measured", numeric, folded=len(rows) > SHOWN)


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
        lambda layout: draw_latency(frame, unit=findings.unit, layout=layout),
        f"Measured latency over FLOPs, {len(frame)} measurements.",
        "Median latency over FLOPs; a colour for each batch size, device, type and number of threads.",
    )


def _cell(value: object) -> str:
    return significant(value, 3) if isinstance(value, float) else str(value)
