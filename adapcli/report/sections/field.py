"""All kinds of policies beside each other, and which one to take."""

from functools import partial

import pandas as pd

from adapcli.report import labels
from adapcli.report.document import Block, Drawing, Grid, Section, Text
from adapcli.report.field import FieldFound, Standing
from adapcli.report.figures.field import gaps
from adapcli.report.findings import Findings
from adapcli.report.units import MISSING, duration, percent
from policies.statistics import Interval


def sections(findings: Findings) -> list[Section]:
    """None where policies were trained one by one."""
    found = findings.field_found
    if found is None:
        return []
    blocks: list[Block] = [Text(_advice(found)), Text(_how_to_read(found))]
    closers = [standing for standing in found.standings if standing.gap is not None]
    if closers:
        blocks.append(_figure(found, closers))
    blocks.append(_grid(found))
    blocks += [Text(f"Left out: {name}, because {reason}.") for name, reason in _left(found)]
    return [Section("field", "The field of policies", blocks)]


def _left(found: FieldFound) -> list[tuple[str, str]]:
    return [(labels.readable(name), labels.readable(reason)) for name, reason in found.skipped.items()]


def _advice(found: FieldFound) -> str:
    return f"Recommended: {' '.join(found.reason)}"


def _how_to_read(found: FieldFound) -> str:
    return (
        f"Recommended by {labels.plural(found.n_tune, 'tune sample')}; the numbers below are of "
        f"{labels.plural(found.n, 'test sample')}. A policy's curve is its whole family, statics included; "
        "what it saves is read from it at a given loss of score. The gap is what it saves beyond static "
        "choices, summed over losses of 0.1 to 2 points, as a part of what knowing beforehand which answers "
        "agree would save. Intervals are over samples, paired, and hold for the pool that the samples were "
        "drawn from and for this model. Oracles are never attainable."
    )


def _figure(found: FieldFound, closers: list[Standing]) -> Drawing:
    best = max(
        closers, key=lambda standing: standing.gap.mean if standing.gap and standing.attainable else -1
    )
    named = labels.plural(len(closers), "policy or oracle", "policies and oracles")
    return Drawing(
        "field",
        lambda layout: partial(gaps, closers, found.recommended)(layout=layout),
        f"Part of the gap closed by {named}; the most, of policies, by {labels.readable(best.name)}.",
        f"On {labels.plural(found.n, 'test sample')}. Bars are 95 % intervals over samples; small ticks are "
        "single seeds, worst and best. Hollow marks are oracles.",
    )


def _grid(found: FieldFound) -> Grid:
    drops = found.standings[0].drops
    columns = ["", *(f"saves at −{100 * drop:g}, %" for drop in drops), f"of static at −{100 * drops[1]:g}"]
    columns += ["gap", "95 % interval", "seeds", "training"]
    rows = [_row(standing) for standing in found.standings]
    names = [standing.name for standing in found.standings]
    strong = frozenset(i for i, name in enumerate(names) if name == found.recommended)
    quiet = frozenset(i for i, standing in enumerate(found.standings) if not standing.attainable)
    caption = f"The field, on {labels.plural(found.n, 'test sample')}"
    frame = pd.DataFrame([_record(standing) for standing in found.standings])
    return Grid("field", frame, columns, rows, caption, numeric=8, strong=strong, quiet=quiet)


def _row(standing: Standing) -> list[str]:
    name = labels.readable(standing.name) + ("" if standing.attainable else " (not achievable)")
    spread = MISSING
    if standing.worst is not None and standing.best is not None:
        spread = f"{standing.worst:.2f} to {standing.best:.2f}".replace("-", "−")
    return [
        name,
        *(_saving(saving) for saving in standing.saving_full),
        percent(standing.saving_static[1].mean),
        MISSING if standing.gap is None else f"{standing.gap.mean:.2f}",
        ""
        if standing.gap is None
        else f"{standing.gap.low:.2f} to {standing.gap.high:.2f}".replace("-", "−"),
        spread,
        MISSING if standing.seconds is None else duration(standing.seconds),
    ]


def _saving(saving: Interval) -> str:
    return f"{100 * saving.mean:.1f} ({100 * saving.low:.1f} to {100 * saving.high:.1f})".replace("-", "−")


def _record(standing: Standing) -> dict[str, object]:
    record: dict[str, object] = {"name": standing.name, "attainable": standing.attainable}
    parts = {"gap": standing.gap}
    for drop, full, static in zip(standing.drops, standing.saving_full, standing.saving_static, strict=True):
        parts |= {f"saving_full_{drop:g}": full, f"saving_static_{drop:g}": static}
    for name, interval in parts.items():
        ends = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
        record |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return record | {
        "gap_worst_seed": standing.worst,
        "gap_best_seed": standing.best,
        "seconds": standing.seconds,
    }
