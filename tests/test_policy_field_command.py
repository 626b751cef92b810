"""`adap train-policy --algo all`: what it keeps, tells, resumes and refuses."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from adapcli.main import main
from policies import registry
from policies.field import entrant as module
from policies.table import OutcomeTable


@pytest.fixture(scope="module", autouse=True)
def few():
    """Three kinds that train at once; knn learns from features."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        names = {"static", "threshold", "reinforce"}
        left = {known.algo for known in module._KNOWN} - names
        monkeypatch.setattr(module, "_KNOWN", tuple(k for k in module._KNOWN if k.name in names))
        monkeypatch.setattr(module, "_LEFT_OUT", (*module._LEFT_OUT, *left))
        yield


@pytest.fixture
def run(make_table, tmp_path):
    make_table(400).save(tmp_path / "run" / "table")
    return tmp_path / "run"


@pytest.fixture
def adap(run, capsys):
    def call(*arguments):
        code = main(["train-policy", "--run", str(run), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_field_is_kept_told_and_recommended(run, adap):
    code, out, err = adap("--algo", "all", "--json")
    told, table = json.loads(out), OutcomeTable.load(run / "table")
    kept = json.loads((run / "field" / "field.json").read_text())
    assert code == 0
    assert told | kept == told
    assert [entry["name"] for entry in kept["entries"]] == ["static", "threshold"]
    assert kept["skipped"][0]["name"] == "reinforce"
    assert "reinforce is left out: the table has no patches" in err
    assert kept["recommendation"]["name"] in ("static", "threshold")
    assert [oracle["attainable"] for oracle in kept["oracles"]] == [False, False]
    rows = pd.read_csv(run / "field" / "field.csv")
    assert rows["name"].tolist() == ["static", "threshold", "same-answer oracle", "hindsight oracle"]
    assert rows["gap"][0] == pytest.approx(0, abs=1e-5)
    for name in ("static", "threshold"):
        policy = registry.load(run / "policies" / name, table)
        curve = pd.read_csv(run / "policies" / name / "curve.csv")
        decision = policy.select(table, table.rows("test"))
        chosen = curve[curve["chosen"]]
        assert chosen["cost_flops"].iloc[0] == pytest.approx(decision.cost_flops.mean(), rel=1e-6)
        assert np.isfinite(curve[["score", "score_low", "score_high", "cost_share"]]).all().all()
    made = json.loads((run / "policies" / "threshold" / "evaluation.json").read_text())
    entry = kept["entries"][1]
    assert made["curve"]["gap"] == entry["gap"]


def test_people_see_a_table_and_one_name(adap):
    code, out, err = adap("--algo", "all")
    assert code == 0
    assert "same-answer oracle (not achievable)" in out
    assert "recommended: " in out
    assert "On 100 test samples it saves" in out
    assert "next: adap report" in err


def test_what_is_done_is_not_trained_again(run, adap, monkeypatch):
    assert adap("--algo", "all", "--quiet")[0] == 0
    first = (run / "field" / "field.json").read_bytes()
    code, _, err = adap("--algo", "all")
    assert code == 2
    assert "add --resume to go on or --overwrite to start again" in err

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(registry, "train", refuse)
    assert adap("--algo", "all", "--resume", "--quiet")[0] == 0
    assert (run / "field" / "field.json").read_bytes() == first


def test_an_interrupted_field_goes_on_where_it_stopped(run, adap, monkeypatch):
    train, done = registry.train, []

    def interrupted(algo, *args, **kwargs):
        done.append(algo)
        if done == ["static", "threshold"]:
            raise KeyboardInterrupt
        return train(algo, *args, **kwargs)

    monkeypatch.setattr(registry, "train", interrupted)
    code, _, err = adap("--algo", "all")
    assert code == 130
    assert "--algo all --resume" in err
    assert adap("--algo", "all", "--resume", "--quiet")[0] == 0
    assert done == ["static", "threshold", "threshold"]


def test_overwriting_begins_anew_even_if_interrupted(run, adap, monkeypatch):
    assert adap("--algo", "all", "--quiet")[0] == 0
    train, calls = registry.train, []

    def interrupted(algo, *args, **kwargs):
        calls.append(algo)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(algo, *args, **kwargs)

    monkeypatch.setattr(registry, "train", interrupted)
    assert adap("--algo", "all", "--overwrite", "--max-drop", 0.02)[0] == 130
    assert adap("--algo", "all", "--resume", "--max-drop", 0.02, "--quiet")[0] == 0
    assert calls == ["static", "threshold", "threshold"]
    made = json.loads((run / "policies" / "threshold" / "evaluation.json").read_text())
    assert made["objective"] == {"max_drop": 0.02}


def test_another_objective_is_not_resumed(adap):
    assert adap("--algo", "all", "--quiet")[0] == 0
    code, _, err = adap("--algo", "all", "--resume", "--max-drop", 0.02)
    assert code == 3
    assert "'max_drop': 0.01} there" in err


def test_policies_trained_alone_stay_beside_the_field(run, adap):
    assert adap("--algo", "threshold", "--lambda", 50, "--quiet")[0] == 0
    before = (run / "policies" / "threshold" / "policy.json").read_bytes()
    code, _, err = adap("--algo", "all")
    assert code == 0
    assert "policy threshold was trained alone and stays; the one compared here is all-threshold" in err
    assert (run / "policies" / "threshold" / "policy.json").read_bytes() == before
    member = run / "field" / "members" / "threshold" / "seed-0" / "policy.json"
    assert (run / "policies" / "all-threshold" / "policy.json").read_bytes() == member.read_bytes()
    assert adap("--algo", "all", "--resume")[0] == 0
    assert (run / "policies" / "threshold" / "policy.json").read_bytes() == before
    shutil.copytree(run / "policies" / "threshold", run / "policies" / "all-threshold", dirs_exist_ok=True)
    code, _, err = adap("--algo", "all", "--resume")
    assert code == 2
    assert "holds policies threshold and all-threshold that were trained alone" in err
    assert adap("--algo", "all", "--overwrite", "--quiet")[0] == 0
    member = run / "field" / "members" / "threshold" / "seed-0" / "policy.json"
    assert (run / "policies" / "threshold" / "policy.json").read_bytes() == member.read_bytes()


@pytest.mark.parametrize("words", [("--name", "x"), ("--env", "anytime"), ("--actions", "factored")])
def test_options_of_one_algorithm_are_refused(adap, words):
    code, _, err = adap("--algo", "all", *words)
    assert code == 2
    assert f"{words[0]} does not go with --algo all" in err


def test_seeds_belong_to_the_field(adap):
    code, _, err = adap("--algo", "static", "--seeds", 3)
    assert code == 2
    assert "static has no option seeds" in err
    assert adap("--algo", "all", "--seeds", 0)[0] == 2


def test_without_a_table_it_says_what_makes_one(tmp_path, capsys):
    assert main(["train-policy", "--algo", "all", "--run", str(tmp_path / "none")]) == 3
    assert "adap sweep" in capsys.readouterr().err
