"""The loss of each exit: adds up to the whole, and many groups widen the intervals."""

from dataclasses import replace

import numpy as np
import pytest

from policies.baselines import RandomMixture, Static
from policies.evaluate import evaluate
from policies.grid import Grid
from policies.guarantee import exits


def mixture(table):
    chances = np.zeros(table.n_configs)
    chances[[0, 5, table.full]] = (0.5, 0.3, 0.2)
    return RandomMixture(Grid.of(table), tuple(chances.tolist()))


def test_groups_add_up_to_the_policy_s_loss(make_table):
    table = make_table(2000)
    policy = mixture(table)
    found, judged = exits(policy, table), evaluate(policy, table, resamples=0)
    assert sum(g.n for g in found) == judged.n
    assert [g.n for g in found] == sorted((g.n for g in found), reverse=True)
    total = sum(g.share * g.loss.mean for g in found)
    assert total == pytest.approx(-judged.score_difference.mean)
    at_full = next(g for g in found if g.configuration == table.full)
    assert at_full.loss.mean == 0


def test_answers_need_no_labels(make_table):
    table = make_table(2000)
    rng = np.random.default_rng(0)
    blind = replace(table, score=rng.random(table.score.shape, np.float32))
    policy = mixture(table)
    assert exits(policy, table, loss="answer") == exits(policy, blind, loss="answer")


def test_a_single_group_has_the_plain_interval_and_more_have_wider_ones(make_table):
    table = make_table(2000)
    (alone,) = exits(Static(Grid.of(table), 0), table)
    (same,) = exits(Static(Grid.of(table), 0), table, confidence=0.9)
    assert alone.loss.low < same.loss.low < same.loss.mean < same.loss.high < alone.loss.high
