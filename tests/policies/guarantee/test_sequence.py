"""Violations and power of the whole procedure, over populations whose losses are known."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from adapcli.data.splitting import Splitting
from policies import registry
from policies.baselines import Static
from policies.errors import FileError, InfeasibleError, UsageError
from policies.grid import Grid
from policies.guarantee import Promise, certify
from policies.guarantee.planning import needed
from policies.guarantee.sequence import AT_MOST, candidates, walk
from policies.samples import split_option

LIMIT = 0.02
RESAMPLES = 1000


def statics(table):
    return [Static(Grid.of(table), k) for k in range(table.n_configs)]


def as_sequence(table, order):
    """The statics in a given order, as if fit and tune had said so."""
    found = candidates(statics(table), table, Promise(1.0, 0.95))
    return [replace(found[0], policy=Static(Grid.of(table), k)) for k in order]


def test_the_limit_is_broken_as_seldom_as_promised(make_losing_table, redraw):
    """One candidate loses exactly the limit, behind better ones and before a cheaper, worse one."""
    losses, differ = np.array([0.03, LIMIT, 0.006, 0.001]), np.array([0.05, 0.04, 0.012, 0.004])
    table, rng = make_losing_table(losses, differ), np.random.default_rng(0)
    promise, sequence = Promise(LIMIT, 0.95), as_sequence(table, [3, 2, 1, 0])
    broken = reached = 0
    for _ in range(RESAMPLES):
        tested = walk(sequence, redraw(table, losses, differ, rng), promise)
        passed = sum(one.p_value <= promise.level for one in tested)
        broken += passed > 2
        reached += len(tested) > 2
    assert reached > 0.5 * RESAMPLES
    assert broken <= stats.binom.ppf(0.999, RESAMPLES, 0.05)


@pytest.mark.parametrize("loss", ["score", "answer"])
def test_nothing_can_be_gained_by_many_candidates_at_the_limit(make_losing_table, redraw, loss):
    """The first one at the limit ends nearly every sequence: no correction is needed, and none is missing."""
    losses = np.full(6, LIMIT)
    differ = losses if loss == "answer" else 2 * losses
    table, rng = make_losing_table(losses, differ), np.random.default_rng(1)
    promise, sequence = Promise(LIMIT, 0.95, loss), as_sequence(table, [5, 4, 3, 2, 1, 0])
    broken = 0
    for _ in range(RESAMPLES):
        drawn = redraw(table, losses, differ, rng)
        drawn = replace(drawn, agreement=(drawn.score == drawn.score[:, [-1]]).astype(np.float32))
        broken += walk(sequence, drawn, promise)[0].p_value <= promise.level
    assert stats.binom.ppf(0.001, RESAMPLES, 0.02) <= broken <= stats.binom.ppf(0.999, RESAMPLES, 0.05)


def test_most_of_the_attainable_saving_at_four_times_the_needed_samples(make_losing_table, redraw):
    """A trade-off of forty candidates; needed: to certify half the limit."""
    saving = np.linspace(0.9, 0.1, 40)
    losses = LIMIT * (saving / 0.6) ** 2
    differ = 3 * losses
    at_half = 3 * LIMIT / 2
    n = 4 * needed(LIMIT, LIMIT / 2, at_half)
    sizes = {"fit": 12_000, "tune": 4000, "calibration": n, "test": 1}
    table = make_losing_table(losses, differ, costs=1000 * (1 - saving), sizes=sizes)
    promise, rng = Promise(LIMIT, 0.95), np.random.default_rng(2)
    sequence = candidates(statics(table), table, promise)
    attainable, found = saving[losses < LIMIT].max(), []
    for _ in range(60):
        tested = walk(sequence, redraw(table, losses, differ, rng), promise)
        passed = [one for one in tested if one.p_value <= promise.level]
        found.append(1 - passed[-1].cost_flops.mean() / 1000 if passed else 0.0)
    assert np.mean(np.array(found) >= 0.8 * attainable) >= 0.8


def test_candidates_are_few_ordered_and_blind_to_calibration_and_test(make_losing_table):
    losses = np.linspace(0.06, 0.0005, 100)
    table = make_losing_table(losses)
    found = candidates(statics(table), table, Promise(LIMIT))
    costs = [c.cost_flops for c in found]
    assert 2 < len(found) <= AT_MOST
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
    assert costs[0] < table.cost_flops[table.full]
    score = np.array(table.score)
    held_out = np.r_[table.rows("calibration"), table.rows("test")]
    score[held_out] = np.random.default_rng(3).random((len(held_out), 1)) < 0.5
    again = candidates(statics(table), replace(table, score=score), Promise(LIMIT))
    assert [c.policy for c in again] == [c.policy for c in found]


def test_the_first_candidate_does_not_depend_on_the_limit(make_losing_table):
    """So that the limit which an error names is certified when it is asked for."""
    table = make_losing_table(np.linspace(0.06, 0.002, 30))
    first = {
        candidates(statics(table), table, Promise(limit))[0].policy.configuration
        for limit in (0.0, 0.001, 0.02, 0.3)
    }
    assert len(first) == 1


@pytest.mark.parametrize("loss", ["score", "answer"])
def test_the_limits_that_a_refusal_states_give_what_it_states(make_losing_table, loss):
    table = make_losing_table([0.05, 0.02, 0.01, 0.001])
    with pytest.raises(InfeasibleError) as refused:
        certify(statics(table), table, Promise(0.002, 0.95, loss))
    assert "1 000 calibration samples do not certify 0.2" in refused.value.message
    found = re.findall(r"([\d.]+),? sav(?:ing|es) ([\d.]+) %", refused.value.message)
    assert len(found) > 1
    assert float(refused.value.hint.split()[1].rstrip(";")) == pytest.approx(float(found[0][0]) / 100)
    for limit, saving in found:
        _, certificate = certify(statics(table), table, Promise(float(limit) / 100, 0.95, loss))
        assert certificate.certified
        assert f"{100 * certificate.saving:.1f}" == saving
    split = re.search(r"sweep again with --overwrite --split (\d+):(\d+):(\d+):(\d+)", refused.value.hint)
    assert int(split[3]) >= 2000


def test_limits_that_no_command_takes_are_not_proposed(make_losing_table):
    table = make_losing_table([0.3, 0.2])
    with pytest.raises(InfeasibleError, match="nor any limit up to 10") as refused:
        certify(statics(table), table, Promise(0.002))
    assert refused.value.hint.startswith("--best-effort")


def test_the_samples_it_takes_are_told_and_suffice(make_losing_table):
    losses, differ = [0.05, 0.004], [0.06, 0.012]
    table = make_losing_table(
        losses, differ, sizes={"fit": 20_000, "tune": 20_000, "calibration": 500, "test": 1}
    )
    with pytest.raises(InfeasibleError, match=r"1 takes about ([\d ]+) samples") as refused:
        certify(statics(table), table, Promise(0.01))
    enough = int(re.search(r"takes about ([\d ]+) samples", refused.value.message)[1].replace(" ", ""))
    assert enough == pytest.approx(needed(0.01, 0.004, 0.012), rel=0.4)
    sizes = {"fit": 2000, "tune": 500, "calibration": 2 * enough, "test": 1}
    _, certificate = certify(
        statics(table), make_losing_table(losses, differ, sizes=sizes, seed=1), Promise(0.01)
    )
    assert certificate.certified


def test_graded_scores_are_certified_by_bets(make_losing_table):
    table = make_losing_table(
        [0.05, 0.004],
        [0.06, 0.008],
        sizes={**{s: 6000 for s in ("fit", "tune")}, "calibration": 6000, "test": 1},
    )
    graded = replace(table, score=table.score * 0.5 + 0.25)
    _, certificate = certify(statics(graded), graded, Promise(0.01))
    assert (certificate.test, certificate.position) == ("betting", 1)
    _, exact = certify(statics(table), table, Promise(0.01))
    assert exact.test == "trinomial"


def test_learning_for_the_same_answer_sees_no_label(make_table):
    table = make_table(4000, signals=np.random.default_rng(0).random((4000, 18, 2)))
    unlabelled = replace(
        table, score=np.zeros_like(table.score), nll=None, samples=table.samples.assign(target=-1)
    )
    promise = Promise(0.3, 0.95, "answer")
    one = registry.train("threshold", table, promise=promise, best_effort=True)
    other = registry.train("threshold", unlabelled, promise=promise, best_effort=True)
    assert one.policy == other.policy
    assert one.certificate == other.certificate
    assert one.objective.to_dict() == {"same_answer": 0.3}


def test_what_cannot_be_promised(make_losing_table):
    table = make_losing_table([0.01])
    for limit, confidence in ((-0.1, 0.95), (1.5, 0.95), (float("nan"), 0.95), (0.1, 1.0), (0.1, 0.0)):
        with pytest.raises(UsageError):
            Promise(limit, confidence)
    with pytest.raises(InfeasibleError, match="no candidate is cheaper"):
        certify(statics(table)[-1:], table, Promise(0.1))
    lone = replace(table, samples=table.samples.assign(split="fit"))
    with pytest.raises(FileError, match="no samples in split calibration"):
        certify(statics(lone), lone, Promise(0.1))


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"calibration": 1500}, "--split 1750:875:1500:875"),
        ({"calibration": 1500, "tune": 1200}, "--split 1533:1200:1500:766"),
        ({"calibration": 8000}, "--split 2000:1000:8000:1000 of 12 000 samples in all"),
        ({"calibration": 5_000_000}, "--split 200:100:500000:100 of 5 004 000 samples in all"),
    ],
)
def test_the_option_that_gives_more_samples_can_be_typed(make_losing_table, wanted, told):
    assert split_option(make_losing_table([0.01]), **wanted) == told
    assert Splitting.parse(told.split()[1]).by == "ratio"
