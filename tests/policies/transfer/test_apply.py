"""A policy on another table: the same evaluation, what it promised, and reasons to calibrate anew."""

from dataclasses import replace

import numpy as np
import pytest

from policies import base, evaluate, registry, transfer
from policies.errors import FileError
from policies.files import write_json
from policies.guarantee import Promise
from policies.statistics import Interval, wilson
from policies.transfer.apply import difference


def keep(table, folder, algo="threshold", **goal):
    """As `adap train-policy` keeps it."""
    trained = registry.train(algo, table, **goal)
    base.save(trained.policy, folder, certificate=trained.certificate)
    judged = evaluate.evaluate(trained.policy, table, resamples=50)
    content = {"evaluation": judged.to_dict(), "objective": trained.objective.to_dict()}
    write_json(folder / "evaluation.json", content)
    transfer.Reference.of(trained.policy, table).save(folder)
    return trained.policy


@pytest.fixture
def table(telling):
    return telling(4000)


def test_it_is_the_library_s_evaluation(table, telling, tmp_path):
    policy, other = keep(table, tmp_path, flops_target=0.6), telling(2000, seed=7)
    found = transfer.apply(policy, tmp_path, other, "calibration", resamples=30)
    assert found.evaluation == evaluate.evaluate(policy, other, "calibration", resamples=30)
    assert found.promised == evaluate.evaluate(policy, table, resamples=50)
    assert (found.drifted, found.labelled, found.same_data) == (False, True, True)
    assert found.reasons == ()


def test_other_data_are_told(table, telling, tmp_path):
    policy = keep(table, tmp_path, flops_target=0.6)
    meta = {"fingerprints": {"checkpoint": "abc", "data": "other"}}
    assert not transfer.apply(policy, tmp_path, telling(seed=7, meta=meta), resamples=0).same_data


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"depths": (1, 2)}, "18 / 12 configurations"),
        ({"meta": {"fingerprints": {"checkpoint": "other"}}}, "checkpoint abc / other"),
        ({"signal_names": ("certainty", "margin")}, "needs the signal confidence, which the table lacks"),
    ],
)
def test_other_grids_and_signals_are_refused(table, make_table, tmp_path, changed, told):
    policy = keep(table, tmp_path, flops_target=0.6)
    with pytest.raises(FileError, match=told):
        transfer.apply(policy, tmp_path, make_table(**changed))


def test_without_a_reference_drift_is_not_known(table, tmp_path):
    policy = keep(table, tmp_path, flops_target=0.6)
    (tmp_path / "reference.json").unlink()
    (tmp_path / "evaluation.json").unlink()
    found = transfer.apply(policy, tmp_path, table, resamples=0)
    assert (found.drift, found.drifted, found.promised, found.more_different) == (None, None, None, None)
    assert found.reasons == ()
    assert found.to_dict()["drifted"] is None


def test_drift_is_a_reason(table, telling, tmp_path):
    policy = keep(table, tmp_path, flops_target=0.6)
    found = transfer.apply(policy, tmp_path, telling(4000, seed=2, shift=-0.3), resamples=0)
    assert found.drifted
    assert found.reasons[0].startswith("what it looks at has drifted")


def test_other_answers_are_a_reason_that_needs_no_label(table, tmp_path):
    policy = keep(table, tmp_path, flops_target=0.6)
    agreement = table.agreement.copy()
    rows = table.rows("test")[::4]
    agreement[rows] = (np.arange(table.n_configs) == table.full).astype(np.float32)
    blind = replace(table, agreement=agreement, score=agreement, meta={**table.meta, "labels": False})
    found = transfer.apply(policy, tmp_path, blind, resamples=0)
    assert not found.labelled
    assert found.more_different.low > 0.005
    assert ["differs from the full configuration" in reason for reason in found.reasons] == [True]


def test_a_loss_beyond_what_was_asked_is_a_reason(table, tmp_path):
    policy = keep(table, tmp_path, max_drop=0.02)
    score = table.score.copy()
    score[table.rows("test"), table.full] = 1.0
    found = transfer.apply(policy, tmp_path, replace(table, score=score), resamples=0)
    assert any("than the 2 points that were asked for" in reason for reason in found.reasons)


def test_what_becomes_of_a_guarantee(table, telling, tmp_path):
    """It holds on samples of the same kind; not where what is seen drifts, nor where more is lost."""
    policy = keep(table, tmp_path, "threshold", promise=Promise(0.1))
    kept = transfer.apply(policy, tmp_path, table, resamples=0)
    assert kept.certificate_applies
    moved = transfer.apply(policy, tmp_path, telling(4000, seed=2, shift=-0.4), resamples=0)
    assert moved.certificate_applies is False
    score = np.zeros_like(table.score)
    score[:, table.full] = 1.0
    lost = transfer.apply(policy, tmp_path, replace(table, score=score), resamples=0)
    assert lost.certificate_applies is False
    assert "its guarantee does not hold here" in lost.reasons[-1]
    (tmp_path / "reference.json").unlink()
    assert transfer.apply(policy, tmp_path, table, resamples=0).certificate_applies is None


def test_damaged_promises_are_refused(table, tmp_path):
    policy = keep(table, tmp_path, flops_target=0.6)
    write_json(tmp_path / "evaluation.json", {"evaluation": {"name": 3}})
    with pytest.raises(FileError, match=r"evaluation\.json: not a usable evaluation"):
        transfer.apply(policy, tmp_path, table)


def test_the_interval_of_a_difference_is_newcombe_s():
    """His table II, rows (a) and (h), method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    for (a, m), (b, n), low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
    ):
        found = difference(wilson(a, m), wilson(b, n))
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
        assert found.mean == pytest.approx(a / m - b / n)
    sure = difference(Interval(0.5, 0.5, 0.5), Interval(0.2, 0.2, 0.2))
    assert sure == Interval(0.3, 0.3, 0.3)
