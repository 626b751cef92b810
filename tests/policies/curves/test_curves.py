"""Curves and the gap, against slow loops, at their ends, and under changes that must not matter."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import registry
from policies.base import Decision
from policies.baselines import HindsightOracle, RandomMixture, SameAnswerOracle, Static
from policies.curves import DROPS, GAP_DROPS, PRICES, Resampling, Yardstick, curve_of, interval, members_of
from policies.curves.curve import Curve, decisions
from policies.curves.gap import mean_of, references
from policies.errors import FileError, UsageError
from policies.grid import Grid


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(2400)


@pytest.fixture(scope="module")
def yardstick(table):
    return Yardstick.of(table, resamples=40)


def mixtures(table, steps=5):
    """From the cheapest configuration to the full one, by chance."""
    found = []
    for share in np.linspace(0, 1, steps):
        probabilities = np.zeros(table.n_configs)
        probabilities[[0, table.full]] = 1 - share, share
        found.append(RandomMixture(Grid.of(table), tuple(probabilities)))
    return found


def statics(table):
    return [Static(Grid.of(table), c) for c in range(table.n_configs)]


class Fixed:
    """The same configurations whatever is asked, at a cost of its own."""

    def __init__(self, configuration, cost, name="fixed"):
        self.configuration, self.cost, self.name = configuration, cost, name

    def select(self, table, rows):
        return Decision(self.configuration[rows], self.cost[rows])


def slow_cost(cost, score, target):
    """The least cost of a point, or a mixture of two, of at least this score."""
    reached = [c for c, s in zip(cost, score, strict=True) if s >= target]
    pairs = [
        c1 + (c2 - c1) * (target - s1) / (s2 - s1)
        for c1, s1 in zip(cost, score, strict=True)
        for c2, s2 in zip(cost, score, strict=True)
        if s1 < target <= s2
    ]
    return min(reached + pairs)


def slow_worth(table, members, drawn):
    """Gap, savings and utilities on the rows `drawn`, by loops."""
    full = table.cost_flops[table.full]
    grid = [(table.cost_flops[c], table.score[drawn, c].mean(dtype=float)) for c in range(table.n_configs)]

    def points(policies):
        made = [policy.select(table, drawn) for policy in policies]
        found = [(d.cost_flops.mean(), table.score[drawn, d.configuration].mean(dtype=float)) for d in made]
        return grid + found

    own, static = points(members), grid
    oracles = points(references(table, table.score[table.rows("test")]))
    f = grid[table.full][1]

    def at(found, drop):
        return slow_cost(*zip(*found, strict=True), f - drop)

    gains = [at(static, d) - at(own, d) for d in GAP_DROPS]
    whole = [at(static, d) - at(oracles, d) for d in GAP_DROPS]
    best = [[max(s - price * c / full for c, s in some) for price in PRICES] for some in (own, static)]
    return (
        sum(gains) / sum(whole),
        [1 - at(own, d) / full for d in DROPS],
        [1 - at(own, d) / at(static, d) for d in DROPS],
        np.subtract(*best),
    )


def test_equals_loops_over_samples_points_and_pairs(table, yardstick):
    members, rows = mixtures(table), table.rows("test")
    members.append(Fixed(*_cheap_when_agreeing(table)))
    found = yardstick.worth(curve_of(members, table, "test", yardstick.resampling))
    rng = np.random.default_rng(0)
    for draw in range(5):
        drawn = rows if draw == 0 else rows[rng.integers(len(rows), size=len(rows))]
        gap, full, static, utility = slow_worth(table, members, drawn)
        assert gap > 0.05
        assert found.gap[draw] == pytest.approx(gap, abs=1e-4)
        np.testing.assert_allclose(found.saving_full[draw], full, atol=1e-5)
        np.testing.assert_allclose(found.saving_static[draw], static, atol=1e-5)
        np.testing.assert_allclose(found.utility_gain[draw], utility, atol=1e-6)


def _cheap_when_agreeing(table):
    """The oracle's choice, or the full configuration for every third sample, at a tenth more."""
    chosen = SameAnswerOracle().select(table, np.arange(table.n_samples)).configuration
    chosen = np.where(np.arange(table.n_samples) % 3 == 0, table.full, chosen)
    return chosen, 1.1 * table.cost_flops[chosen]


def test_statics_close_nothing_and_the_references_close_all(table, yardstick):
    none = yardstick.worth(curve_of(statics(table), table, "test", yardstick.resampling))
    np.testing.assert_allclose(none.gap, 0, atol=1e-5)
    np.testing.assert_allclose(none.saving_static, 0, atol=1e-5)
    np.testing.assert_allclose(none.utility_gain, 0, atol=1e-6)
    np.testing.assert_allclose(yardstick.ceiling.gap, 1, atol=1e-6)
    oracle = yardstick.worth(curve_of([SameAnswerOracle()], table, "test", yardstick.resampling))
    assert 0 < oracle.gap[0] <= 1


def test_hindsight_of_labels_goes_beyond_the_ceiling(table, yardstick):
    found = yardstick.worth(curve_of([HindsightOracle()], table, "test", yardstick.resampling))
    assert found.gap.min() > 1


def test_dearer_than_static_everywhere_closes_nothing(table, yardstick):
    dear = [Fixed(np.full(table.n_samples, c), np.full(table.n_samples, 2 * table.cost_flops[c])) for c in
            range(table.n_configs)]  # fmt: skip
    found = yardstick.worth(curve_of(dear, table, "test", yardstick.resampling))
    for part in (found.gap, found.saving_static, found.utility_gain):
        np.testing.assert_allclose(part, 0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_must_not_matter_does_not(table, yardstick, data):
    """Order of members, a repeated member and the unit of cost; another member never harms."""
    size = data.draw(st.integers(2, 6))
    score = np.array(data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size)))
    share = np.array(data.draw(st.lists(st.floats(0.01, 2), min_size=size, max_size=size)))
    shape = (len(yardstick.full_score), size)
    whole = Curve("x", np.broadcast_to(score, shape), np.broadcast_to(share, shape) * 300, np.zeros(size))
    order = data.draw(st.permutations(range(size)))

    def taken(at):
        return Curve("x", whole.score[:, at], whole.cost_flops[:, at], whole.parameters[at])

    worth = yardstick.worth(whole)
    np.testing.assert_allclose(yardstick.worth(taken(order)).gap, worth.gap, atol=1e-9)
    np.testing.assert_allclose(yardstick.worth(taken([*order, order[0]])).gap, worth.gap, atol=1e-9)
    fewer = yardstick.worth(taken(order[:-1]))
    assert (fewer.gap <= worth.gap + 1e-9).all()
    assert (fewer.saving_full <= worth.saving_full + 1e-9).all()
    assert (fewer.utility_gain <= worth.utility_gain + 1e-9).all()
    assert worth.gap.min() >= 0


def test_the_unit_of_cost_does_not_matter(table, make_table):
    dear = make_table(
        2400,
        configs=table.configs.assign(cost_flops=1000 * table.configs["cost_flops"]),
        increment_flops=table.increment_flops * 1000,
    )
    for one, other in pairwise([_of_mixtures(table), _of_mixtures(dear)]):
        np.testing.assert_allclose(one.gap, other.gap, atol=1e-5)
        np.testing.assert_allclose(one.saving_full, other.saving_full, atol=1e-6)


def _of_mixtures(table):
    yardstick = Yardstick.of(table, resamples=20)
    members = [*mixtures(table), Fixed(*_cheap_when_agreeing(table))]
    return yardstick.worth(curve_of(members, table, "test", yardstick.resampling))


def test_differences_are_paired(table, yardstick):
    a = yardstick.worth(curve_of([Fixed(*_cheap_when_agreeing(table))], table, "test", yardstick.resampling))
    np.testing.assert_allclose(a.minus(a).gap, 0)
    mean = mean_of([a, a.minus(a)])
    np.testing.assert_allclose(mean.gap, a.gap / 2)
    told = a.to_dict()
    assert told["gap"]["low"] <= told["gap"]["mean"] <= told["gap"]["high"]
    assert [saving["drop"] for saving in told["savings"]] == list(DROPS)


def test_draws_are_draws_with_replacement_and_the_same_for_equal_seeds():
    rows = np.random.default_rng(3).integers(50, size=(50,))
    ones = np.eye(50, dtype=np.float32)
    found = Resampling(50, 1, seed=3).means(ones)
    np.testing.assert_allclose(found[0], 1 / 50)
    np.testing.assert_allclose(found[1] * 50, np.bincount(rows, minlength=50), atol=1e-5)
    wide = np.random.default_rng(0).random((50, 7), np.float32)
    np.testing.assert_allclose(
        Resampling(50, 30).means(wide)[:, 2], Resampling(50, 30).means(wide[:, [2]])[:, 0], rtol=1e-6
    )
    assert not np.allclose(Resampling(50, 30, 1).means(wide)[1:], Resampling(50, 30).means(wide)[1:])


def test_draws_in_blocks_are_the_same_draws(monkeypatch):
    columns = np.random.default_rng(0).random((40, 3), np.float32)
    whole = Resampling(40, 25).means(columns)
    monkeypatch.setattr("policies.curves.draws.BLOCK_VALUES", 7 * 40)
    np.testing.assert_allclose(Resampling(40, 25).means(columns), whole, rtol=1e-6)


def test_intervals_of_draws():
    found = interval(np.r_[0.5, np.linspace(0, 1, 1001)])
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.025, 0.975))
    assert interval(np.array([0.3])).low == 0.3


@pytest.mark.parametrize("algo", ["linear", "reinforce", "threshold", "random"])
def test_a_family_decides_as_its_members_do_alone(table, algo):
    given = {"timesteps": 256} if algo == "reinforce" else {}
    members = members_of(registry.train(algo, table, **given).family, 4)
    rows = table.rows("test")
    for member, decision in zip(members, decisions(members, table, rows), strict=True):
        alone = member.select(table, rows)
        np.testing.assert_array_equal(alone.configuration, decision.configuration)
        np.testing.assert_array_equal(alone.cost_flops, decision.cost_flops)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(2, 33), st.data())
def test_members_are_thinned_evenly_and_the_chosen_one_stays(size, at_most, data):
    family = [Fixed(None, None, str(i)) for i in range(size)]
    kept = family[data.draw(st.integers(0, size - 1))]
    places = [int(member.name) for member in members_of(family, at_most, kept)]
    assert places == sorted(set(places))
    assert len(places) <= at_most + 1
    assert {0, size - 1, int(kept.name)} <= set(places)
    if size > at_most:
        steps = np.diff([int(member.name) for member in members_of(family, at_most)])
        assert steps.max() - steps.min() <= 1


def test_a_policy_beside_its_family_is_a_member_too():
    family, other = [Fixed(None, None, "a"), Fixed(None, None, "b")], Fixed(None, None, "c")
    assert members_of(family, 5, other)[-1] is other


def test_the_answer_of_another_configuration_equals_a_loop(table):
    rows, by_cost = np.arange(300), np.argsort(table.cost_flops, kind="stable")
    for reference in (0, 5, table.full):
        answers = table.prediction[rows, reference]
        expected = [next(c for c in by_cost if table.prediction[r, c] == answers[r]) for r in rows]
        found = SameAnswerOracle(reference=reference).select(table, rows)
        np.testing.assert_array_equal(found.configuration, expected)
        assert found.cost_flops.mean() <= table.cost_flops[reference]


def test_without_predictions_only_the_full_answer_is_known(make_table):
    scores = np.random.default_rng(0).random((400, 18), np.float32)
    dense = make_table(400, score=scores, prediction=None, nll=None)
    yardstick = Yardstick.of(dense, resamples=5)
    assert len(yardstick.reference) == 1
    with pytest.raises(UsageError, match="no predictions"):
        SameAnswerOracle(reference=0).select(dense, np.arange(3))


def test_where_nothing_can_be_saved_there_is_no_gap(make_table):
    """Every configuration wrong, each with an answer of its own: no answer can be had for less."""
    own = np.tile(np.arange(18), (400, 1))
    table = make_table(400, score=np.zeros((400, 18)), prediction=own)
    yardstick = Yardstick.of(table, resamples=5)
    found = yardstick.worth(curve_of(statics(table), table, "test", yardstick.resampling))
    assert np.isnan(found.gap).all()
    assert found.to_dict()["gap"] is None
    assert np.isfinite(found.saving_full).all()


def test_bad_inputs(table):
    with pytest.raises(FileError, match="no samples in split test"):
        Yardstick.of(table.take(table.rows("fit")))
    with pytest.raises(UsageError, match="a resampling of 10"):
        Resampling(10).means(np.zeros((9, 2), np.float32))
    with pytest.raises(UsageError, match="resamples"):
        Resampling(10, -1)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(make_table):
    """Samples of one population, whose gap and savings are known from all of it."""
    large = make_table(120_000, seed=1, tokens=(1, 4), widths=(8,), depths=(1, 2, 3))
    policy = Fixed(*_cheap_when_agreeing(large))
    truth = _worth(large, policy, 0)
    parts = np.array_split(np.random.default_rng(0).permutation(large.rows("test")), 40)
    held = np.zeros(3)
    for part in parts:
        found = _worth(large, policy, 200, part).to_dict()
        pairs = [(found["gap"], truth.gap[0])]
        pairs += [(found["savings"][2][k], getattr(truth, k)[0, 2]) for k in ("saving_full", "saving_static")]
        held += [told["low"] <= value <= told["high"] for told, value in pairs]
    # 36 of 40 or more has a chance of 0.95 at an exact 95 %; 34 of 0.999.
    assert (held >= 34).all(), held


def _worth(table, policy, resamples, rows=None):
    part = table if rows is None else table.take(rows)
    own = policy if rows is None else Fixed(policy.configuration[rows], policy.cost[rows])
    yardstick = Yardstick.of(part, resamples=resamples)
    return yardstick.worth(curve_of([own], part, "test", yardstick.resampling))
