"""Where FLOPs and latency disagree, against the definition written out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adapcli.measure.order import compare, order, rank_correlation
from policies.table import latency
from policies.table.latency import Condition

points = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3)), max_size=8)


@given(points)
def test_reversed_pairs_are_those_of_the_definition(given_points):
    flops = [float(f) for f, _, _ in given_points]
    median = [float(m) for _, m, _ in given_points]
    low = [m - s / 2 for _, m, s in given_points]
    high = [m + s / 2 for _, m, s in given_points]
    pairs = [(i, j) for i in range(len(flops)) for j in range(len(flops)) if flops[i] < flops[j]]
    slower = [(i, j) for i, j in pairs if low[i] > high[j]]
    found = order(flops, median, low, high)
    assert (found.compared, found.reversed) == (len(pairs), len(slower))
    assert (found.worst in slower) if slower else found.worst is None
    assert found.ratio == max((median[i] / median[j] for i, j in slower), default=0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_the_rank_correlation_is_spearman_s(pairs):
    first, second = (np.array(values, float) for values in zip(*pairs, strict=True))
    found = rank_correlation(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_a_difference_within_the_noise_is_none():
    assert order([1, 2], [3.0, 2.0], [1.9, 1.5], [4.0, 2.5]).worst is None
    assert order([1, 2], [3.0, 2.0], [2.9, 1.5], [4.0, 2.5]).worst == (0, 1)
    assert order([1, 1], [9.0, 2.0], [8.0, 1.5], [9.9, 2.5]).compared == 0


def measured_table(make_table, medians, condition):
    table = make_table(20)
    ordered = np.argsort(table.cost_flops, kind="stable")[: len(medians)]
    frame = pd.DataFrame(
        {"configuration": ordered, "median_ms": medians, "peak_memory_bytes": 5, "rounds": 5}
    )
    frame = frame.assign(
        q25_ms=frame["median_ms"] * 0.95, q75_ms=frame["median_ms"] * 1.05, samples_per_s=1.0
    )
    return replace(table, latency=frame.assign(**condition.to_dict())[list(latency.COLUMNS)]), ordered


def test_the_warning_names_the_worst_pair(make_table):
    condition = Condition(1, "cpu: A", "float32", 1, False)
    table, ordered = measured_table(make_table, [1.0, 4.0, 2.0, 3.0], condition)
    text = compare(table, condition, ordered.tolist()).warning(lambda i: f"<{i}>")
    assert f"most of all <{ordered[1]}>" in text
    assert f"of the FLOPs of <{ordered[2]}> and 2.00 times its latency (4 against 2 ms)" in text
    assert "batch 1, cpu: A, float32, 1 thread" in text
    few = compare(table, condition, [int(ordered[0]), int(ordered[3])])
    assert few.warning(str) == ""
    assert (few.order.compared, few.measured) == (1, 4)
    expected = stats.spearmanr(table.cost_flops[ordered], [1, 4, 2, 3]).statistic
    assert few.overall == pytest.approx(expected)
