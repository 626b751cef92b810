"""`target="same-answer"`: every algorithm learns without a label, and says what was counted."""

import json
from dataclasses import replace

import numpy as np
import pytest

from adapcli.main import main
from policies import registry
from policies.base import measure
from policies.errors import UsageError
from policies.evaluate import evaluate, met
from policies.guarantee import Promise
from policies.objective import Objective

FAST = {"ppo": {"timesteps": 2000, "n_envs": 64}, "a2c": {"timesteps": 2000, "n_envs": 64},
        "dqn": {"timesteps": 2000, "n_envs": 64}, "reinforce": {"timesteps": 2000}}  # fmt: skip
SLOW = ("path", "one-threshold", "supervised", "ppo", "a2c", "dqn", "reinforce")
ALGORITHMS = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in registry.names()
]


def scrambled(table):
    """Whatever tells of labels is noise; answers, agreement and signals are as they were."""
    rng = np.random.default_rng(9)
    return replace(
        table,
        score=rng.random(table.score.shape, np.float32),
        nll=rng.random(table.score.shape, np.float32),
        samples=table.samples.assign(target=rng.permutation(table.samples["target"].to_numpy())),
    )


@pytest.fixture
def table(make_table):
    return make_table(400)


def same(one, two):
    assert (one.kind, one.parameters(), one.own_flops) == (two.kind, two.parameters(), two.own_flops)
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, two.arrays()[name])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_no_label_is_read(table, algo):
    options = {"target": "same-answer", "max_drop": 0.3, **FAST.get(algo, {})}
    one, two = (registry.train(algo, each, **options) for each in (table, scrambled(table)))
    same(one.policy, two.policy)
    assert (one.score, one.cost_flops, one.met) == (two.score, two.cost_flops, two.met)


@pytest.mark.slow
def test_nor_by_an_agent_that_looks_at_answers(table):
    options = {"env": "anytime", "target": "same-answer", "max_drop": 0.3, "timesteps": 2000, "n_envs": 64}
    one, two = (registry.train("ppo", each, **options) for each in (table, scrambled(table)))
    same(one.policy, two.policy)


@pytest.mark.parametrize("algo", ["static", "threshold", "linear", "gate"])
def test_max_drop_is_then_a_share_of_other_answers(table, algo):
    trained = registry.train(algo, table, target="same-answer", max_drop=0.4)
    assert (trained.target, trained.objective) == ("same-answer", Objective(same_answer=0.4))
    agreeing = replace(table, score=table.agreement)
    assert trained.score == measure([trained.policy], agreeing, table.rows("tune")).score[0]
    assert trained.met
    assert trained.score >= 0.6
    judged = evaluate(trained.policy, table, resamples=0)
    assert met(trained.objective, judged) == (judged.agreement.mean >= 0.6)


def test_other_goals_stay_what_they_are(table):
    trained = registry.train("static", table, target="same-answer", flops_target=0.6)
    assert (trained.target, trained.objective) == ("same-answer", Objective(flops_target=0.6))
    assert registry.train("static", table).target == "score"


def test_guarantees_keep_their_promise_whatever_the_target(make_table):
    table, kept = make_table(2000), {"target": "same-answer", "promise": Promise(0.1)}
    trained = registry.train("static", table, **kept, best_effort=True)
    assert trained.certificate["loss"] == "score"
    assert trained.objective == Objective(max_drop=0.1)


def test_every_algorithm_has_the_option():
    assert all(registry.options(name).count("target") == 1 for name in registry.names())


def test_other_targets_are_refused(table):
    with pytest.raises(UsageError, match="target 'answer': not known"):
        registry.train("static", table, target="answer")


def test_the_command_says_what_was_counted(table, tmp_path, capsys):
    table.save(tmp_path / "run" / "table")
    words = ["train-policy", "--run", str(tmp_path / "run"), "--algo", "linear", "--target", "same-answer"]
    assert main([*words, "--max-drop", "0.3"]) == 0
    out, _ = capsys.readouterr()
    assert "no label was read in training" in out
    kept = json.loads((tmp_path / "run" / "policies" / "linear" / "evaluation.json").read_text())
    assert (kept["target"], kept["objective"]) == ("same-answer", {"same_answer": 0.3})


def test_a_wish_broken_on_test_is_told_as_one_of_answers(table, tmp_path, capsys):
    """On tune every configuration agrees with the full one, on test none does."""
    agreement = np.ones_like(table.agreement)
    agreement[table.rows("test")] = (np.arange(table.n_configs) == table.full).astype(np.float32)
    replace(table, agreement=agreement).save(tmp_path / "run" / "table")
    words = ["--algo", "static", "--target", "same-answer", "--max-drop", "0.05"]
    assert main(["train-policy", "--run", str(tmp_path / "run"), *words]) == 0
    told = "at most 5 % of other answers than the full configuration's: kept on the tune samples, but not"
    assert told in capsys.readouterr().err


def test_without_labels_the_target_is_the_same_answer(table, without_labels):
    blind = without_labels(table)
    trained = registry.train("threshold", blind, max_drop=0.3)
    aimed = registry.train("threshold", table, max_drop=0.3, target="same-answer")
    assert (trained.target, trained.objective) == ("same-answer", Objective(same_answer=0.3))
    same(trained.policy, replace(aimed.policy, grid=trained.policy.grid))
    with pytest.raises(UsageError, match="no labels"):
        registry.train("threshold", blind, target="score")
    with pytest.raises(UsageError, match="no labels") as refused:
        registry.train("threshold", blind, promise=Promise(0.02))
    assert refused.value.hint == "guarantee the answers: --same-answer 0.02 --confidence 0.95"


def test_every_command_says_agreement_where_there_are_no_labels(table, without_labels, tmp_path, capsys):
    run = tmp_path / "run"
    without_labels(table).save(run / "table")
    words = {
        "search": ["--min-score", "0.5"],
        "train-policy": ["--algo", "threshold", "--max-drop", "0.3"],
        "evaluate-policy": ["--policy", "threshold"],
        "report": [],
    }
    for command, options in words.items():
        assert main([command, "--run", str(run), *options]) == 0
        out, err = capsys.readouterr()
        assert "agreement with" in out
        assert "accuracy" not in out + err
    text = (run / "report" / "report.md").read_text()
    assert "Agreement with full over cost" in text
    assert "accuracy" not in text.lower()
    assert "have no labels" in text
    assert main(["train-policy", "--run", str(run), "--target", "score"]) == 2
    assert "error: target score: these samples have no labels" in capsys.readouterr().err
