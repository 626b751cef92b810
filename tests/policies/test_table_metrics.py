"""Metrics of a whole data set: sums first, then ratios; and a table that keeps the sums or refuses to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import FileError
from policies.evaluate import baselines
from policies.table import OutcomeTable, OutcomeTableWriter, metrics
from policies.table.metrics import DatasetMetric

MIOU = DatasetMetric("mIoU", (0, 1, 2), (3, 4, 5), "%")
RMSE = DatasetMetric("RMSE", (0,), (3,), "m", root=True, lower_is_better=True)
COLUMNS = [f"i{k}" for k in range(3)] + [f"u{k}" for k in range(3)]


def build(make_table, n=40, **changed):
    """A table whose unions are never smaller than its intersections; class 2 is nowhere."""
    table = make_table(n, prediction=None, nll=None)
    rng = np.random.default_rng(0)
    unions = rng.integers(0, 50, (n, table.n_configs, 3))
    both = np.minimum(unions, rng.integers(0, 50, unions.shape))
    both[..., 2] = unions[..., 2] = 0
    given = {
        "metrics": np.concatenate([both, unions], -1).astype(np.uint16),
        "meta": {**table.meta, "metrics": metrics.described(COLUMNS, [MIOU, RMSE])},
    }
    return make_table(n, prediction=None, nll=None, **(given | changed))


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_a_value_is_the_mean_of_ratios_of_sums(seed, n):
    sums = np.random.default_rng(seed).integers(0, 4, (n, 6))
    for row, value in zip(sums, MIOU.value(sums), strict=True):
        ratios = [row[k] / row[k + 3] for k in range(3) if row[k + 3]]
        assert (np.isnan(value) and not ratios) or value == pytest.approx(np.mean(ratios))


def test_a_root_is_taken_of_the_mean():
    assert RMSE.value([18, 0, 0, 2, 0, 0]) == 3


def test_values_carry_their_units():
    assert MIOU.text(0.38421) == "38.42 %"
    assert RMSE.text(0.51345) == "0.5134 m"
    assert DatasetMetric("abs-rel", (0,), (1,)).text(0.104211) == "0.1042"
    assert MIOU.text(float("nan")) == "-"


def test_configurations_and_choices_sum_over_the_same_rows(make_table):
    table = build(make_table)
    rows = table.rows("test")
    every = metrics.of_configurations(table, rows)
    assert set(every) == {"mIoU", "RMSE"}
    for column in (0, 5, table.full):
        alone = metrics.of_choices(table, rows, np.full(len(rows), column))
        assert alone["mIoU"] == pytest.approx(every["mIoU"][column])
        expected = MIOU.value(np.asarray(table.metrics, float)[rows, column].sum(0))
        assert alone["mIoU"] == pytest.approx(float(expected))


def test_a_mean_of_scores_is_another_number_than_the_metric(make_table):
    """Two images, one class: 1 of 2 and 1 of 8 pixels; the mean of IoUs is 31 %, the IoU of sums 20 %."""
    sums = np.array([[1, 0, 0, 2, 0, 0], [1, 0, 0, 8, 0, 0]])
    assert MIOU.value(sums).mean() == pytest.approx(0.3125)
    assert MIOU.value(sums.sum(0)) == pytest.approx(0.2)


def test_resampled_sums_scatter_around_the_sum(make_table):
    columns = np.random.default_rng(1).random((200, 6))
    drawn = metrics.resampled(columns, resamples=400)
    assert drawn.shape == (400, 6)
    np.testing.assert_allclose(drawn.mean(0), columns.sum(0), rtol=0.02)
    assert np.array_equal(drawn, metrics.resampled(columns, resamples=400))


def test_a_table_keeps_them_over_saving(make_table, tmp_path):
    table = build(make_table)
    table.save(tmp_path / "t")
    again = OutcomeTable.load(tmp_path / "t")
    assert np.array_equal(again.metrics, table.metrics)
    assert metrics.declared(again.meta) == (MIOU, RMSE)
    assert metrics.declared(make_table(8).meta) == ()
    assert metrics.of_configurations(make_table(8), [0, 1]) == {}


def test_metrics_that_are_kept_but_not_declared_are_refused_and_the_other_way_round(make_table, tmp_path):
    table = build(make_table)
    with pytest.raises(FileError, match="not declared"):
        make_table(40, prediction=None, nll=None, metrics=table.metrics)
    table.save(tmp_path / "t")
    (tmp_path / "t" / "metrics.npy").unlink()
    with pytest.raises(FileError, match="declared, but missing"):
        OutcomeTable.load(tmp_path / "t")


@pytest.mark.parametrize(
    "told",
    [
        [],
        {"columns": ["a"]},
        {"columns": COLUMNS, "dataset": [{"name": "x"}]},
        {"columns": COLUMNS, "dataset": [{**vars(MIOU), "over": [0, 9, 1]}]},
        {"columns": COLUMNS, "dataset": [{**vars(MIOU), "under": [0]}]},
        {"columns": COLUMNS, "dataset": [{**vars(MIOU), "over": ["0", 1, 2]}]},
    ],
)
def test_declarations_that_make_no_sense_are_refused(told):
    with pytest.raises(FileError, match="metrics"):
        metrics.declared({"metrics": told})


def test_counts_that_do_not_fit_are_refused_when_written(make_table, tmp_path):
    table = build(make_table)
    writer = OutcomeTableWriter.create(
        tmp_path / "t",
        n_samples=40,
        configs=table.configs,
        increment_flops=table.increment_flops,
        signal_names=table.signal_names,
        feature_names=table.feature_names,
        feature_flops=7,
        meta={"metrics": table.meta["metrics"]},
        classes=False,
        metrics_dtype="uint16",
    )
    given = {name: getattr(table, name) for name in ("score", "agreement", "signals", "features")}
    given |= {"sample_ids": list(table.samples["sample_id"]), "targets": [-1] * 40, "splits": "test"}
    with pytest.raises(FileError, match="metrics does not fit in uint16"):
        writer.write(0, 40, metrics=table.metrics.astype(np.int64) + 2**16, **given)
    writer.write(0, 40, metrics=table.metrics, **given)
    assert np.array_equal(writer.finish().metrics, table.metrics)


def test_the_same_map_need_not_be_the_same_in_every_pixel(make_table):
    table = build(make_table)
    agreement = np.full(table.score.shape, 0.96, np.float32)
    agreement[:, table.full] = 1
    near = build(make_table, agreement=agreement)
    same = baselines(near, "test", resamples=0).oracles[1]
    assert same.name == "same-answer oracle (agreement of 0.95)"
    assert same.cost_flops.mean == near.cost_flops.min()
    strict = baselines(make_table(40, agreement=agreement), "test", resamples=0).oracles[1]
    assert strict.name == "same-answer oracle"
    assert strict.cost_flops.mean == near.cost_flops.max()
