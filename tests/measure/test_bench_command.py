"""`adap bench` as it is typed, on a tiny model; no time is asserted."""

import json

import pytest
import torch

import adapcli
from adapcli.commands import bench as command
from adapcli.commands import benched
from adapcli.main import main
from adapcli.measure import bench as library
from adapcli.measure import latency as stopwatch
from adapcli.measure import selection
from adapcli.measure.record import Record
from policies.table import OutcomeTable
from policies.table.latency import COLUMNS, conditions

QUICK = ("--rounds", 3, "--batch", "1,2")
FEW = ("--tokens", "1,8", "--depths", "1,3", "--widths", "6,24")


@pytest.fixture(scope="module")
def checkpoint(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "m.pt"
    adapcli.save(make_model(num_classes=10), path)
    return path


@pytest.fixture(scope="module")
def swept(checkpoint, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    assert (
        main(["sweep", "--ckpt", str(checkpoint), "--run", str(run), "--limit", "60", "--quiet", *FEW]) == 0
    )
    for algo in ("threshold", "static", "random"):
        assert main(["train-policy", "--algo", algo, "--run", str(run), "--quiet"]) == 0
    return run


@pytest.fixture
def run(swept, tmp_path):
    import shutil

    return shutil.copytree(swept, tmp_path / "run")


@pytest.fixture
def adap(capsys, monkeypatch):
    monkeypatch.setattr(stopwatch.Stopwatch, "repeats", lambda self, pace_s: 1)
    monkeypatch.setattr(benched, "POLICY_IMAGES", 16)

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_run_is_measured_and_kept(adap, run):
    before = OutcomeTable.load(run / "table")
    code, out, err = adap("bench", "--run", run, *QUICK)
    assert code == 0, err
    assert "this run's checkpoint" in err
    assert "all 8 configurations, and static, threshold" in err
    assert "policy random is left out" in err
    for told in ("direct: model(x)", "t8 w24 l3", "policy threshold", "against direct", "1.00x"):
        assert told in out
    table = OutcomeTable.load(run / "table")
    assert tuple(table.latency.columns) == COLUMNS
    assert sorted(table.latency["configuration"]) == sorted([*range(8), *range(8)])
    assert [c.batch for c in conditions(table.latency)] == [1, 2]
    assert before.latency is None
    record = Record.load(run / "bench")
    assert record.checkpoint["fingerprint"] == table.meta["fingerprints"]["checkpoint"]
    for measurement in record.measurements:
        kinds = [row.kind for row in measurement.rows]
        assert {kind: kinds.count(kind) for kind in kinds} == {"direct": 1, "static": 8, "policy": 2}
        assert {"torch", "python"} <= set(measurement.versions)
        assert measurement.device["name"]
    assert "bench" in json.loads((run / "run.json").read_text())


def test_measuring_again_replaces_and_other_conditions_stay(adap, run):
    assert adap("bench", "--run", run, *QUICK, "--policy", "threshold")[0] == 0
    first = Record.load(run / "bench")
    assert adap("bench", "--run", run, "--rounds", 4, "--batch", 2, "--tokens", 1)[0] == 0
    second = Record.load(run / "bench")
    assert second.measurements[0] == first.measurements[0]
    assert [m.protocol["rounds"] for m in second.measurements] == [3, 4]
    table = OutcomeTable.load(run / "table")
    assert {c.batch: (table.latency["batch"] == c.batch).sum() for c in conditions(table.latency)} == {
        1: 8,
        2: 5,
    }
    assert adap("bench", "--run", run, "--rounds", 3, "--batch", 4, "--overwrite")[0] == 0
    assert [m.condition.batch for m in Record.load(run / "bench").measurements] == [4]
    assert [c.batch for c in conditions(OutcomeTable.load(run / "table").latency)] == [4]


def test_without_a_table_the_checkpoint_s_grid_is_measured(adap, tmp_path, checkpoint):
    code, out, err = adap(
        "bench", "--ckpt", checkpoint, "--run", tmp_path / "new", *QUICK, "--tokens", 1, "--json"
    )
    assert code == 0, err
    assert "adap sweep" in err
    found = json.loads(out)
    assert found["configurations"] == 10  # 9, and the full one
    assert len(found["rows"]) == 2 * 11
    assert not (tmp_path / "new" / "table").exists()
    assert Record.load(tmp_path / "new" / "bench").measurements


def test_what_takes_too_long_is_cut_to_corners_and_front(adap, run, monkeypatch):
    monkeypatch.setattr(selection, "AFFORDABLE_S", 0.0)
    code, out, err = adap("bench", "--run", run, "--dry-run", "--json")
    assert code == 0, err
    assert "corners and front of 8 configurations" in err
    assert json.loads(out)["configurations"] == 8  # two values an axis: all are corners
    assert "all 8 configurations" in adap("bench", "--run", run, "--dry-run", "--which", "all")[2]
    assert not (run / "bench").exists()


def test_without_a_table_only_corners_are_left(adap, tmp_path, checkpoint):
    code, out, err = adap(
        "bench", "--ckpt", checkpoint, "--run", tmp_path, "--dry-run", "--which", "front", "--json"
    )
    assert json.loads(out)["configurations"] == 8
    assert "the corners of 36 configurations, 8" in err
    assert code == 0


def test_a_noisy_bench_is_said_to_be(adap, run, monkeypatch):
    for limit, said in ((0.0, True), (1e9, False)):
        monkeypatch.setattr(library, "NOISY", limit)
        code, out, err = adap("bench", "--run", run, *QUICK, "--policy", "static", "--json")
        assert code == 0
        assert ("warning: noisy" in err) == said
        assert json.loads(out)["spread"] > 0


def test_defaults_are_the_library_s():
    import inspect

    assert inspect.signature(command.bench).parameters["rounds"].default == stopwatch.ROUNDS


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--batch", "0"], 2, "from 1 to 65536"),
        (["--batch", "1,x"], 2, "whole number"),
        (["--rounds", "1"], 2, "from 3 to"),
        (["--dtype", "float16"], 2, "float32"),
        (["--which", "most"], 2, "allowed are auto, all, front"),
        (["--tokens", "3"], 2, "tokens 3: not allowed"),
        (["--tokens", "2"], 2, "allowed: 1, 8"),  # of the model's grid, but not swept
        (["--device", "cuda:99"], 4, "this machine has"),
        (["--policy", "none"], 3, "no policy 'none'"),
        (["--policy", "random"], 2, "needs the rows of an outcome table"),
        (["--ckpt", "missing.pt"], 3, "missing.pt"),
    ],
)
def test_wrong_arguments(adap, run, arguments, code, message):
    found, out, err = adap("bench", "--run", run, *arguments)
    assert (found, out) == (code, ""), err
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not (run / "bench").exists()


def test_another_checkpoint_is_refused(adap, run, make_model, tmp_path):
    adapcli.save(make_model(seed=1, num_classes=10), tmp_path / "other.pt")
    code, _, err = adap("bench", "--run", run, "--ckpt", tmp_path / "other.pt")
    assert code == 3
    assert "table: swept with another checkpoint" in err
    assert (
        adap("bench", "--run", tmp_path / "new", "--ckpt", tmp_path / "other.pt", "--which", "front", *QUICK)[
            0
        ]
        == 0
    )
    code, _, err = adap("bench", "--run", tmp_path / "new")
    assert code == 3
    assert "measured with another checkpoint" in err


def test_damaged_measurements_are_found_before_an_hour_is_spent(adap, run):
    (run / "table" / "latency.csv").write_text("configuration,batch\n0,1\n")
    code, _, err = adap("bench", "--run", run, *QUICK)
    assert code == 3
    assert "latency.csv: column device is missing" in err
    assert "adap bench --overwrite" in err
    assert adap("bench", "--run", run, *QUICK, "--overwrite", "--policy", "static")[0] == 0


def test_policies_run_one_by_one_at_batch_1(run, make_model, monkeypatch):
    from adapcli.inference import policy_job
    from adapcli.inference.anytime import run_anytime
    from policies import registry

    model, asked = make_model(num_classes=10), []
    policy = registry.load(run / "policies" / "threshold")
    monkeypatch.setattr(policy_job, "run_anytime", lambda *a, **k: asked.append(k) or run_anytime(*a, **k))
    x = torch.randn(5, 1, 16, 16)
    jobs = [policy_job.policy_job("p", policy, model, x, batch, torch.float32) for batch in (1, 4)]
    alone, together = (job.call() for job in jobs)
    assert asked == [{"batch": 1, "max_in_flight": 1}, {"batch": 4, "max_in_flight": None}]
    assert alone.configurations == together.configurations
    assert [job.samples for job in jobs] == [5, 5]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compiled_blocks_are_a_condition_of_their_own(adap, tmp_path, checkpoint):
    given = (
        "bench",
        "--ckpt",
        checkpoint,
        "--run",
        tmp_path,
        "--rounds",
        3,
        "--batch",
        1,
        "--which",
        "front",
    )
    axes = ("--tokens", 8, "--widths", 24, "--depths", "1")
    assert adap(*given, *axes)[0] == 0
    code, out, err = adap(*given, *axes, "--compile", "--device", "cpu")
    if code == 4:
        pytest.skip(f"torch cannot compile here: {err}")
    assert code == 0, err
    assert "and more for compilation" in err
    assert "compiled" in out
    assert [m.condition.compiled for m in Record.load(tmp_path / "bench").measurements] == [False, True]
