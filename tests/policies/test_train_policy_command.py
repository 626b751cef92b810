"""`adap train-policy`, as a person or a script uses it. Refusals: tests/bad_inputs/test_policies.py."""

import csv
import json

import numpy as np
import pytest

import policies
from adapcli.main import main
from policies.evaluate import Evaluation, evaluate
from policies.table import OutcomeTable


@pytest.fixture(scope="module")
def saved(make_table, tmp_path_factory):
    run = tmp_path_factory.mktemp("command") / "run"
    table = make_table(800)
    signals = np.stack([table.score * 0.5 + 0.4, table.score], axis=-1)
    make_table(800, signals=signals).save(run / "table")
    return run


@pytest.fixture
def adap(saved, capsys):
    def call(*words, code=0):
        capsys.readouterr()
        assert main(["train-policy", "--run", str(saved), *words]) == code
        return capsys.readouterr()

    return call


def test_people_see_policy_oracles_and_rivals(adap):
    told = adap("--algo", "threshold", "--name", "people")
    for word in (
        "people",
        "hindsight oracle (not achievable)",
        "same-answer oracle",
        "full configuration",
        "static",
    ):
        assert word in told.out
    assert "next: adap report" in told.err


def test_scripts_get_one_object(adap, saved):
    told = adap("--algo", "static", "--flops-target", "0.6", "--name", "script", "--json", "--quiet")
    content = json.loads(told.out)
    assert told.err == ""
    assert content["schema_version"] == 1
    found = Evaluation.from_dict(content["evaluation"])
    assert found.cost_flops.mean <= 0.6 * found.full_cost_flops


@pytest.mark.parametrize(
    ("algo", "words"),
    [
        ("static", []),
        ("random", []),
        ("threshold", []),
        ("knn", []),
        ("linear", []),
        ("supervised", []),
        ("reinforce", ["--timesteps", "2048"]),
        ("ppo", ["--timesteps", "4096"]),
    ],
)
def test_what_is_kept_is_what_was_told(adap, saved, algo, words):
    told = adap("--algo", algo, "--lambda", "0.3", "--json", "--quiet", *words)
    folder = saved / "policies" / algo
    table = OutcomeTable.load(saved / "table")
    policy = policies.load(folder, table)
    kept = json.loads((folder / "evaluation.json").read_text())
    assert kept["evaluation"] == json.loads(told.out)["evaluation"]
    assert Evaluation.from_dict(kept["evaluation"]) == evaluate(policy, table)
    assert kept["objective"] == {"lambda_": 0.3}
    assert kept["met"] is True
    with (folder / "choices.csv").open() as file:
        rows = list(csv.DictReader(file))
    decision = policy.select(table, table.rows("test"))
    assert [int(row["configuration"]) for row in rows] == decision.configuration.tolist()
    assert np.allclose([float(row["cost_flops"]) for row in rows], decision.cost_flops)
    assert {path.name for path in folder.iterdir()} == {
        "policy.json",
        "policy.safetensors",
        "evaluation.json",
        "choices.csv",
        "curve.csv",
        "reference.json",
    }
    with (folder / "curve.csv").open() as file:
        members = list(csv.DictReader(file))
    chosen = [member for member in members if member["chosen"] == "True"]
    assert [float(member["cost_flops"]) for member in chosen] == [
        pytest.approx(kept["evaluation"]["cost_flops"]["mean"], rel=1e-6)
    ]
    assert [float(member["score"]) for member in chosen] == [
        pytest.approx(kept["evaluation"]["score"]["mean"], abs=1e-6)
    ]
    assert kept["curve"] == json.loads(told.out)["curve"]
    assert len(kept["curve"]["savings"]) == 3


def test_same_seed_same_files(adap, saved):
    for name in ("first", "again"):
        adap("--algo", "ppo", "--timesteps", "2048", "--seed", "5", "--name", name, "--quiet")
    first, again = (saved / "policies" / name for name in ("first", "again"))
    assert (first / "policy.safetensors").read_bytes() == (again / "policy.safetensors").read_bytes()
    assert (first / "choices.csv").read_bytes() == (again / "choices.csv").read_bytes()


def test_the_run_remembers_how(adap, saved):
    adap("--algo", "static", "--name", "remembered", "--seed", "7")
    last = json.loads((saved / "run.json").read_text())["commands"][-1]
    assert last["seed"] == 7


def test_an_earlier_policy_is_replaced_only_if_told(adap, saved):
    adap("--algo", "static", "--name", "twice", "--quiet")
    told = adap("--algo", "random", "--name", "twice", "--quiet", code=2)
    assert "--overwrite" in told.err
    assert policies.load(saved / "policies" / "twice").kind == "static"
    adap("--algo", "random", "--name", "twice", "--quiet", "--overwrite")
    assert policies.load(saved / "policies" / "twice").kind == "random"
