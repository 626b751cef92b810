import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies import statistics
from policies.errors import UsageError

confidences = st.sampled_from([0.5, 0.9, 0.95, 0.99])


@given(st.integers(1, 500), st.data(), confidences)
def test_wilson_equals_scipy(n, data, confidence):
    successes = data.draw(st.integers(0, n))
    interval = statistics.wilson(successes, n, confidence)
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert interval.mean == successes / n
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1


@given(st.integers(1, 3000), st.floats(0.51, 0.9999))
def test_student_quantile_equals_scipy(degrees, probability):
    expected = stats.t.ppf(probability, degrees)
    assert statistics.student_quantile(probability, degrees) == pytest.approx(expected, rel=1e-7)
    assert statistics.student_quantile(1 - probability, degrees) == pytest.approx(-expected, rel=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), confidences)
def test_normal_interval_equals_scipy(values, confidence):
    interval = statistics.normal_interval(values, confidence)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * error
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-6, abs=1e-12)
    assert interval.mean - interval.low == pytest.approx(half, rel=1e-6, abs=1e-12)


def test_mean_interval_is_wilson_for_hits_and_student_for_grades():
    hits = [1, 0, 1, 1, 0]
    assert statistics.mean_interval(hits) == statistics.wilson(3, 5)
    assert statistics.mean_interval(np.array(hits, np.float32)) == statistics.wilson(3, 5)
    assert statistics.mean_interval([True, False]) == statistics.wilson(1, 2)
    grades = np.linspace(0.4, 0.6, 9)
    assert statistics.mean_interval(grades) == statistics.normal_interval(grades)
    assert statistics.mean_interval([0.0, 0.99]).high == 1.0
    assert statistics.mean_interval([0.5]) == statistics.Interval(0.5, 0.0, 1.0)
    assert statistics.mean_interval([-3.0, 8.0]) == statistics.normal_interval([-3.0, 8.0])


@pytest.mark.parametrize(("rate", "n"), [(0.5, 30), (0.9, 200), (0.99, 100)])
def test_intervals_cover_the_truth_as_often_as_they_say(rate, n):
    rng = np.random.default_rng(0)
    drawn = rng.binomial(n, rate, 2000)
    covered = [interval.low <= rate <= interval.high for interval in (statistics.wilson(k, n) for k in drawn)]
    assert 0.92 < np.mean(covered) < 0.98


@pytest.mark.parametrize("graded", [False, True])
def test_paired_bootstrap_agrees_with_the_normal_interval(graded):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 2000)) if graded else rng.integers(0, 2, (2, 2000))
    interval = statistics.paired_bootstrap(a, b, resamples=4000)
    expected = statistics.normal_interval(np.asarray(a, float) - b)
    assert interval.mean == pytest.approx(expected.mean)
    assert interval.low == pytest.approx(expected.low, abs=0.1 * (expected.high - expected.low))
    assert interval.high == pytest.approx(expected.high, abs=0.1 * (expected.high - expected.low))


def test_counting_distinct_values_draws_from_the_same_distribution():
    values = np.repeat([-1.0, 0.0, 1.0], [10, 60, 30])
    rng = np.random.default_rng(0)
    counted = statistics._resampled_means(values, 20_000, rng)
    jittered = statistics._resampled_means(values + np.arange(100) * 1e-9, 20_000, rng)
    assert counted.mean() == pytest.approx(jittered.mean(), abs=0.003)
    assert counted.std() == pytest.approx(jittered.std(), rel=0.05)


def test_paired_bootstrap_is_repeatable_and_pairs():
    rng = np.random.default_rng(2)
    a = rng.random(100)
    assert statistics.paired_bootstrap(a, a + 0.5) == statistics.paired_bootstrap(a, a + 0.5)
    shifted = statistics.paired_bootstrap(a + 0.5, a)
    assert (shifted.low, shifted.high) == pytest.approx((0.5, 0.5))
    first, second = (statistics.paired_bootstrap(a, a[::-1], seed=seed) for seed in (0, 1))
    assert first != second


def test_a_large_bootstrap_stays_small(monkeypatch):
    monkeypatch.setattr(statistics, "BLOCK_VALUES", 1000)
    a = np.random.default_rng(3).random(300)
    chunked = statistics.paired_bootstrap(a, 1 - a, resamples=500)
    monkeypatch.undo()
    assert chunked == statistics.paired_bootstrap(a, 1 - a, resamples=500)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.mean_interval([]), "1 or more values"),
        (lambda: statistics.normal_interval([1.0]), "2 or more values"),
        (lambda: statistics.mean_interval([np.nan]), "finite"),
        (lambda: statistics.mean_interval([[1.0]]), "one list"),
        (lambda: statistics.mean_interval([1], 95), "fraction in (0, 1)"),
        (lambda: statistics.wilson(3, 2), "3 successes of 2"),
        (lambda: statistics.paired_bootstrap([1], [1, 2]), "one length"),
    ],
)
def test_bad_values_are_refused(call, message):
    with pytest.raises(UsageError) as caught:
        call()
    assert message in caught.value.message
