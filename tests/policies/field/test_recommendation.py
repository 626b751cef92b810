"""What is recommended: never what is clearly worse, never learning by trial that does not win."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.curves import interval
from policies.errors import UsageError
from policies.field import Request, recommend
from policies.field.recommendation import Value, measure_text
from policies.guarantee import Promise
from policies.objective import Objective

DRAWS = np.r_[0.0, np.random.default_rng(0).normal(size=400)]


def value(name, mean, rank, *, by_trial=False, met=True, noise=0.0):
    """Draws around `mean`, paired but for `noise`."""
    own = np.r_[0.0, np.random.default_rng(rank + 1).normal(size=400)]
    return Value(name, mean + 0.05 * DRAWS + noise * own, rank, by_trial, met)


def taken(*values):
    return recommend(values, Request(), 100).name


def test_the_best_wins_where_it_is_clearly_better_and_else_the_simplest():
    assert taken(value("static", 0.5, 0), value("gate", 0.6, 8)) == "gate"
    assert taken(value("static", 0.5, 0), value("gate", 0.501, 8, noise=0.01)) == "static"
    near = value("path", 0.595, 4, noise=0.01)
    assert taken(value("static", 0.5, 0), near, value("gate", 0.6, 8)) == "path"


def test_of_equally_simple_ones_the_better_is_taken():
    assert taken(value("hard", 0.6, 8, noise=0.01), value("soft", 0.601, 8, noise=0.02)) == "soft"


def test_learning_by_trial_must_win():
    gate = value("gate", 0.6, 8)
    assert taken(gate, value("ppo", 0.605, 10, by_trial=True, noise=0.01)) == "gate"
    assert taken(gate, value("ppo", 0.7, 10, by_trial=True, noise=0.01)) == "ppo"
    assert taken(value("ppo", 0.7, 10, by_trial=True)) == "ppo"


def test_what_misses_the_objective_goes_last():
    assert taken(value("static", 0.3, 0), value("gate", 0.6, 8, met=False)) == "static"
    assert taken(value("static", 0.3, 0, met=False), value("gate", 0.6, 8, met=False)) == "gate"


def test_of_few_samples_what_surely_meets_the_objective_goes_first():
    lucky = replace(value("gate", 0.6, 8), surely=False)
    assert taken(value("static", 0.3, 0), lucky) == "static"
    found = recommend([lucky], Request(), 100)
    assert found.name == "gate"
    assert "this may miss it" in found.reason[-1]


def test_reasons_name_the_rivals_and_the_numbers():
    found = recommend(
        [value("static", 0.5, 0), value("gate", 0.6, 8), value("ppo", 0.55, 10, by_trial=True)], Request(), 77
    )
    text = " ".join(found.reason)
    assert "gate: 60.0 %" in text
    assert "on 77 tune samples" in text
    assert "static, by 10.00 points" in text
    assert "ppo, gives -5.00 points (-5.00 to -5.00) against gate" in text
    assert found.to_dict()["compared"][0]["below"]["mean"] == pytest.approx(0.1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 9), st.booleans(), st.booleans()), min_size=1, max_size=6
    )
)
def test_nothing_clearly_better_is_passed_over(drawn):
    values = [
        value(f"p{i}", mean, rank, by_trial=trial, met=met, noise=0.02)
        for i, (mean, rank, trial, met) in enumerate(drawn)
    ]
    found = recommend(values, Request(), 10)
    chosen = next(v for v in values if v.name == found.name)
    eligible = [v for v in values if v.met] or values
    plain = [v for v in eligible if not v.by_trial] or eligible
    best = max(plain, key=lambda v: v.draws[0])
    assert chosen in eligible
    assert interval(best.draws - chosen.draws).low <= 0
    if chosen.by_trial and chosen is not best and not all(v.by_trial for v in eligible):
        assert interval(chosen.draws - best.draws).low > 0
    for other in eligible:
        if interval(other.draws - chosen.draws).low > 0:
            assert other.by_trial == chosen.by_trial or not other.by_trial


def test_an_empty_field_recommends_nothing():
    with pytest.raises(UsageError, match="empty field"):
        recommend([], Request(), 10)


def test_what_is_compared_is_said():
    assert "at 0.5 points below full" in measure_text(Request(Objective(max_drop=0.005)))
    assert "at 0.7 of the full cost" in measure_text(Request(Objective(flops_target=0.7)))
    assert "0.1 x cost" in measure_text(Request(Objective(lambda_=0.1)))
    assert "guaranteed" in measure_text(Request(promise=Promise(0.01)))
