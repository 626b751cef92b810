import json
from dataclasses import replace

import numpy as np
import pytest

from adapcli.commands import search as command
from adapcli.main import main
from adapcli.search import SAMPLERS, SearchResult, Target, exhaustive
from policies.table import OutcomeTable


@pytest.fixture
def run(make_table, tmp_path):
    make_table(200).save(tmp_path / "run" / "table")
    return tmp_path / "run"


def test_saves_and_shows_the_library_s_result(run, adap):
    code, out, err = adap("--flops-target", 0.7)
    expected = exhaustive(OutcomeTable.load(run / "table"), Target(fraction=0.7))
    assert code == 0
    assert SearchResult.load(run / "search") == expected
    assert f"choice: {expected.choice.label}" in out
    assert "95 % interval" in out
    assert "cheaper" in out
    assert "saved in" in err
    tokens, width, depth = (part[1:] for part in expected.choice.label.split())
    assert f"--tokens {tokens} --width {width} --depth {depth}\n" in err
    assert json.loads((run / "run.json").read_text())["commands"][0]["command"].startswith("adap")


def test_json_is_one_object_on_stdout(adap, run):
    code, out, err = adap("--min-score", 0.5, "--json", "--quiet")
    assert (code, err.count("warning: ")) == (0, 1)  # the test samples miss it
    content = json.loads(out)
    assert SearchResult.from_dict(content) == SearchResult.load(run / "search")
    assert content["schema_version"] == 1
    assert content["choice"]["cost"] <= content["full"]["cost"]


def test_without_a_target_there_is_a_front_and_no_choice(adap):
    code, out, err = adap()
    assert code == 0
    assert "Pareto front" in out
    assert "choice" not in out
    assert "--flops-target" in err


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_tell_their_regret_and_resume(adap, tmp_path, sampler):
    given = ("--sampler", sampler, "--study", tmp_path / "s.log", "--flops-target", 0.7)
    code, out, _ = adap(*given, "--trials", 3)
    assert code == 0
    assert "regret against the exhaustive front" in out
    code, out, err = adap(*given, "--trials", 5)
    assert "5 configurations evaluated, 2 of them now" in out
    assert "kept the earlier result" in err


def test_the_command_knows_the_library_s_samplers():
    assert command.SAMPLERS == SAMPLERS


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--flops-target", "nan"], 2, "a fraction in (0, 1]: write 0.7"),
        (["--flops-target", "inf"], 2, "a fraction in (0, 1]: write 0.7"),
        (["--flops-target", "-1"], 2, "a fraction in (0, 1]: write 0.7"),
        (["--flops-target", "0,7"], 2, "a fraction in (0, 1]: write 0.7"),
        (["--flops-target", "70"], 2, "a fraction in (0, 1]: write 0.7"),
        (["--min-score", "nan"], 2, "a fraction in (0, 1]: write 0.7"),
        (["--flops-target", "0.01"], 5, "of full"),
        (["--min-score", "1"], 5, "the best configuration reaches"),
        (["--flops-target", "0.5", "--min-score", "0.5"], 2, "exclude each other"),
        (["--sampler", "cmaes"], 2, "allowed are tpe, nsga2, random, grid"),
        (["--sampler", "tpe", "--trials", "0"], 2, "from 1 to"),
        (["--seed", str(2**70)], 2, "from 0 to"),
        (["--trials", "5"], 2, "go with --sampler"),
        (["--study", "x"], 2, "go with --sampler"),
    ],
)
def test_wrong_arguments(adap, run, arguments, code, message):
    found, out, err = adap(*arguments)
    assert found == code
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert not (run / "search").exists()


def test_without_a_table_the_command_that_makes_one_is_named(tmp_path, capsys):
    assert main(["search", "--run", str(tmp_path)]) == 3
    assert "sweep" in capsys.readouterr().err


def test_a_damaged_table_is_named_with_its_place(run, adap):
    path = run / "table" / "score.npy"
    content = bytearray(path.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"  # NaN
    path.write_bytes(content)
    code, _, err = adap()
    assert code == 3
    assert "score, row 199, column 17: nan" in err


def test_a_torn_study_is_repaired_with_a_warning(adap, tmp_path):
    given = ("--sampler", "random", "--study", tmp_path / "s.log")
    adap(*given, "--trials", 3)
    (tmp_path / "s.log").write_bytes((tmp_path / "s.log").read_bytes()[:-9])
    code, _, err = adap(*given, "--trials", 4, "--quiet")
    assert code == 0
    assert "warning" in err
    assert "torn" in err


def test_a_study_of_another_target_is_refused(adap, tmp_path):
    given = ("--sampler", "random", "--study", tmp_path / "s.log", "--trials", 3)
    assert adap(*given)[0] == 0
    code, _, err = adap(*given, "--flops-target", 0.5)
    assert code == 3
    assert "study was made for no target, not target 0.5" in err


def test_a_score_that_the_test_samples_miss_is_warned_of(make_table, tmp_path, capsys):
    """On the calibration samples every configuration is right, on the test samples none."""
    table = make_table(200)
    score = np.array(table.score)
    score[table.rows("calibration")], score[table.rows("test")] = 1, 0
    replace(table, score=score).save(tmp_path / "table")
    assert main(["search", "--run", str(tmp_path), "--min-score", "90%", "--json"]) == 0
    out, err = capsys.readouterr()
    told = "accuracy of at least 90 %: kept on the calibration samples, but not on the test samples: 0.00 %"
    assert told in json.loads(out)["warnings"][0]
    assert f"warning: {told}" in err
    assert "chosen on only 50 calibration samples" in err
    assert "accuracy there: 100.00 % (92.87 .. 100.00)" in err
