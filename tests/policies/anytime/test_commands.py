"""`adap train-policy` with the policies that look and go on."""

import json

import pytest

import policies
from adapcli.main import main
from policies.evaluate import Evaluation, evaluate
from policies.table import OutcomeTable


@pytest.fixture(scope="module")
def run(make_walkable, tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk") / "run"
    make_walkable(600).save(folder / "table")
    return folder


@pytest.mark.parametrize(
    ("words", "name", "kind"),
    [
        (["gate"], "gate", "gate"),
        (["path"], "path", "path"),
        (["one-threshold"], "one-threshold", "threshold"),
        (["ppo", "--env", "anytime", "--timesteps", "8192"], "anytime-ppo", "anytime-ppo"),
        (["ppo", "--env", "anytime", "--timesteps", "8192", "--target", "same-answer", "--name", "same"],
         "same", "anytime-ppo"),
    ],
)  # fmt: skip
def test_what_is_kept_is_what_was_told(run, capsys, words, name, kind):
    assert main(["train-policy", "--run", str(run), "--json", "--quiet", "--algo", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    table = OutcomeTable.load(run / "table")
    policy = policies.load(run / "policies" / name, table)
    assert policy.kind == kind
    assert evaluate(policy, table) == Evaluation.from_dict(told["evaluation"])
    assert main(["evaluate-policy", "--run", str(run), "--policy", name, "--json", "--quiet"]) == 0
    applied = json.loads(capsys.readouterr().out)
    assert applied["evaluation"] == told["evaluation"]
