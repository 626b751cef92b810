"""The commands' work as functions of Python: the same results, in the same run folder."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import adapcli
from adapcli.errors import UsageError
from adapcli.main import main
from adapcli.run import Run
from policies.table import OutcomeTable

AXES = ["--tokens", "1,16", "--widths", "64", "--depths", "1,6"]
HOME = {"tokens": [1, 16], "widths": [64], "depths": [1, 6]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same sweep and search by commands (a) and from Python (b)."""
    folder = tmp_path_factory.mktemp("runs")
    by_command, threads = str(folder / "a"), torch.get_num_threads()
    assert main(["sweep", "--limit", "60", *AXES, "--run", by_command, "--quiet"]) == 0
    assert main(["search", "--flops-target", "0.5", "--run", by_command, "--quiet"]) == 0
    torch.set_num_threads(threads)
    table = adapcli.sweep(adapcli.packaged(), limit=60, run=folder / "b", **HOME)
    adapcli.search(run=folder / "b", flops_target=0.5)
    return folder, table


def test_sweep_makes_the_table_of_the_command(runs):
    folder, table = runs
    theirs = OutcomeTable.load(folder / "a/table")
    for name in ("score", "prediction", "signals", "features", "increment_flops"):
        np.testing.assert_array_equal(getattr(table, name), getattr(theirs, name))
    facts = [json.loads((folder / run / "run.json").read_text()) for run in "ab"]
    assert facts[0]["checkpoint"] == facts[1]["checkpoint"]
    assert facts[0]["data"] == facts[1]["data"]
    assert facts[1]["commands"][0]["command"].startswith("adap sweep --ckpt")


def test_search_finds_and_keeps_what_the_command_does(runs):
    folder, table = runs
    kept = [json.loads((folder / run / "search/search.json").read_text()) for run in "ab"]
    assert kept[0] == kept[1]
    assert adapcli.search(table, flops_target=0.5).choice.index == kept[1]["choice"]["index"]


def test_a_model_that_is_on_no_disk_is_saved_with_its_run(runs, tmp_path):
    model = adapcli.load(adapcli.packaged())
    table = adapcli.sweep(model, limit=40, run=tmp_path / "c", **HOME)
    again = adapcli.load(Run.open(tmp_path / "c").checkpoint())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert 30 < table.n_samples <= 40


def test_wrong_arguments_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="tokens: expected a list"):
        adapcli.bench(adapcli.packaged(), tokens=8)
    with pytest.raises(UsageError, match="exclude each other"):
        adapcli.search(flops_target=0.5, min_score=0.5)


def test_what_packages_are_called_can_be_called_before_and_after_they_are_imported():
    code = "import adapcli; f = adapcli.search; import adapcli.search.target; assert f is adapcli.search"
    code += "; import sys; assert callable(adapcli.sweep) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_shows_the_public_names_and_nothing_else():
    import policies

    assert {name for name in dir(adapcli) if not name.startswith("__")} == set(adapcli.__all__)
    assert {name for name in dir(policies) if not name.startswith("__")} == set(policies.__all__)
    assert all(getattr(adapcli, name) is not None for name in adapcli.__all__)
