"""What a bench runs answers as the model does, and what it tells is what it measured."""

import json
from dataclasses import replace

import pytest
import torch

from adapcli.errors import FileError, UsageError
from adapcli.measure.bench import Bench, Row, extremes, latency_rows, spread
from adapcli.measure.latency import Stopwatch
from adapcli.measure.record import Measurement, Record
from adapcli.measure.selection import corners, restricted, rows_of, static_front
from adapcli.measure.workloads import Direct, Static, images, in_dtype, prepared
from adapcli.space import Configuration
from policies import pareto
from policies.table.latency import COLUMNS, Condition, check, conditions

CPU = torch.device("cpu")
WATCH = Stopwatch(rounds=3, min_time_s=0.0)
DENSE = {"output_feat_dim": 10}


def some(model, *indices):
    return [model.config.space[i] for i in indices]


def bench(model, configurations, batches=(1, 3), **changed):
    return Bench(prepared(model, CPU), configurations, batches, "cpu: A", stopwatch=WATCH, **changed)


@pytest.mark.parametrize(
    "changed",
    [{}, {"task": "distillation", **DENSE}, {"task": "features", "num_classes": None, **DENSE}],
    ids=["classification", "distillation", "features"],
)
def test_what_is_measured_answers_as_the_model_does(make_model, changed):
    model = make_model(**changed)
    x = images(model, 2)
    with torch.no_grad():
        for configuration in some(model, 0, 7, 20, 35):
            found, expected = Static(model, configuration)(x), model(x, configuration)
            for name in ("logits", "features"):
                if getattr(expected, name) is not None:
                    torch.testing.assert_close(
                        getattr(found, name), getattr(expected, name), atol=1e-5, rtol=1e-4
                    )
        if model.config.classifies:
            torch.testing.assert_close(Direct(model)(x).logits, model(x).logits, atol=1e-5, rtol=1e-4)


def test_bfloat16_is_autocast(make_model):
    model = make_model()
    call = in_dtype(Static(model, model.full_configuration), images(model, 2), torch.bfloat16)
    wide = in_dtype(Static(model, model.full_configuration), images(model, 2), torch.float32)
    assert call().logits.dtype == torch.bfloat16
    torch.testing.assert_close(call().logits.float(), wide().logits, atol=0.1, rtol=0.1)


def test_the_model_measured_is_a_copy(make_model):
    model = make_model()
    own = prepared(model, CPU)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in own.parameters())
    assert {p.data_ptr() for p in own.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())


def test_every_job_has_its_row(make_model):
    model, told = make_model(), []
    chosen = some(model, 0, 35)
    rows = bench(model, chosen).run(lambda *at: told.append(at))
    kinds = ("direct", "static", "static")
    assert [(row.batch, row.kind) for row in rows] == [(batch, kind) for batch in (1, 3) for kind in kinds]
    assert [row.configuration for row in rows[:3]] == [model.full_configuration, *chosen]
    weights = sum(4 * p.numel() for p in model.parameters())
    for row in rows:
        assert 0 < row.q25_ms <= row.median_ms <= row.q75_ms
        assert row.samples_per_s == pytest.approx(1000 * row.batch / row.median_ms)
        assert row.peak_memory_bytes > weights
        assert (row.rounds, row.samples) == (3, row.batch)
    assert all(
        large.peak_memory_bytes > small.peak_memory_bytes
        for small, large in zip(rows, rows[3:], strict=False)
    )
    assert told[-1] == (6 * 5, 6 * 5, "time")


def test_what_is_left_out_after_an_estimate_is_not_measured(make_model):
    model = make_model()
    job = bench(model, list(model.config.space), (1,))
    assert job.expected_s() > 0
    job.configurations = some(model, 3)
    assert [row.kind for row in job.run()] == ["direct", "static"]


def test_more_configurations_and_larger_batches_are_expected_to_take_longer(make_model):
    model = make_model()
    job = bench(model, list(model.config.space), (1,))
    job.stopwatch = Stopwatch(rounds=3, min_time_s=0.01)
    assert job.expected_s(some(model, 0)) < job.expected_s(some(model, 0, 1)) < job.expected_s()
    larger = bench(model, list(model.config.space), (1, 64))
    larger.stopwatch, larger.__dict__["_pace"] = job.stopwatch, job._pace
    assert larger.expected_s(some(model, 0)) > job.expected_s(some(model, 0))


def test_static_rows_become_the_table_s_latency(make_model):
    model = make_model()
    job = bench(model, some(model, 0, 35))
    rows = job.run()
    index = {configuration: i for i, configuration in enumerate(model.config.space)}
    frame = latency_rows(rows, {batch: job.condition(batch) for batch in job.batches}, index)
    check(frame, 36, "latency")
    assert tuple(frame.columns) == COLUMNS
    assert frame["configuration"].tolist() == [0, 35, 0, 35]
    assert conditions(frame) == [job.condition(1), job.condition(3)]
    assert frame["median_ms"].tolist() == [row.median_ms for row in rows if row.kind == "static"]


def test_the_spread_is_that_of_the_middle_row():
    rows = [replace(record().measurements[0].rows[0], q75_ms=1.5 + width) for width in (0.5, 0.2, 9.0)]
    assert spread(rows) == pytest.approx(0.25)


def test_extremes_and_corners(make_model):
    grid = list(make_model().config.space)
    assert [str(c) for c in extremes(grid)] == ["t1 w6 l1", "t8 w24 l3", "t8 w24 l1", "t1 w6 l3"]
    assert len(corners(grid)) == 8
    assert corners(grid[:1]) == grid[:1]


def test_a_grid_is_restricted_to_what_is_there(make_model):
    grid = list(make_model().config.space)
    assert restricted(grid, tokens=[5], depths=[2]) == [Configuration(5, w, 2) for w in (6, 13, 24)]
    with pytest.raises(UsageError, match="tokens 3: not allowed"):
        restricted(grid, tokens=[3])
    with pytest.raises(UsageError, match="none of these"):
        restricted([Configuration(1, 6, 1), Configuration(5, 13, 2)], tokens=[1], depths=[2])


def test_the_front_of_a_table_is_that_of_its_calibration_split(make_table):
    table = make_table(200)
    scores = table.score[table.rows("calibration")].mean(axis=0)
    assert static_front(table) == pareto.front(table.cost_flops, scores).tolist()


def test_a_table_of_something_else_cannot_be_run(make_table):
    table = make_table(20)
    assert rows_of(table)[Configuration(1, 8, 2)] == 1
    several = table.configs.assign(model=["a"] * 9 + ["b"] * 9)
    for configs in (several, table.configs.drop(columns="depth").assign(stage=range(18))):
        with pytest.raises(FileError, match="cannot be run"):
            rows_of(make_table(20, configs=configs))


def record():
    row = Row("policy", "p", 1, 2.0, 1.5, 2.5, 500.0, 4096, 15, 64)
    condition = bench_condition(1)
    found = Measurement(condition, "2026-01-02T03:04:05+00:00", {"device": "cpu"}, {}, {"rounds": 15}, (row,))
    return Record({"path": "m.pt", "fingerprint": "abc"}, (found,))


def bench_condition(batch):
    return Condition(batch, "cpu: A", "float32", 1, False)


def test_a_record_is_kept_and_found_again(tmp_path):
    record().save(tmp_path)
    found = Record.load(tmp_path)
    assert found == record()
    assert found.of(bench_condition(1)).row("policy", "p").median_ms == 2
    assert found.of(bench_condition(2)) is None
    same = found.measurements[0]
    other = replace(same, condition=bench_condition(2))
    assert found.adding([same]) == found
    assert [m.condition.batch for m in found.adding([other]).measurements] == [1, 2]


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"schema_version": 2}', '{"schema_version": 1}',
     '{"schema_version": 1, "checkpoint": {"path": "m", "fingerprint": "a"}, "measurements": [{}]}',
     '{"schema_version": 1, "checkpoint": 3, "measurements": []}'],
)  # fmt: skip
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "bench.json").write_text(content)
    with pytest.raises(FileError, match=r"bench\.json"):
        Record.load(tmp_path)


def test_a_record_of_nonsense_is_refused(tmp_path):
    path = record().save(tmp_path)
    path.write_text(path.read_text().replace("500.0", '"fast"'))
    with pytest.raises(FileError, match="no measurement"):
        Record.load(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *[(("condition", name), [1]) for name in ("batch", "device", "dtype", "threads", "compiled")],
        (("condition", "batch"), None),
        (("condition", "device"), 1e300),
        (("measured",), {}),
        (("device",), "x"),
        (("protocol",), -1),
        *[(("rows", 0, name), [1]) for name in ("kind", "name", "samples", "tokens", "width", "depth")],
        (("rows", 0, "kind"), "guess"),
        (("rows", 0, "batch"), 0.5),
    ],
)
def test_a_record_with_a_value_of_another_type_is_refused_in_one_line(tmp_path, place, value):
    record().save(tmp_path)
    content = json.loads((tmp_path / "bench.json").read_text())
    target = content["measurements"][0]
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    (tmp_path / "bench.json").write_text(json.dumps(content))
    with pytest.raises(FileError, match=f"not a usable bench: .*{place[-1]}") as caught:
        Record.load(tmp_path)
    assert "\n" not in caught.value.message
