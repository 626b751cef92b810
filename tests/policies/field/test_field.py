"""A field of four on a small table: what it keeps, finds again, refuses, and does not look at."""

import json
from dataclasses import replace

import numpy as np
import pytest

from policies import pareto, registry
from policies.base import Decision
from policies.curves import Yardstick
from policies.errors import AdapError, FileError, UsageError
from policies.field import Request, recommendation, train_field
from policies.field import entrant as module
from policies.field.member import surely_met
from policies.field.recommendation import value_of
from policies.guarantee import Promise
from policies.objective import Objective

QUICK = Request(timesteps=256, resamples=60)


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(1200)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("field")


@pytest.fixture(scope="module")
def field(few, table, home):
    return train_field(table, QUICK, home, seeds=(0, 1))


def test_members_are_kept_and_found_again(field, table, home, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(registry, "train", refuse)
    again = train_field(table, QUICK, home, seeds=(0, 1), resume=True)
    assert again.to_dict() == field.to_dict()
    assert again.frame().equals(field.frame())
    assert json.dumps(field.to_dict(), allow_nan=False)
    ppo = next(entry for entry in field.to_dict()["entries"] if entry["name"] == "ppo")
    assert [one["seed"] for one in ppo["seeds"]] == [0, 1]
    assert ppo["spread"]["gap"]["worst"] <= ppo["spread"]["gap"]["mean"] <= ppo["spread"]["gap"]["best"]
    assert len(field.frame()) == 4 + 2


def test_another_member_joins_a_field_that_is_there(few, table, tmp_path):
    first = train_field(table, QUICK, tmp_path, only=["static"])
    both = train_field(table, QUICK, tmp_path, only=["static", "threshold"], resume=True)
    assert list(first.kept) == ["static"]
    assert list(both.kept) == ["static", "threshold"]
    assert both.mean_worths["static"].gap[0] == first.mean_worths["static"].gap[0]


@pytest.mark.parametrize(
    "other",
    [
        replace(QUICK, objective=Objective(flops_target=0.5)),
        replace(QUICK, timesteps=512),
        replace(QUICK, promise=Promise(0.05)),
    ],
)
def test_a_member_made_for_something_else_is_refused(few, table, tmp_path, other):
    train_field(table, QUICK, tmp_path, only=["static"])
    with pytest.raises(FileError, match=r"made for something else: .* there, .* here"):
        train_field(table, other, tmp_path, only=["static"], resume=True)


def test_a_member_made_from_other_samples_is_refused(few, table, make_table, tmp_path):
    train_field(table, QUICK, tmp_path, only=["static"])
    with pytest.raises(FileError, match=r"made from other (tune|test) samples"):
        train_field(make_table(1200, seed=1), QUICK, tmp_path, only=["static"], resume=True)


@pytest.mark.parametrize("name", ["member.json", "curves.safetensors", "policy.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\x80\x04K\x01."])
def test_a_damaged_member_is_refused(few, table, tmp_path, name, content):
    train_field(table, QUICK, tmp_path, only=["static"])
    (tmp_path / "members/static/seed-0" / name).write_bytes(content)
    with pytest.raises(FileError):
        train_field(table, QUICK, tmp_path, only=["static"], resume=True)


def test_who_cannot_take_part_is_left_out_with_the_reason(table, tmp_path, monkeypatch, few):
    def fails(algo, *args, **kwargs):
        if algo == "gate":
            raise AdapError("no way")
        return train(algo, *args, **kwargs)

    train = registry.train
    monkeypatch.setattr(registry, "train", fails)
    found = train_field(table, QUICK, tmp_path, only=["static", "gate"])
    assert dict(found.skipped) == {"gate": "no way"}
    with pytest.raises(AdapError, match="nothing in the field could be trained: no way"):
        train_field(table, QUICK, tmp_path / "other", only=["gate"])
    lacking = next(entrant for entrant in module._KNOWN if entrant.algo == "ppo")
    assert lacking.lacks(table) is None
    blind = replace(table, features=table.features[:, :0], feature_names=())
    assert lacking.lacks(blind) == "the table has no features"


def test_no_such_member(table, tmp_path):
    with pytest.raises(UsageError, match="'foo': not in the field"):
        train_field(table, QUICK, tmp_path, only=["foo"])


@pytest.mark.slow
def test_nothing_is_chosen_by_the_test_split(few, field, table, tmp_path):
    """Other outcomes on the test samples change what is reported, and nothing that is chosen."""
    score = table.score.copy()
    rows = table.rows("test")
    score[rows] = np.random.default_rng(5).random((len(rows), table.n_configs)) < 0.5
    other = train_field(replace(table, score=score), QUICK, tmp_path / "other", seeds=(0, 1))
    assert other.recommendation == field.recommendation
    assert {n: m.seed for n, m in other.kept.items()} == {n: m.seed for n, m in field.kept.items()}
    assert {n: m.chosen for n, m in other.kept.items()} == {n: m.chosen for n, m in field.kept.items()}
    assert other.to_dict()["full_score"] != field.to_dict()["full_score"]


def test_the_values_are_what_was_asked_for(field, monkeypatch):
    monkeypatch.setattr(recommendation, "FEW", 0)
    tuning = field.tuning
    for name, member in field.kept.items():
        curve = member.curves["tune"]
        cost = np.r_[tuning.statics.cost_flops[0], curve.cost_flops[0]]
        score = np.r_[tuning.statics.score[0], curve.score[0]]
        full = tuning.full_cost_flops
        expected = {
            Objective(max_drop=0.02): 1 - pareto.cost_at(cost, score, tuning.full_score[0] - 0.02) / full,
            Objective(flops_target=0.6): pareto.score_at(cost, score, 0.6 * full),
            Objective(lambda_=0.3): (score - 0.3 * cost / full).max(),
        }
        for objective, value in expected.items():
            assert value_of(member, tuning, Request(objective))[0] == pytest.approx(float(value)), name
        promised = value_of(member, tuning, Request(promise=Promise(0.1)))
        assert promised[0] == pytest.approx(1 - member.cost_flops / full, rel=1e-6)


def test_a_price_picks_from_the_whole_family(few, table, tmp_path):
    request = Request(Objective(lambda_=0.5), resamples=20)
    found = train_field(table, request, tmp_path, only=["gate", "threshold"])
    full = table.cost_flops[table.full]
    for member in found.kept.values():
        curve = member.curves["tune"]
        utility = curve.score[0] - 0.5 * curve.cost_flops[0] / full
        assert utility[member.chosen] == pytest.approx(utility.max(), abs=1e-6)
        assert member.objective == Objective(lambda_=0.5)
    assert len(found.kept["gate"].curves["tune"]) > 1


def test_with_a_promise_each_member_is_certified(few, make_table, tmp_path):
    calm = make_table(4000, score=np.ones((4000, 18), np.float32), prediction=None, nll=None,
                      agreement=np.ones((4000, 18), np.float32))  # fmt: skip
    request = Request(promise=Promise(0.05), resamples=20)
    found = train_field(calm, request, tmp_path, only=["static", "threshold"])
    assert all(entry["certified"] for entry in found.to_dict()["entries"])
    assert found.recommendation.name == "static"


def test_the_yardstick_of_a_field_is_that_of_its_splits(field, table):
    again = Yardstick.of(table, "test", resamples=60)
    np.testing.assert_allclose(again.full_score, field.yardstick.full_score)
    assert (field.tuning.split, field.yardstick.split) == ("tune", "test")


def test_without_labels_a_field_counts_other_answers(few, table, without_labels, tmp_path):
    blind, asked = without_labels(table), replace(QUICK, objective=Objective(max_drop=0.3))
    for resume in (False, True):
        found = train_field(blind, asked, tmp_path, only=["static", "threshold"], resume=resume)
        assert found.kept["static"].trained.objective == Objective(same_answer=0.3)
        assert found.kept["static"].trained.target == "same-answer"
        assert list(found.oracles) == ["same-answer oracle"]
        assert "at most 30 % of other answers" in found.recommendation.reason[0]
    with pytest.raises(UsageError, match="no labels"):
        train_field(blind, replace(QUICK, promise=Promise(0.1)), tmp_path)


def test_of_few_tune_samples_only_what_surely_keeps_the_target_is_recommended(few, make_table, tmp_path):
    """By the mean of 100 samples a cheaper configuration loses nothing; the interval does not show it."""
    table = make_table(400)
    score = np.array(table.score)
    score[:, :-1] = score[:, [-1]]
    half, rows = table.n_configs // 2, table.rows("tune")
    score[rows[:5], half], score[rows[5:10], half] = 1 - score[rows[:5], half], score[rows[5:10], half]
    table = replace(table, score=score)
    decision = Decision(np.full(len(rows), half), np.full(len(rows), table.cost_flops[half]))
    asked = Objective(max_drop=0.02)
    assert not surely_met(asked, table, rows, decision)
    assert surely_met(replace(asked, max_drop=0.5), table, rows, decision)
    assert surely_met(asked, table, rows, replace(decision, configuration=np.full(len(rows), table.full)))
    found = train_field(table, replace(QUICK, objective=asked), tmp_path, only=["static", "threshold"])
    taken = found.kept[found.recommendation.name]
    assert taken.surely
    assert set(taken.policy.select(table, rows).configuration) == {table.full}
    assert "100 tune samples are few" in " ".join(found.recommendation.reason)


def test_a_budget_is_kept_on_the_whole_interval_of_few_samples(make_table):
    table = make_table(400)
    rows = table.rows("tune")
    cost = np.where(np.arange(len(rows)) % 2, 0.2, 0.8) * table.cost_flops[table.full]
    decision = Decision(np.zeros(len(rows)), cost)
    assert surely_met(Objective(flops_target=0.6), table, rows, decision)
    assert not surely_met(Objective(flops_target=0.51), table, rows, decision)
