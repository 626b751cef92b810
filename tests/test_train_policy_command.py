"""`adap train-policy`: what it keeps, what it tells, and that both are the library's numbers."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adapcli.main import main
from policies import evaluate, registry
from policies.table import OutcomeTable


@pytest.fixture
def run(make_table, tmp_path):
    make_table(200).save(tmp_path / "run" / "table")
    return tmp_path / "run"


@pytest.fixture
def adap(run, capsys):
    def call(*arguments):
        code = main(["train-policy", "--run", str(run), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_keeps_and_tells_the_library_s_evaluation(run, adap):
    code, out, err = adap("--algo", "static", "--flops-target", 0.7, "--json")
    table, told = OutcomeTable.load(run / "table"), json.loads(out)
    kept = registry.load(run / "policies" / "static", table)
    trained = registry.train("static", table, flops_target=0.7)
    assert code == 0
    assert kept == trained.policy
    assert told["evaluation"] == json.loads(json.dumps(evaluate.evaluate(kept, table).to_dict()))
    assert (told["objective"], told["met"]) == ({"flops_target": 0.7}, True)
    assert told["tune"]["cost_flops"] <= 0.7 * table.cost_flops[table.full]
    assert f"next: adap report --run {run}" in err
    assert told | json.loads((run / "policies" / "static" / "evaluation.json").read_text()) == told


def test_what_was_decided_per_sample_adds_up(run, adap):
    code, _, _ = adap("--algo", "random", "--lambda", 0.1, "--name", "mixed", "--quiet")
    table = OutcomeTable.load(run / "table")
    choices = pd.read_csv(run / "policies" / "mixed" / "choices.csv")
    told = json.loads((run / "policies" / "mixed" / "evaluation.json").read_text())["evaluation"]
    assert code == 0
    np.testing.assert_array_equal(choices["row"], table.rows("test"))
    np.testing.assert_array_equal(choices["cost_flops"], table.cost_flops[choices["configuration"]])
    np.testing.assert_array_equal(choices["score"], table.score[choices["row"], choices["configuration"]])
    assert choices["cost_flops"].mean() == pytest.approx(told["cost_flops"]["mean"])
    assert choices["score"].mean() == pytest.approx(told["score"]["mean"])


def test_no_loss_at_all_can_be_asked_for(adap):
    code, out, _ = adap("--algo", "static", "--max-drop", 0, "--json")
    assert code == 0
    assert json.loads(out)["met"]


@pytest.mark.parametrize("loss", ["-0.1", "2", "nan", "little"])
def test_a_loss_that_is_none_is_refused(adap, loss):
    code, _, err = adap("--algo", "static", "--max-drop", loss)
    assert code == 2
    assert "expected a loss of score in [0, 1], such as 0.01" in err


def test_a_promise_kept_on_tune_but_broken_on_test_is_told(run, adap, make_table):
    """On tune the cheapest is as good as the full configuration, on test it is not."""
    table = make_table(200)
    score = table.score.copy()
    score[table.rows("tune")] = 1.0
    score[table.rows("test")] = (np.arange(table.n_configs) == table.full).astype(np.float32)
    replace(table, score=score).save(run / "table", overwrite=True)
    code, out, err = adap("--algo", "static", "--max-drop", 0.01, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["met"], told["met_on_test"]) == (True, False)
    assert "kept on the tune samples, but not on the test samples" in err


def test_few_tune_samples_are_stated_with_their_interval(adap, make_table, tmp_path, capsys):
    _, _, err = adap("--algo", "static", "--max-drop", "50%")
    assert "chosen on only 50 tune samples" in err
    assert re.search(r"sweep again with --overwrite --split \d+:1000:\d+:\d+", err)
    assert re.search(r"against full there: -\d+\.\d\d points \(-\d+\.\d\d \.\. [+-]\d+\.\d\d\)", err)
    make_table(4000).save(tmp_path / "many" / "table")
    assert main(["train-policy", "--run", str(tmp_path / "many"), "--algo", "static"]) == 0
    assert "chosen on only" not in capsys.readouterr().err
