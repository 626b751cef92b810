from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from policies.anytime.soft import HardScores, SoftScores, aimed, belief, logistic, missing, scores_of
from policies.errors import UsageError
from policies.table import OutcomeTable


def classes_table(n=3000, k=4, seed=0, sharpen=1.0):
    """Three configurations of growing skill; the last knows the true probabilities, but for `sharpen`."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = (truth.cumsum(1) > rng.random((n, 1))).argmax(1)
    every = np.stack([logits + noise * rng.normal(size=(n, k)) for noise in (3.0, 1.0, 0.0)], axis=1)
    every *= np.array([1.0, 1.0, sharpen])[:, None]
    p = np.exp(every) / np.exp(every).sum(2, keepdims=True)
    ordered = np.sort(p, axis=2)
    answer = p.argmax(2)
    table = OutcomeTable.from_arrays(
        configs=pd.DataFrame(
            {"depth": [1, 2, 3], "cost_flops": [1, 2, 4], "readout_flops": 0, "memory_bytes": 0}
        ),
        score=answer == target[:, None],
        prediction=answer,
        nll=-np.log(p[np.arange(n), :, target]),
        signals=np.stack([ordered[..., -1], ordered[..., -1] - ordered[..., -2]], axis=-1),
        signal_names=("confidence", "margin"),
        samples=pd.DataFrame(
            {"split": np.resize(["fit", "tune", "calibration", "test"], n), "target": target}
        ),
    )
    return table, np.take_along_axis(p[:, 2], answer, axis=1)


def test_the_belief_in_an_answer_is_put_together_from_what_is_kept():
    """Exact where answers agree or are right, elsewhere not below the truth, close to it on the whole."""
    table, exact = classes_table()
    found = belief(table, np.arange(table.n_samples))
    known = (table.agreement == 1) | (table.score == 1)
    np.testing.assert_allclose(found[known], exact[known], atol=1e-6)
    assert (found >= exact - 1e-6).all()
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.98
    without = replace(table, signals=table.signals[..., :1], signal_names=("confidence",))
    assert (belief(without, np.arange(100)) >= found[:100] - 1e-6).all()


def test_soft_scores_have_the_means_of_hard_ones_and_less_noise():
    table, _ = classes_table()
    fit = table.rows("fit")
    soft = SoftScores.fit(table)(table, fit)
    np.testing.assert_allclose(soft.mean(0), table.score[fit].mean(0), atol=1e-4)
    assert (soft.var(0) < 0.7 * table.score[fit].var(0)).all()
    rows = table.rows("test")
    soft, hard = SoftScores.fit(table)(table, rows), table.score[rows]
    assert (np.diff(soft, axis=1).std(0) < np.diff(hard, axis=1).std(0)).all()


@pytest.mark.parametrize("sharpen", [0.5, 1.0, 2.0])
def test_what_is_overconfident_is_put_right(sharpen):
    """The full configuration's calibrated belief in its own answer is right as often as it says."""
    table, _ = classes_table(12000, sharpen=sharpen)
    scores, rows = SoftScores.fit(table), table.rows("test")
    said, right = scores(table, rows)[:, table.full], table.score[rows, table.full]
    raw = table.signals[rows, table.full, 0]

    def error(value):
        parts = np.array_split(np.argsort(value), 5)
        return max(abs(value[part].mean() - right[part].mean()) for part in parts)

    assert error(said) < 0.08
    assert sharpen == 1 or error(said) < 0.6 * error(raw)
    assert (scores.slope > 1.2) == (sharpen < 1)


def test_a_table_that_lacks_something_has_hard_scores(make_table):
    table, _ = classes_table(80)
    for changed, told in (
        ({"nll": None}, "prediction and nll"),
        ({"signal_names": ("x", "margin")}, "the signal confidence"),
        ({"score": table.score * np.float32(0.5)}, "0 or 1"),
    ):
        poor = replace(table, **changed)
        assert told in missing(poor)
        assert isinstance(scores_of(poor), HardScores)
        with pytest.raises(UsageError, match="soft scores need"):
            scores_of(poor, "soft")
    assert isinstance(scores_of(table), SoftScores)
    assert isinstance(scores_of(table, "hard"), HardScores)
    with pytest.raises(UsageError, match="score 'x': not known"):
        scores_of(table, "x")


def test_the_same_answer_is_aimed_at_without_any_label():
    table, _ = classes_table(80)
    rng = np.random.default_rng(1)
    other = replace(
        table,
        score=rng.random(table.score.shape, np.float32),
        nll=rng.random(table.score.shape, np.float32),
        samples=table.samples.assign(target=rng.permutation(table.samples["target"].to_numpy())),
    )
    one, two = aimed(table, "same-answer"), aimed(other, "same-answer")
    np.testing.assert_array_equal(one.score, table.agreement)
    for name in ("score", "agreement", "signals", "features"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.nll, two.nll) == (None, None)
    assert one.samples.equals(two.samples)
    assert aimed(table, "score") is table
    with pytest.raises(UsageError, match="target 'x'"):
        aimed(table, "x")


def test_logistic_fits_are_the_likeliest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)) * [1, 2, 0.5]
    y = (rng.random(x.shape) < 1 / (1 + np.exp(-([0.5, 2, -1] * x + [0, 1, -1])))).astype(float)
    slope, intercept = logistic(x, y)
    for column in range(3):

        def loss(line, x=x[:, column], y=y[:, column]):
            odds = line[0] * x + line[1]
            return (np.logaddexp(0, odds) - y * odds).sum()

        likeliest = minimize(loss, [1.0, 0.0]).x
        assert [slope[column], intercept[column]] == pytest.approx(likeliest, abs=0.01)


def test_logistic_fits_stay_finite_where_nothing_can_be_told_apart():
    x = np.column_stack([np.r_[-np.ones(50), np.ones(50)], np.zeros(100), np.linspace(-80, 80, 100)])
    y = np.column_stack([x[:, 0] > 0, np.ones(100), np.ones(100)]).astype(float)
    slope, intercept = logistic(x, y)
    assert np.isfinite([slope, intercept]).all()
    assert np.abs([slope, intercept]).max() < 50
