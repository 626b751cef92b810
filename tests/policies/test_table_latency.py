"""Latency rows: kept per condition, replaced together, refused when damaged."""

import pandas as pd
import pytest

from policies.errors import FileError
from policies.table import OutcomeTable, latency
from policies.table.latency import Condition, check, conditions, measured, replaced

CPU = Condition(1, "cpu: A", "float32", 1, False)
GPU = Condition(16, "cuda: B", "bfloat16", 2, True)


def rows(condition=CPU, medians=(1.0, 3.0, 2.0)):
    found = []
    for index, median in enumerate(medians):
        values = {"configuration": index, "median_ms": median, "q25_ms": 0.9 * median, "q75_ms": 1.1 * median}
        rest = {"samples_per_s": 1000 / median, "peak_memory_bytes": 1000 + index, "rounds": 5}
        found.append(values | rest | condition.to_dict())
    return pd.DataFrame(found)[list(latency.COLUMNS)]


def test_a_condition_s_rows_come_back_by_configuration():
    found = measured(pd.concat([rows(GPU), rows(CPU)[::-1]]), CPU)
    assert found.index.tolist() == [0, 1, 2]
    assert found.median_ms.tolist() == [1, 3, 2]
    assert found.scattered(found.median_ms, 4).tolist() == [1, 3, 2, float("inf")]
    assert [cell.peak_memory_bytes for _, cell in found.rows()] == [1000, 1001, 1002]


def test_measuring_again_replaces_the_same_condition_alone():
    both = replaced(rows(CPU), rows(GPU))
    assert conditions(both) == [CPU, GPU]
    again = replaced(both, rows(CPU, (9.0,)))
    assert conditions(again) == [GPU, CPU]  # the latest last
    assert measured(again, CPU).median_ms.tolist() == [9]
    assert measured(again, GPU).median_ms.tolist() == [1, 3, 2]


def test_rows_are_put_into_a_finished_table(make_table, tmp_path):
    make_table(20).save(tmp_path / "table")
    before = {path.name: path.read_bytes() for path in (tmp_path / "table").iterdir()}
    latency.save(tmp_path / "table", rows(CPU), 18)
    latency.save(tmp_path / "table", rows(GPU), 18)
    loaded = OutcomeTable.load(tmp_path / "table")
    pd.testing.assert_frame_equal(loaded.latency, replaced(rows(CPU), rows(GPU)))
    after = {path.name: path.read_bytes() for path in (tmp_path / "table").iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"latency.csv"}
    latency.save(tmp_path / "table", rows(CPU), 18, overwrite=True)
    assert conditions(OutcomeTable.load(tmp_path / "table").latency) == [CPU]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="rounds"), "column rounds is missing"),
        (
            lambda f: f.assign(median_ms=[1.0, float("nan"), 2.0]),
            "column median_ms: a value that cannot be, row 1",
        ),
        (lambda f: f.assign(q25_ms=[0.5, 0.5, -1.0]), "column q25_ms: a value that cannot be, row 2"),
        (lambda f: f.assign(samples_per_s=[1.0, float("inf"), 1.0]), "samples_per_s"),
        (lambda f: f.assign(median_ms=["a", "b", "c"]), "not a column of numbers"),
        (lambda f: f.assign(configuration=[0.0, 1.5, 2.0]), "not a column of whole numbers"),
        (lambda f: f.assign(configuration=[0, 1, 3]), "no such configuration, row 2"),
        (lambda f: f.assign(configuration=[0, -1, 2]), "configuration: a value that cannot be, row 1"),
        (lambda f: f.assign(batch=0), "batch"),
        (lambda f: f.assign(compiled="yes"), "compiled is neither"),
        (lambda f: f.assign(q25_ms=[5.0, 1.0, 1.0]), "between the quartiles, row 0"),
        (lambda f: f.assign(configuration=[0, 1, 1]), "measured twice under one condition, row 2"),
    ],
)
def test_damaged_rows_are_refused_with_their_place(change, message, make_table, tmp_path):
    with pytest.raises(FileError, match=message):
        check(change(rows()), 3, "latency.csv")
    make_table(20).save(tmp_path / "table")
    change(rows()).to_csv(tmp_path / "table" / "latency.csv", index=False)
    with pytest.raises(FileError, match=r"latency\.csv"):
        latency.save(tmp_path / "table", rows(GPU), 3)


def test_the_name_of_a_condition():
    assert str(CPU) == "batch 1, cpu: A, float32, 1 thread"
    assert GPU.machine == "cuda: B, bfloat16, 2 threads, compiled"
