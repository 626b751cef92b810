"""`adap diagnose` as it is typed."""

import json

import pytest
import torch

import adapcli
from adapcli.evaluation.diagnosis.check import Diagnosis
from adapcli.main import main
from policies.table import OutcomeTable

SMALL = {"image_size": 16, "num_classes": 10, "token_granularities": (1, 2, 4), "max_latent_tokens": 4}


@pytest.fixture
def checkpoint(make_model, tmp_path):
    path = tmp_path / "m.pt"
    adapcli.save(make_model(**SMALL), path)
    return path


@pytest.fixture
def adap(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def test_a_checkpoint_is_diagnosed_without_a_table(adap, checkpoint, tmp_path):
    code, out, err = adap("diagnose", "--ckpt", checkpoint, "--limit", 60)
    assert code == 0, err
    assert "scoring 60 test samples" in err
    assert [line.split("  ")[0] for line in out.splitlines()[1:]].count("warning") >= 1  # random weights
    kept = Diagnosis.load(tmp_path / "adap-run/diagnosis")
    assert len(kept.checks) == 8
    assert kept.data["samples"] == 60
    assert not (tmp_path / "adap-run/table").exists()


def test_json_says_what_warns_and_strict_fails(adap, checkpoint):
    code, out, err = adap("diagnose", "--ckpt", checkpoint, "--limit", 60, "--json", "--quiet")
    found = json.loads(out)
    warned = [check["name"] for check in found["checks"] if check["warning"]]
    assert (code, err, found["warnings"]) == (0, "", len(warned))
    assert "low tokens" in warned  # a model that only guesses
    code, again, err = adap("diagnose", "--ckpt", checkpoint, "--limit", 60, "--strict", "--json", "--quiet")
    assert code == 1
    assert json.loads(again)["warnings"] == len(warned)
    assert err == f"error: checks that warn: {', '.join(warned)}\n"


def test_the_runs_own_table_decides_if_it_is_of_the_same_checkpoint(adap, checkpoint, make_model, tmp_path):
    assert adap("sweep", "--ckpt", checkpoint, "--limit", 200, "--quiet")[0] == 0
    table = OutcomeTable.load(tmp_path / "adap-run/table")
    code, _, err = adap("diagnose", "--limit", 60)
    assert (code, "deciding from the outcome table" in err) == (0, True)
    kept = Diagnosis.load(tmp_path / "adap-run/diagnosis")
    assert kept.data["samples"] == len(table.rows("test"))
    assert kept.checkpoint["fingerprint"] == table.meta["fingerprints"]["checkpoint"]
    adapcli.save(make_model(seed=1, **SMALL), tmp_path / "other.pt")
    code, _, err = adap("diagnose", "--ckpt", "other.pt", "--limit", 60)
    assert (code, "scoring 60 test samples" in err) == (0, True)
    code, _, err = adap("report")
    assert code == 0
    assert "The diagnosis is of another checkpoint than the table" in err


def test_the_report_shows_the_verdicts(adap, checkpoint, tmp_path):
    adap("sweep", "--ckpt", checkpoint, "--limit", 200, "--quiet")
    assert adap("report")[0] == 0
    text = (tmp_path / "adap-run/report/report.md").read_text()
    assert "The checkpoint was not diagnosed; adap diagnose does." in text
    adap("diagnose", "--quiet")
    assert adap("report")[0] == 0
    text = (tmp_path / "adap-run/report/report.md").read_text()
    assert "Failure signatures looked for" in text
    assert "itself is at chance" in text
    rows = (tmp_path / "adap-run/report/tables/readouts.csv").read_text().splitlines()
    assert len(rows) == 1 + len(OutcomeTable.load(tmp_path / "adap-run/table").configs)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--ckpt", "none.pt"], 3, "none.pt: no such file"),
        (["--ckpt", "m.pt", "--limit", "1"], 2, "expected a whole number from 2"),
        (["--ckpt", "m.pt", "--data", "imagenet"], 2, "data 'imagenet': not known"),
        (["--ckpt", "m.pt", "--data", "folder:none"], 3, "none"),
        (["--ckpt", "m.pt", "--device", "cudaa"], 2, "allowed are auto, cpu"),
        (["--ckpt", "dense.pt"], 3, "this checkpoint is for segmentation"),
        (["--ckpt", "three.pt"], 3, "has 3 classes, the data 10"),
    ],
)
def test_wrong_inputs(adap, checkpoint, make_model, tmp_path, words, code, told):
    adapcli.save(make_model(task="segmentation", output_feat_dim=4), tmp_path / "dense.pt")
    adapcli.save(make_model(**{**SMALL, "num_classes": 3}), tmp_path / "three.pt")
    found, out, err = adap("diagnose", *words)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "adap-run").exists()


def test_a_damaged_diagnosis_does_not_pass_for_one(adap, checkpoint, tmp_path):
    adap("sweep", "--ckpt", checkpoint, "--limit", 200, "--quiet")
    (tmp_path / "adap-run/diagnosis").mkdir()
    (tmp_path / "adap-run/diagnosis/diagnosis.json").write_text("{")
    code, _, err = adap("report")
    assert (code, "diagnosis.json" in err) == (3, True)
    assert adap("diagnose", "--quiet")[0] == 0
    assert adap("report")[0] == 0


def test_diagnosing_changes_no_weight(adap, checkpoint):
    before = {name: tensor.clone() for name, tensor in adapcli.load(checkpoint).state_dict().items()}
    adap("diagnose", "--ckpt", checkpoint, "--limit", 20, "--quiet")
    after = adapcli.load(checkpoint).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
