import numpy as np
import pandas as pd
import pytest

from adapcli.report import labels, tables
from policies import pareto
from policies.evaluate import baselines


def of(table):
    return tables.configurations(table, baselines(table, resamples=0).statics)


@pytest.fixture(scope="module")
def configs(synthetic_table):
    return of(synthetic_table)


def test_scores_are_the_tables_means_on_the_test_split(synthetic_table, configs):
    rows = synthetic_table.rows("test")
    for i in range(0, synthetic_table.n_configs, 7):
        assert configs["score"][i] == pytest.approx(np.mean(synthetic_table.score[rows, i], dtype=np.float64))
        assert configs["agreement"][i] == pytest.approx(synthetic_table.agreement[rows, i].mean())
    assert (configs["low"] <= configs["score"]).all()
    assert (configs["score"] <= configs["high"]).all()


def test_the_full_configuration_costs_one_and_agrees_with_itself(synthetic_table, configs):
    full = configs.iloc[synthetic_table.full]
    assert full["fraction"] == 1
    assert full["agreement"] == 1
    assert configs["fraction"].max() == 1


def test_the_front_is_not_dominated_and_everything_else_is(configs):
    cost, score = configs["cost_flops"].to_numpy(float), configs["score"].to_numpy(float)
    for i in range(len(configs)):
        beaten = any(pareto.dominates(cost[j], score[j], cost[i], score[i]) for j in range(len(configs)))
        assert configs["on_front"][i] == (not beaten)


def test_an_effect_changes_one_axis_only(synthetic_table, configs):
    effects = tables.axis_effects(configs, synthetic_table.full)
    assert effects.groupby(["axis", "others"]).size().to_dict() == {
        ("depth", "cheapest"): 6,
        ("depth", "full"): 6,
        ("tokens", "cheapest"): 5,
        ("tokens", "full"): 5,
        ("width", "cheapest"): 3,
        ("width", "full"): 3,
    }
    row = effects.query("axis == 'depth' and others == 'full' and value == 2").iloc[0]
    same = configs.query("tokens == 16 and width == 64 and depth == 2").iloc[0]
    assert row["score"] == same["score"]
    assert row["fraction"] == same["fraction"]


def test_axes_that_do_not_vary_have_no_effect(make_table):
    table = make_table(tokens=(4,), widths=(8, 16), depths=(3,))
    effects = tables.axis_effects(of(table), table.full)
    assert set(effects["axis"]) == {"width"}
    table = make_table(tokens=(4,), widths=(8,), depths=(3,))
    assert tables.axis_effects(of(table), table.full).empty


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"model": ["m", "m"], "tokens": [1, 2], "width": [8, 8], "depth": [3, 3]}, "t2 w8 l3"),
        ({"model": ["small", "large"], "tokens": [1, 1]}, "model=large t1"),
        ({"model": ["small", "large"]}, "model=large"),
        ({"model": ["small", "small"]}, "model=small"),
    ],
)
def test_configurations_are_named_by_what_identifies_them(columns, text):
    costs = {"cost_flops": [1, 2], "readout_flops": [1, 1], "memory_bytes": [1, 1]}
    assert labels.configuration(pd.DataFrame(columns | costs), 1) == text


def test_thousands_are_apart():
    assert labels.number(20_000) == "20 000"
    assert labels.plural(1, "policy", "policies") == "1 policy"
    assert labels.plural(2_000, "sample") == "2 000 samples"
