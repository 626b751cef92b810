import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapcli.errors import AdapError, FileError, InfeasibleError, UsageError
from adapcli.search import OBJECTIVES, Landscape, Objective, SearchResult, Target, exhaustive, landscape
from policies.statistics import mean_interval, normal_interval


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(400)


def naive(table, fraction=None, min_score=None):
    """Front and choice the slow way: pandas and two loops."""
    is_calibration = (table.samples["split"] == "calibration").to_numpy()
    score = pd.DataFrame(np.asarray(table.score))[is_calibration].astype(float).mean()
    cost = table.configs["cost_flops"].astype(float)
    rows = range(len(cost))

    def beats(j, i):
        return cost[j] <= cost[i] and score[j] >= score[i] and (cost[j] < cost[i] or score[j] > score[i])

    front = [i for i in rows if not any(beats(j, i) for j in rows)]
    choice = None
    if fraction is not None:
        choice = min(
            (i for i in rows if cost[i] <= fraction * cost.max()), key=lambda i: (-score[i], cost[i], i)
        )
    if min_score is not None:
        choice = min((i for i in rows if score[i] >= min_score), key=lambda i: (cost[i], -score[i], i))
    return sorted(front, key=lambda i: (cost[i], i)), choice


@pytest.mark.parametrize("seed", range(5))
def test_front_and_choices_equal_the_slow_way(make_table, seed):
    table = make_table(60, seed=seed)
    for target in ({"fraction": 0.5}, {"fraction": 1.0}, {"min_score": 0.4}, {}):
        result = exhaustive(table, Target(**target))
        front, choice = naive(table, **target)
        assert [point.index for point in result.front] == front
        assert (result.choice and result.choice.index) == choice
        if choice is not None:
            assert choice in front


def test_reported_scores_are_the_test_splits(table):
    result = exhaustive(table, Target(fraction=0.6))
    rows = table.rows("test")
    for point in (*result.front, result.full, result.choice):
        assert point.test_score == mean_interval(table.score[rows, point.index])
        expected = table.score[table.rows("calibration"), point.index].mean()
        assert point.calibration_score == pytest.approx(expected)
        assert point.cost == table.cost_flops[point.index]
    difference = table.score[rows, result.choice.index] - table.score[rows, table.full]
    assert result.score_change.mean == pytest.approx(difference.mean())
    expected = normal_interval(difference)
    assert result.score_change.low == pytest.approx(expected.low, abs=0.02)
    assert result.full.cost_fraction == 1.0
    assert result.saving == 1.0 - result.choice.cost_fraction
    assert (result.n_calibration, result.n_test) == (100, 100)


def test_changing_the_test_split_changes_no_choice(table, make_table):
    score = np.array(table.score)
    score[table.rows("test")] = 1 - score[table.rows("test")]
    other = make_table(400, score=score, prediction=None)
    for target in (Target(fraction=0.5), Target(min_score=0.5)):
        first, second = exhaustive(table, target), exhaustive(other, target)
        assert first.choice.index == second.choice.index
        assert [p.index for p in first.front] == [p.index for p in second.front]


@given(st.floats(0.2, 1), st.floats(0.2, 1))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_more_budget_never_scores_less_and_the_limit_is_hard(table, a, b):
    small, large = (exhaustive(table, Target(fraction=f)).choice for f in sorted((a, b)))
    assert small.calibration_score <= large.calibration_score
    assert small.cost <= min(a, b) * table.cost_flops[table.full]


@given(st.floats(0, 0.75), st.floats(0, 0.75))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_higher_score_never_costs_less(table, a, b):
    low, high = (exhaustive(table, Target(min_score=s)).choice for s in sorted((a, b)))
    assert low.cost <= high.cost
    assert high.calibration_score >= max(a, b)


def test_ties_go_to_the_cheaper_configuration(make_table):
    table = make_table(40, score=np.ones((40, 18)), prediction=None)
    cheapest = int(table.cost_flops.argmin())
    assert exhaustive(table, Target(fraction=1.0)).choice.index == cheapest
    assert exhaustive(table, Target(min_score=1.0)).choice.index == cheapest


def test_equal_configurations_are_all_on_the_front(make_table):
    configs = make_table(40).configs.assign(cost_flops=7)
    table = make_table(40, configs=configs, score=np.ones((40, 18)), prediction=None)
    assert len(exhaustive(table).front) == 18


def test_a_target_that_is_exactly_met_is_met(table):
    for index in range(table.n_configs):
        fraction = float(table.cost_flops[index] / table.cost_flops[table.full])
        if fraction * table.cost_flops[table.full] >= table.cost_flops[index]:
            assert exhaustive(table, Target(fraction=fraction)).choice.cost <= table.cost_flops[index]
    assert exhaustive(table, Target(fraction=1.0)).choice.index == table.full


def test_a_target_out_of_reach_names_one_that_is_not(table):
    with pytest.raises(InfeasibleError, match=r"the cheapest is 0\.\d+ of full") as caught:
        exhaustive(table, Target(fraction=0.01))
    told = float(caught.value.message.split("cheapest is ")[1].split(" of")[0])
    assert exhaustive(table, Target(fraction=told)).choice.index == int(table.cost_flops.argmin())
    with pytest.raises(InfeasibleError, match="the best configuration reaches") as caught:
        exhaustive(table, Target(min_score=1.0))
    told = float(caught.value.message.split("reaches ")[1].split(" on")[0])
    assert exhaustive(table, Target(min_score=told)).choice is not None


@pytest.mark.parametrize("fraction", [float("nan"), float("inf"), -1, 0, 70])
def test_a_target_that_is_no_fraction_is_refused(fraction):
    with pytest.raises(UsageError, match=r"a fraction in \(0, 1\]: write 0.7"):
        Target(fraction=fraction)
    if fraction:
        with pytest.raises(UsageError, match=r"a fraction in \[0, 1\]"):
            Target(min_score=fraction)


def test_two_targets_exclude_each_other():
    with pytest.raises(UsageError, match="exclude each other"):
        Target(fraction=0.5, min_score=0.5)


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_a_split_without_samples_is_named(make_table, split):
    samples = make_table(40).samples
    table = make_table(40, samples=samples.assign(split=samples["split"].replace(split, "fit")))
    with pytest.raises(FileError, match=f"no {split} samples"):
        exhaustive(table)


def test_hypervolume_is_the_best_score_averaged_over_budgets(table):
    result = exhaustive(table)
    budgets = (np.arange(200_000) + 0.5) / 200_000
    fraction = np.array([point.cost_fraction for point in result.front])
    score = np.array([0.0, *(point.calibration_score for point in result.front)])
    best = np.maximum.accumulate(score)[np.searchsorted(fraction, budgets, side="right")]
    assert result.hypervolume == pytest.approx(best.mean(), abs=1e-4)


def test_blocks_change_nothing(table, monkeypatch):
    whole = exhaustive(table, Target(fraction=0.5))
    monkeypatch.setattr(landscape, "BLOCK_VALUES", 50)
    assert exhaustive(table, Target(fraction=0.5)) == whole


def test_another_objective_is_one_entry(table, monkeypatch):
    assert exhaustive(table, objective="memory").full.cost == table.configs["memory_bytes"].max()
    depth = Objective("latency", "latency_ms", "ms", lambda t: t.configs["depth"].to_numpy(float))
    monkeypatch.setitem(OBJECTIVES, "latency", depth)
    result = exhaustive(table, Target(fraction=0.5), objective="latency")
    assert result.choice.configuration["depth"] == 1
    assert "latency_ms" in result.frame()
    with pytest.raises(UsageError, match="objective watts") as caught:
        exhaustive(table, objective="watts")
    assert caught.value.hint == "allowed: flops, memory, latency"


def test_a_result_reads_back_as_it_was_saved(table, tmp_path):
    for target in (Target(), Target(fraction=0.5), Target(min_score=0.3)):
        result = exhaustive(table, target)
        result.save(tmp_path / "search", overwrite=True)
        assert SearchResult.load(tmp_path / "search") == result
    frame = pd.read_csv(tmp_path / "search" / "front.csv")
    assert list(frame["index"]) == [point.index for point in result.front]
    assert list(frame.loc[frame["chosen"], "index"]) == [result.choice.index]
    assert {"tokens", "width", "depth", "cost_flops", "test_low"} <= set(frame.columns)


def test_earlier_results_are_kept(table, tmp_path):
    first, second = exhaustive(table, Target(fraction=0.5)), exhaustive(table, Target(fraction=0.6))
    assert first.save(tmp_path) is None
    assert first.save(tmp_path) is None  # the same once more
    assert second.save(tmp_path) == tmp_path / "earlier-1"
    assert SearchResult.load(tmp_path) == second
    assert SearchResult.load(tmp_path / "earlier-1") == first
    assert first.save(tmp_path, overwrite=True) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier-1", "front.csv", "search.json"]


def test_a_folder_that_is_a_file_is_told(table, tmp_path):
    (tmp_path / "search").write_text("")
    with pytest.raises(AdapError, match="cannot write"):
        exhaustive(table).save(tmp_path / "search")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: [],
        lambda content: content | {"schema_version": 2},
        lambda content: {k: v for k, v in content.items() if k != "front"},
        lambda content: content | {"target": {"fraction": 7, "min_score": None}},
        lambda content: content | {"full": {"index": 1}},
    ],
)
def test_damaged_results_are_refused(table, tmp_path, damage):
    exhaustive(table).save(tmp_path)
    path = tmp_path / "search.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(FileError, match="search result"):
        SearchResult.load(tmp_path)


def test_labels(table, make_table):
    assert exhaustive(table).full.label == "t4 w16 l3"
    configs = make_table(8).configs.rename(columns={"tokens": "frames"})
    result = exhaustive(make_table(8, configs=configs, prediction=None))
    assert result.full.label == "model=m width=16 depth=3 frames=4"


def test_landscape_needs_no_more_than_scores_and_samples(table):
    scene = Landscape.of(table, OBJECTIVES["flops"])
    assert scene.score.shape == scene.cost.shape == (table.n_configs,)
    assert scene.fraction.max() == 1.0
