import json
from dataclasses import astuple

import numpy as np
import pytest

from policies import evaluate as evaluate_module
from policies import pareto
from policies.base import Decision
from policies.baselines import HindsightOracle, RandomMixture, Static
from policies.errors import FileError
from policies.evaluate import Evaluation, baselines, choices, curve, evaluate, met
from policies.files import write_json
from policies.grid import Grid
from policies.objective import Objective


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(2000)


def mixture(table, shares):
    probabilities = np.zeros(table.n_configs)
    probabilities[list(shares)] = list(shares.values())
    return RandomMixture(Grid.of(table), tuple(probabilities))


def test_means_are_means(table):
    policy, rows = mixture(table, {3: 0.5, 17: 0.5}), table.rows("test")
    found, decision = evaluate(policy, table), policy.select(table, rows)
    score = [table.score[r, c] for r, c in zip(rows, decision.configuration, strict=True)]
    agreement = [table.agreement[r, c] for r, c in zip(rows, decision.configuration, strict=True)]
    assert found.n == len(rows) == 500
    assert found.score.mean == pytest.approx(np.mean(score))
    assert found.agreement.mean == pytest.approx(np.mean(agreement))
    assert found.cost_flops.mean == pytest.approx(decision.cost_flops.mean())
    assert found.full_score == pytest.approx(table.score[rows, table.full].mean())
    assert found.score_difference.mean == pytest.approx(found.score.mean - found.full_score)
    assert found.saving_full.mean == pytest.approx(1 - found.cost_flops.mean / table.cost_flops.max())
    for interval in (found.score, found.cost_flops, found.saving_full, found.saving_static):
        assert interval.low <= interval.mean <= interval.high
    assert found.shares[3] + found.shares[17] == pytest.approx(1)
    assert found.overhead_flops == found.policy_flops == found.feature_flops == 0


def test_the_rival_is_the_static_hull_at_equal_score(table):
    rows = table.rows("test")
    statics = table.score[rows].mean(axis=0, dtype=np.float64)
    corners = pareto.hull(table.cost_flops, statics)
    for corner in corners:
        found = evaluate(Static(Grid.of(table), int(corner)), table, resamples=50)
        assert found.saving_static.mean == pytest.approx(0, abs=1e-9)
        assert found.static_cost_flops == pytest.approx(table.cost_flops[corner])
        assert not found.beats_statics
    inside = [c for c in range(table.n_configs) if c not in corners and statics[c] > statics.min()]
    for other in inside:
        assert evaluate(Static(Grid.of(table), other), table, resamples=0).saving_static.mean <= 1e-12


def test_above_every_static_the_rival_is_the_best_of_them(table):
    found = evaluate(HindsightOracle(), table, resamples=20)
    statics = table.score[table.rows("test")].mean(axis=0, dtype=np.float64)
    assert found.beats_statics
    cheapest_best = table.cost_flops[statics == statics.max()].min()
    assert found.static_cost_flops == pytest.approx(cheapest_best)


def test_an_objective_is_met_up_to_its_limit_and_not_beyond(table):
    found = evaluate(Static(Grid.of(table), 0), table, resamples=0)
    drop, share = -found.score_difference.mean, found.cost_flops.mean / found.full_cost_flops
    assert drop > 0.01
    assert met(Objective(max_drop=drop), found) is True
    assert met(Objective(max_drop=drop - 1e-6), found) is False
    assert met(Objective(flops_target=share), found) is True
    assert met(Objective(flops_target=share * (1 - 1e-6)), found) is False
    assert met(Objective(lambda_=0.1), found) is None


@pytest.mark.slow
def test_a_saving_is_rarely_claimed_too_high(make_table):
    """Small tables of one population, whose saving is known from a sample 40 times as large.

    The rival is chosen with hindsight, so the estimate leans towards it: only the low end must hold.
    """
    large = make_table(160_000, seed=1, tokens=(1, 4), widths=(8, 16), depths=(1, 3))
    truth = evaluate(mixture(large, {2: 0.5, 7: 0.5}), large, resamples=0).saving_static.mean
    parts = np.array_split(np.random.default_rng(0).permutation(large.rows("test")), 40)
    tables = [large.take(part) for part in parts]
    found = [evaluate(mixture(t, {2: 0.5, 7: 0.5}), t, resamples=200).saving_static for t in tables]
    assert sum(interval.low > truth for interval in found) <= 2
    assert np.mean([interval.mean for interval in found]) <= truth + 0.005


def test_same_seed_same_interval(table):
    policy = mixture(table, {1: 0.3, 12: 0.7})
    first, again, other = (evaluate(policy, table, resamples=60, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.saving_static.mean == other.saving_static.mean
    assert first.saving_static != other.saving_static


def test_without_resamples_the_interval_is_the_point(table):
    found = evaluate(mixture(table, {1: 1.0}), table, resamples=0).saving_static
    assert found.low == found.mean == found.high


def test_it_survives_json(table, tmp_path):
    found = evaluate(mixture(table, {1: 0.3, 12: 0.7}), table, resamples=20)
    write_json(tmp_path / "e.json", found.to_dict())
    assert Evaluation.from_dict(json.loads((tmp_path / "e.json").read_text())) == found
    write_json(tmp_path / "b.json", baselines(table, resamples=5).to_dict())


def test_baselines_are_every_static_and_both_oracles(table):
    rivals = baselines(table, resamples=5)
    statics = rivals.statics
    assert len(statics) == table.n_configs
    assert (statics["cost_flops"].to_numpy() == table.cost_flops).all()
    hull = set(pareto.hull(statics["cost_flops"], statics["score"]))
    assert set(np.flatnonzero(statics["on_hull"])) == hull
    assert statics["on_front"][statics["on_hull"]].all()
    hindsight, same = rivals.oracles
    assert hindsight.score.mean >= statics["score"].max()
    assert same.agreement.mean == 1
    assert same.score.mean == pytest.approx(same.full_score)


def test_a_curve_has_a_point_per_policy(table):
    policies = [Static(Grid.of(table), i, f"s{i}") for i in (0, 5, 17)]
    points = curve(policies, table)
    assert points["name"].tolist() == ["s0", "s5", "s17"]
    assert points["cost_share"].tolist()[-1] == 1
    for policy, score in zip(policies, points["score"], strict=True):
        assert score == pytest.approx(evaluate(policy, table, resamples=0).score.mean)


def test_choices_tell_what_was_decided(table):
    rows, policy = table.rows("test"), mixture(table, {1: 0.3, 12: 0.7})
    told = choices(policy.select(table, rows), table, rows)
    assert told["row"].tolist() == rows.tolist()
    assert (told["sample_id"] == table.samples["sample_id"].to_numpy()[rows]).all()
    assert told["score"].mean() == pytest.approx(evaluate(policy, table, resamples=0).score.mean)


def test_an_empty_split_and_odd_decisions_are_refused(table, make_table):
    part = table.take(table.rows("fit"))
    with pytest.raises(FileError, match="no samples in split test"):
        evaluate(mixture(part, {1: 1.0}), part)
    with pytest.raises(ValueError, match="shapes"):
        Decision(np.zeros(3), np.zeros(2))


def test_leaving_out_statics_far_below_the_hull_changes_nothing(make_table, monkeypatch):
    """The same interval of the saving, from fewer configurations in the bootstrap."""
    rng, cost = np.random.default_rng(0), np.linspace(0.1, 1, 18)
    score = rng.random((4000, 18)) < 0.9 * cost**0.2 - 0.15 * (np.arange(18) % 3 == 1)
    table = make_table(4000, score=score.astype(np.float32), prediction=None, nll=None)
    kept = evaluate_module.near_hull(np.asarray(table.score[table.rows("test")]), table.cost_flops)
    assert 1 < len(kept) < table.n_configs
    policy = Static(Grid.of(table), 5)
    fast = evaluate(policy, table, resamples=300)
    monkeypatch.setattr(evaluate_module, "near_hull", lambda scores, costs: np.arange(len(costs)))
    slow = evaluate(policy, table, resamples=300)
    np.testing.assert_allclose(astuple(fast.saving_static), astuple(slow.saving_static), rtol=1e-6)


def test_equal_statics_all_stay(make_table):
    scores = np.repeat(np.random.default_rng(0).random((100, 1), np.float32), 5, axis=1)
    assert len(evaluate_module.near_hull(scores, np.arange(1.0, 6.0))) == 5
