"""`adap sweep --calibrate` and `--calibration`, and what the commands after it do with the result."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import adapcli
from adapcli.main import main
from policies.table import OutcomeTable
from policies.table.recalibration import NAME

SMALL = ("sweep", "--limit", 60, "--tokens", "1,5", "--depths", "1,3", "--quiet")


@pytest.fixture(scope="module")
def checkpoint(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "m.pt"
    adapcli.save(make_model(num_classes=10), path)
    return path


@pytest.fixture
def adap(checkpoint, tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)

    def run(*arguments):
        code = main([str(word) for word in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    def sweep(*arguments):
        return run(*SMALL, "--ckpt", checkpoint, *arguments)

    run.sweep = sweep
    return run


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def refused(found, code, told):
    assert (found[0], told in found[2]) == (code, True), found
    assert found[2].count("error: ") == 1


def test_a_calibrated_run_from_sweep_to_report(adap, tmp_path, checkpoint, picture):
    code, _, err = adap(*SMALL[:-1], "--ckpt", checkpoint, "--calibrate")
    assert code == 0, err
    assert "calibration, on 5 tune samples: cheapest " in err
    table = OutcomeTable.load(tmp_path / "adap-run" / "table")
    assert table.recalibration is not None
    for algo in ("static", "threshold"):
        assert adap("train-policy", "--algo", algo, "--quiet", "--flops-target", 0.9)[0] == 0
        kept = tmp_path / "adap-run" / "policies" / algo / NAME
        assert kept.read_bytes() == (tmp_path / "adap-run" / "table" / NAME).read_bytes()
        assert adap("predict", picture, "--policy", algo, "--quiet")[0] == 0
    assert adap("report", "--quiet")[0] == 0
    page = (tmp_path / "adap-run" / "report" / "report.md").read_text()
    assert "Answers are calibrated" in page
    rows = (tmp_path / "adap-run" / "report" / "tables" / "recalibration.csv").read_text().splitlines()
    assert len(rows) == 1 + table.n_configs


def test_json_tells_the_fingerprint(adap, tmp_path):
    code, out, _ = adap.sweep("--calibrate", "--json")
    assert code == 0
    table = OutcomeTable.load(tmp_path / "adap-run" / "table")
    assert json.loads(out)["fingerprints"]["recalibration"] == table.recalibration.digest


def test_a_dry_run_tells_what_it_takes(adap, tmp_path):
    code, out, _ = adap.sweep("--calibrate", "--dry-run")
    assert code == 0
    assert " to calibrate, from " in out
    assert list(tmp_path.iterdir()) == []


def test_resume_goes_on_with_it_or_refuses(adap, tmp_path):
    assert adap.sweep("--calibrate")[0] == 0
    assert adap.sweep("--calibrate", "--resume")[0] == 0
    refused(adap.sweep("--resume"), 3, "go on with --calibrate")
    assert adap.sweep("--overwrite")[0] == 0
    assert OutcomeTable.load(tmp_path / "adap-run" / "table").recalibration is None
    refused(adap.sweep("--resume", "--calibrate"), 3, "begun without a recalibration")


def test_another_run_takes_the_calibration_of_a_run_a_policy_or_a_table(adap, tmp_path):
    assert adap.sweep("--calibrate")[0] == 0
    assert adap("train-policy", "--algo", "static", "--quiet", "--flops-target", 0.9)[0] == 0
    digest = OutcomeTable.load(tmp_path / "adap-run" / "table").recalibration.digest
    for i, place in enumerate(("adap-run", "adap-run/table", "adap-run/policies/static")):
        code, _, err = adap.sweep("--run", f"other{i}", "--seed", 1, "--calibration", place)
        assert code == 0, err
        table = OutcomeTable.load(tmp_path / f"other{i}" / "table")
        assert table.recalibration.digest == digest
    part = adap.sweep("--run", "part", "--widths", 13, "--calibration", "adap-run")
    assert part[0] == 0, part
    refused(adap.sweep("--run", "x", "--depths", 2, "--calibration", "adap-run"), 2, "t1 w6 l2: not calib")


def test_places_that_hold_no_calibration(adap, tmp_path, checkpoint, make_model):
    refused(adap.sweep("--calibrate", "--calibration", "x"), 2, "exclude each other")
    refused(adap.sweep("--calibration", "nowhere"), 3, "nowhere/table: no such outcome table")
    assert adap.sweep("--run", "plain")[0] == 0
    refused(adap.sweep("--calibration", "plain"), 3, "plain: not calibrated")
    assert adap.sweep("--run", "good", "--calibrate")[0] == 0
    adapcli.save(make_model(1, num_classes=10), tmp_path / "other.pt")
    words = [*SMALL, "--ckpt", tmp_path / "other.pt", "--run", "x", "--calibration", "good"]
    refused(adap(*words), 3, "calibrated for another checkpoint")
    shutil.copytree(tmp_path / "good", tmp_path / "torn")
    (tmp_path / "torn" / "table" / NAME).write_bytes(b"torn")
    refused(adap.sweep("--calibration", "torn"), 3, NAME)
    refused(adap("search", "--run", "torn", "--quiet"), 3, NAME)
    (tmp_path / "torn" / "table" / NAME).unlink()
    refused(adap("search", "--run", "torn", "--quiet"), 3, NAME)


def test_a_policy_of_another_calibration_is_refused_by_name(adap, tmp_path):
    assert adap.sweep("--calibrate")[0] == 0
    assert adap("train-policy", "--algo", "static", "--quiet", "--flops-target", 0.9)[0] == 0
    assert adap.sweep("--overwrite")[0] == 0
    code, _, err = adap("report", "--quiet")
    report = (tmp_path / "adap-run" / "report" / "report.md").read_text()
    assert code == 0, err
    assert "recalibration" in report
    assert "/ none" in report


def test_a_configuration_is_calibrated_if_asked(adap, tmp_path, picture, checkpoint):
    assert adap.sweep("--calibrate")[0] == 0
    at = ("predict", picture, "--tokens", 5, "--width", 13, "--depth", 3, "--json", "--quiet")
    own, calibrated = (
        json.loads(adap(*at, *more)[1])["predictions"][0] for more in ((), ("--calibration", "adap-run"))
    )
    assert own["confidence"] != calibrated["confidence"]
    assert own["cost_flops"] == calibrated["cost_flops"]
    elsewhere = ("predict", picture, "--depth", 2, "--quiet", "--calibration", "adap-run")
    refused(adap(*elsewhere), 2, "not calibrated")
    assert adap("train-policy", "--algo", "static", "--quiet", "--flops-target", 0.9)[0] == 0
    both = ("predict", picture, "--policy", "static", "--calibration", "adap-run", "--quiet")
    refused(adap(*both), 2, "--policy and --calibration exclude each other")
