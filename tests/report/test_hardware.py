"""What a bench measured, as a report shows it."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from adapcli.main import main
from adapcli.measure.bench import Row
from adapcli.measure.record import Measurement, Record
from adapcli.report import style, summary
from adapcli.report.build import compose
from adapcli.report.figures.latency import latency as draw_latency
from adapcli.report.findings import gather
from adapcli.report.sections import verdict
from adapcli.search import Target, exhaustive
from adapcli.search.objectives import objective
from policies.table import latency
from policies.table.latency import Condition

ONE = Condition(1, "cpu: <b>A</b>", "float32", 1, False)
SIXTEEN = replace(ONE, batch=16)
OTHER = Condition(1, "cuda: B", "bfloat16", 1, True)


def milliseconds(table, *, worst_first=False):
    """In the order of the FLOPs, or against it."""
    cost = table.cost_flops / table.cost_flops.max()
    return 1 / cost if worst_first else cost


def static_rows(table, condition, ms):
    frame = pd.DataFrame({"configuration": range(table.n_configs), "median_ms": ms})
    frame = frame.assign(q25_ms=0.9999 * frame["median_ms"], q75_ms=1.0001 * frame["median_ms"], rounds=15)
    frame = frame.assign(samples_per_s=1e3 / frame["median_ms"], peak_memory_bytes=3 * 2**20)
    return frame.assign(**condition.to_dict())[list(latency.COLUMNS)]


def measurement(table, condition, ms):
    given = {
        "batch": condition.batch,
        "peak_memory_bytes": 3 * 2**20,
        "rounds": 15,
        "samples": condition.batch,
    }
    axes = table.configs[["tokens", "width", "depth"]].to_dict("records")
    named = [
        ("static", f"t{a['tokens']} w{a['width']} l{a['depth']}", t, a) for a, t in zip(axes, ms, strict=True)
    ]
    others = [("direct", "direct", 2.0, {}), *(("policy", name, 0.5, {}) for name in ("threshold", "hasty"))]
    rows = [
        Row(kind, name, median_ms=t, q25_ms=0.99 * t, q75_ms=1.01 * t, samples_per_s=1000 / t, **given, **a)
        for kind, name, t, a in [*named, *others]
    ]
    return Measurement(condition, "2026-01-02T03:04:05+00:00", {"name": "A"}, {}, {"rounds": 15}, tuple(rows))


@pytest.fixture
def benched(tmp_path, synthetic_table, make_run):
    """A run measured at two batch sizes on one machine, and on another that orders by FLOPs."""
    ms = milliseconds(synthetic_table)
    order = {ONE: milliseconds(synthetic_table, worst_first=True), SIXTEEN: ms, OTHER: ms}
    rows = pd.concat([static_rows(synthetic_table, c, t) for c, t in order.items()], ignore_index=True)
    run = make_run(tmp_path / "run", replace(synthetic_table, latency=rows))
    measured = tuple(measurement(synthetic_table, c, t) for c, t in order.items())
    fingerprint = synthetic_table.meta["fingerprints"]["checkpoint"]
    Record({"path": "m.pt", "fingerprint": fingerprint}, measured).save(run.bench)
    return run


def grid(document, name):
    return next(grid for grid in document.grids() if grid.name == name)


def composed(run):
    return compose(gather(run), None, made="now")


def test_each_machine_has_its_table(benched):
    document, table = composed(benched), gather(benched).table
    latest, first = grid(document, "bench"), grid(document, "bench_2")
    assert "cuda: B, bfloat16, 1 thread, compiled" in latest.caption
    assert "cpu: <b>A</b>" in first.caption
    assert [row[1] for row in first.rows] == ["1"] * (len(first.rows) // 2) + ["16"] * (len(first.rows) // 2)
    shown = {row[0]: row for row in latest.rows}
    chosen = gather(benched).chosen
    assert {"direct", "full configuration: t16 w64 l6", "policy threshold"} <= set(shown)
    assert any(name.startswith("chosen: ") for name in shown)
    assert shown["full configuration: t16 w64 l6"][1:] == [
        "1",
        "1.00",
        "0.990 to 1.01",
        "1000",
        "3.00",
        "2.00x",
        "1.05x",
    ]
    assert shown["policy threshold"][-2] == "4.00x"
    ms = milliseconds(table)[chosen]
    frame = latest.frame.set_index("name")
    assert frame["median_ms"].filter(like="chosen").item() == pytest.approx(ms)


def test_disagreement_is_warned_of_where_it_is(benched):
    findings = gather(benched)
    (warning,) = findings.warnings
    assert warning.startswith("FLOPs and latency disagree (batch 1, cpu: <b>A</b>")
    assert "rank correlation over 90 configurations -1.00" in warning
    rows = {row[0]: row[1:] for row in grid(composed(benched), "order").rows}
    pairs = rows[str(ONE)][0]
    assert rows[str(ONE)] == [pairs, pairs, "-1.00"]
    assert rows[str(SIXTEEN)] == rows[str(OTHER)] == [pairs, "0", "1.00"]


def test_the_verdict_tells_how_fast_its_choices_were_measured(benched):
    findings = gather(benched)
    static, policy, full = verdict.answers(findings)
    told = "Measured speed against the model as published: "
    assert policy.notes[-1] == f"{told}4.00x at batch 1 (cuda: B, bfloat16, 1 thread, compiled)."
    ms = milliseconds(findings.table)[findings.chosen]
    assert static.notes[-1].startswith(f"{told}{2 / ms:.2f}x at batch 1 (cuda: B")
    assert not any("speed" in note for note in full.notes)
    *before, last = findings.bench.measurements
    Record(findings.bench.checkpoint, (last, *reversed(before))).save(benched.bench)
    policy = verdict.answers(gather(benched))[1]
    assert (
        policy.notes[-1] == f"{told}4.00x at batch 1, 4.00x at batch 16 (cpu: <b>A</b>, float32, 1 thread)."
    )


def test_a_choice_that_saves_flops_and_costs_time_says_so_first(benched):
    """The policy takes less than a fifth of the FLOPs; measured at 0.5x, it does not pay in time."""
    findings = gather(benched)
    fast = verdict.answers(findings)[1]
    assert "more time" not in fast.headline
    for m in findings.bench.measurements:
        direct = m.row("direct").median_ms
        rows = [replace(r, median_ms=2 * direct) if r.kind == "policy" else r for r in m.rows]
        object.__setattr__(m, "rows", tuple(rows))
    slow = verdict.answers(findings)[1]
    assert slow.headline.endswith(
        "; fewer FLOPs but more time: 0.50x at batch 1 the speed of the model as published"
    )
    notes = " ".join(slow.notes)
    assert ", not in time" in notes or "cannot be told" in notes
    assert "pays." not in notes


def test_every_measurement_is_listed_by_name(benched):
    every = grid(composed(benched), "latency")
    assert len(every.rows) == 3 * 90
    assert every.folded
    assert every.rows[0][:2] == ["t1 w16 l1", str(ONE)]
    assert tuple(every.frame.columns) == latency.COLUMNS


def test_the_page_is_built_and_names_are_escaped(benched, capsys):
    assert main(["report", "--run", str(benched.folder), "--json"]) == 0
    shown = capsys.readouterr()
    assert "warning: FLOPs and latency disagree" in shown.err
    assert len(json.loads(shown.out)["warnings"]) == 1
    page = (benched.report / "index.html").read_text()
    assert "&lt;b&gt;A&lt;/b&gt;" in page
    assert "<b>A</b>" not in page
    assert (benched.report / "tables" / "bench.csv").exists()


def test_a_choice_by_latency_is_told_in_milliseconds(benched):
    table = gather(benched).table
    result = exhaustive(table, Target(limit=0.3), objective=objective("latency", SIXTEEN))
    result.save(benched.search, overwrite=True)
    document = composed(benched)
    cost = milliseconds(table)[result.choice.index]
    assert f"at {cost:.3g}" in document.answers[0].headline
    assert " ms, " in document.answers[0].headline
    assert "latency of at most 0.300 ms (batch 16, cpu: <b>A</b>" in document.answers[0].notes[0]
    assert list(grid(document, "front").columns)[1] == "ms"
    by_memory = exhaustive(table, Target(limit=4e6), objective=objective("memory", SIXTEEN))
    by_memory.save(benched.search, overwrite=True)
    document = composed(benched)
    assert "3.00 MiB" in document.answers[0].headline
    assert grid(document, "front").rows[0][1] == "3.00"


def test_a_bench_of_another_checkpoint_is_left_out(benched):
    record = Record.load(benched.bench)
    replace(record, checkpoint={"path": "m.pt", "fingerprint": "other"}).save(benched.bench)
    document = composed(benched)
    assert any("another checkpoint" in warning for warning in document.warnings)
    assert "bench" not in [grid.name for grid in document.grids()]


def test_without_a_bench_the_command_is_named(full_run):
    texts = [
        getattr(block, "text", "") for section in composed(full_run).sections for block in section.blocks
    ]
    assert any("adap bench" in text for text in texts)
    assert not any("adap bench" in text for text in summary.missing(composed(full_run)))


def test_a_drawing_tells_batches_and_machines_apart(benched):
    findings = gather(benched)
    drawing = next(d for d in composed(benched).drawings() if d.name == "latency")
    labels = [text.get_text() for text in drawing.draw(style.WIDE).legends[0].get_texts()]
    assert len(set(labels)) == 3
    assert all(label.startswith("batch ") for label in labels)
    alone = findings.table.latency[findings.table.latency["device"] == ONE.device]
    frame = alone.assign(cost_flops=1e6)
    drawn = draw_latency(frame, unit=findings.unit)
    assert [t.get_text() for t in drawn.legends[0].get_texts()] == ["batch 1", "batch 16"]
