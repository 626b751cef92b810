"""`adap evaluate-policy`: what it tells, what it refuses, and its exit codes."""

import json

import pytest

from adapcli.main import main
from policies import evaluate, registry
from policies.table import OutcomeTable


@pytest.fixture
def runs(telling, tmp_path):
    """A run with two policies, one over samples like its own, one over others."""
    for name, options in {
        "made": {},
        "alike": {"seed": 5, "meta": {"fingerprints": {"checkpoint": "abc", "data": "alike"}}},
        "moved": {"seed": 6, "shift": -0.4, "meta": {"fingerprints": {"checkpoint": "abc", "data": "moved"}}},
    }.items():
        telling(**options).save(tmp_path / name / "table")
    for words in (["threshold", "--flops-target", "0.6"], ["static"]):
        assert main(["train-policy", "--run", str(tmp_path / "made"), "--algo", *words, "-q"]) == 0
    return tmp_path


@pytest.fixture
def adap(runs, capsys):
    def call(policy, run, *words):
        capsys.readouterr()
        place = str(runs / "made" / "policies" / policy)
        code = main(["evaluate-policy", "--policy", place, "--run", str(runs / run), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_it_tells_the_library_s_numbers(runs, adap):
    code, out, err = adap("threshold", "alike", "--json", "--strict")
    told, table = json.loads(out), OutcomeTable.load(runs / "alike" / "table")
    policy = registry.load(runs / "made" / "policies" / "threshold")
    assert (code, err) == (0, "")
    assert told["evaluation"] == json.loads(json.dumps(evaluate.evaluate(policy, table).to_dict()))
    kept = json.loads((runs / "made" / "policies" / "threshold" / "evaluation.json").read_text())
    assert told["promised"] == kept["evaluation"]
    assert (told["drifted"], told["recalibrate"], told["same_data"]) == (False, False, False)


def test_people_see_both_beside_each_other(adap):
    code, out, _ = adap("threshold", "alike")
    assert code == 0
    assert "promised, n = 500" in out
    assert "0 of 2 distributions drifted" in out
    assert "nothing asks for calibrating anew" in out


def test_drift_is_told_and_strict_fails(adap):
    code, out, err = adap("threshold", "moved")
    assert code == 0
    assert "drifted" in out
    assert "warning: calibrate anew on samples like these: what it looks at has drifted" in err
    assert adap("threshold", "moved", "--strict", "--quiet")[0] == 1


def test_the_blind_cannot_drift(adap):
    code, out, _ = adap("static", "moved", "--strict")
    assert code == 0
    assert "looks at nothing that could drift" in out


def test_policies_without_a_reference_say_so(runs, adap):
    (runs / "made" / "policies" / "threshold" / "reference.json").unlink()
    code, _, err = adap("threshold", "moved", "--strict")
    assert code == 0
    assert "drift is not known" in err


def test_other_splits(adap):
    code, out, _ = adap("threshold", "alike", "--split", "fit", "--json")
    assert code == 0
    assert json.loads(out)["evaluation"]["split"] == "fit"


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"signal_names": ("surety", "margin")}, 3, "needs the signal confidence, which the table lacks"),
        ({"depths": (1, 2)}, 3, "made for another grid: 18 / 12 configurations"),
        ({"meta": {"fingerprints": {"checkpoint": "x"}}}, 3, "checkpoint abc / x (policy / table)"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(runs, adap, make_table, changed, code, told):
    make_table(**changed).save(runs / "other" / "table")
    found, out, err = adap("threshold", "other")
    assert (found, out) == (code, "")
    assert told in err
    assert len(err.splitlines()) == 2


def test_unknown_splits_and_policies_are_refused(adap):
    assert adap("threshold", "alike", "--split", "train")[0] == 2
    code, _, err = adap("treshold", "alike")
    assert code == 3
    assert "no such policy folder" in err
