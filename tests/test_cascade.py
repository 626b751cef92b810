"""The worked example of a table that adapcli did not make: it runs without adapcli, and its run is read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapcli.main import main
from policies import registry
from policies.table import OutcomeTable

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "cascade" / "cascade.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    given = ["cascade.py", "--samples", "6000", "--run", str(folder), "--max-drop", "0.02"]
    alone = f"""if True:
        import runpy, sys
        sys.modules["adapcli"], sys.argv = None, {given!r}
        runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", alone], capture_output=True, text=True, env=environment, timeout=280
    )
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


@pytest.mark.slow
def test_splits_are_honest_and_costs_are_those_of_the_models(made):
    folder, _ = made
    table = OutcomeTable.load(folder / "table")
    assert list(table.configs["model"]) == ["logistic", "small", "large"]
    small = 2 * (40 * 32 + 32 * 8) + 2 * 40
    large = 2 * (40 * 512 + 512 * 256 + 256 * 8) + 2 * 40
    np.testing.assert_array_equal(table.cost_flops, [2 * 40 * 8 + 2 * 40, small, large])
    assert table.increment_flops[1, 2] == large
    assert table.n_samples < 6000 * 0.8, "samples that trained the models are in the table"
    assert table.score[:, 2].mean() > table.score[:, 0].mean() + 0.05


@pytest.mark.slow
def test_it_saves_and_says_so(made):
    folder, out = made
    results = json.loads((folder / "results.json").read_text())
    for name in ("gate", "threshold"):
        judged = results[name]["evaluation"]
        assert judged["saving_full"]["mean"] > 0.3
        assert judged["saving_static"]["low"] > 0
    assert "Certified with 95 % confidence" in out
    table = OutcomeTable.load(folder / "table")
    kept = registry.load(folder / "policies" / "gate", table)
    decision = kept.select(table, table.rows("test"))
    assert decision.cost_flops.mean() == pytest.approx(results["gate"]["evaluation"]["cost_flops"]["mean"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["search", "--flops-target", "0.5"], 0, "choice: model="),
        (["train-policy", "--algo", "linear", "--flops-target", "0.5"], 0, "linear"),
        (["train-policy", "--algo", "knn", "--flops-target", "0.9"], 0, "knn"),
        (["train-policy", "--algo", "ppo", "--timesteps", "2000", "--flops-target", "0.5"], 0, "ppo"),
        (["evaluate-policy", "--policy", "gate"], 0, "distributions drifted"),
        (["report"], 0, "Full configuration, for comparison"),
        (["bench"], 3, "swept with another checkpoint"),
        (["predict", "--policy", "gate", "x.png"], 3, "was made for another checkpoint"),
    ],
)
def test_commands_work_on_it_or_refuse_in_a_line(made, capsys, words, code, told):
    folder, _ = made
    found = main([*words, "--run", str(folder), "--quiet"])
    out, err = capsys.readouterr()
    assert found == code, err
    assert told in out + err
