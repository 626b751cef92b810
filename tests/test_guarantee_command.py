"""`adap train-policy` with a guarantee: what it keeps and tells, and what where nothing is certified."""

import json
import shutil

import numpy as np
import pytest

from adapcli.main import main
from adapcli.report.document import Grid, Text
from adapcli.report.findings import gather
from adapcli.report.sections import policies, verdict
from adapcli.run import Run
from policies import registry
from policies.guarantee import Certificate, Promise, kept, told
from policies.table import OutcomeTable


@pytest.fixture(scope="module")
def run(make_table, tmp_path_factory):
    """Few answers differ between the dearest configurations; confidence tells right from wrong."""
    run = tmp_path_factory.mktemp("guarantee") / "run"
    table = make_table(8000)
    rng, score = np.random.default_rng(0), np.array(table.score)
    cost = table.cost_flops
    right = rng.random(len(score))[:, None] < 0.55 + 0.4 * np.sqrt((cost - cost.min()) / np.ptp(cost))
    score[:] = right
    target = table.samples["target"].to_numpy()[:, None]
    prediction = np.where(right, target, (target + 1) % 5)
    signals = np.repeat((0.2 + 0.7 * score)[..., None], 2, axis=2)
    make_table(8000, score=score, prediction=prediction, signals=signals).save(run / "table")
    return run


@pytest.fixture
def adap(run, capsys):
    def call(*words, code=0):
        capsys.readouterr()
        assert main(["train-policy", "--run", str(run), *map(str, words)]) == code
        return capsys.readouterr()

    return call


def test_a_guarantee_is_kept_and_told(adap, run):
    words = ["--algo", "threshold", "--name", "sure", "--max-drop", "2%", "--confidence", "0.9"]
    told = adap(*words)
    certificate = kept(run / "policies" / "sure")
    assert (certificate.limit, certificate.confidence, certificate.certified) == (0.02, 0.9, True)
    assert "Certified with 90 % confidence: accuracy is less than 2 points below" in told.out
    assert "calibration samples lose, by group" in told.out
    assert "test samples:" in told.out
    again = json.loads(adap(*words, "--overwrite", "--json", "--quiet").out)
    assert Certificate.from_dict(again["certificate"]) == certificate
    assert again["objective"] == {"max_drop": 0.02}
    assert again["met"] is True


def test_it_is_the_library_s(adap, run):
    told = json.loads(adap("--algo", "static", "--same-answer", 0.1, "--json", "--quiet").out)
    table = OutcomeTable.load(run / "table")
    trained = registry.train("static", table, promise=Promise(0.1, 0.95, "answer"))
    assert told["certificate"] == json.loads(json.dumps(trained.certificate))
    assert told["objective"] == {"same_answer": 0.1}
    assert registry.load(run / "policies" / "static", table) == trained.policy
    assert told["met_on_test"] == (1 - told["evaluation"]["agreement"]["mean"] <= 0.1)


def test_a_confidence_alone_guarantees_a_point(adap, run):
    told = json.loads(adap("--algo", "threshold", "--name", "point", "--confidence", 0.8, "--json", "-q").out)
    assert told["certificate"]["limit"] == 0.01


def test_nothing_is_written_where_nothing_is_certified(adap, run):
    told = adap("--algo", "static", "--name", "none", "--max-drop", 0, "--confidence", 0.95, code=5)
    assert told.out == ""
    assert "do not certify 0 points with 95 % confidence; the tightest limit they certify is" in told.err
    assert "--best-effort" in told.err
    assert not (run / "policies" / "none").exists()


def test_the_best_effort_says_that_it_is_none(adap, run):
    words = ["--algo", "static", "--name", "effort", "--max-drop", 0, "--confidence", 0.95, "--best-effort"]
    told = adap(*words)
    assert kept(run / "policies" / "effort").certified is False
    assert "Not certified" in told.err
    assert json.loads((run / "policies" / "effort" / "evaluation.json").read_text())["met"] is False


def test_without_confidence_all_is_as_it_was(adap, run):
    told = json.loads(adap("--algo", "static", "--name", "plain", "--max-drop", 0.02, "--json").out)
    assert "certificate" not in told
    assert kept(run / "policies" / "plain") is None
    trained = registry.train("static", OutcomeTable.load(run / "table"), max_drop=0.02)
    assert told["tune"]["cost_flops"] == trained.cost_flops


def test_samples_of_another_kind_are_noticed(adap, run, make_table, tmp_path, capsys):
    """The promise holds on the calibration samples; the test samples are worse by far."""
    table = OutcomeTable.load(run / "table")
    score, rows = np.array(table.score), table.rows("test")
    others = np.flatnonzero(np.arange(table.n_configs) != table.full)
    score[np.ix_(rows, others)] *= np.random.default_rng(0).random((len(rows), 1)) < 0.5
    make_table(8000, score=score, signals=table.signals).save(tmp_path / "run" / "table")
    words = ["--algo", "static", "--max-drop", "9%", "--confidence", "0.95", "--run", str(tmp_path / "run")]
    assert main(["train-policy", *words]) == 0
    assert "they are not like the calibration samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--confidence", "95"], "expected a confidence in [0.5, 1), such as 0.95"),
        (["--confidence", "1"], "expected a confidence in [0.5, 1)"),
        (["--confidence", "nan"], "expected a confidence in [0.5, 1)"),
        (["--max-drop", "0.5", "--confidence", "0.95"], "half a point is 0.005, or 0.5%"),
        (["--same-answer", "50%"], "half a point is 0.005, or 0.5%"),
        (["--max-drop", "x%"], "expected a loss of score in [0, 1], such as 0.01, or 1%"),
        (["--max-drop", "%"], "expected a loss of score in [0, 1]"),
        (["--max-drop", "500%"], "expected a loss of score in [0, 1]"),
        (["--same-answer", "-1"], "expected a loss"),
        (["--max-drop", "0.01", "--same-answer", "0.01"], "exclude each other"),
        (["--flops-target", "0.5", "--confidence", "0.95"], "a guarantee is of --max-drop or --same-answer"),
        (["--lambda", "0.5", "--same-answer", "0.01"], "a guarantee is of --max-drop or --same-answer"),
        (["--best-effort"], "--best-effort keeps what --confidence or --same-answer cannot guarantee"),
        (["--max-drop", "0.01", "--best-effort"], "--best-effort keeps what"),
    ],
)
def test_what_does_not_go_together(adap, run, words, told):
    before = sorted(path.name for path in (run / "policies").glob("*"))
    ended = adap("--algo", "static", "--name", "refused", *words, code=2)
    assert told in ended.err
    assert ended.out == ""
    assert sorted(path.name for path in (run / "policies").glob("*")) == before


def test_the_report_tells_it_in_words(adap, run):
    adap("--algo", "threshold", "--name", "reported", "--max-drop", "2%", "--confidence", "0.9", "--quiet")
    certificate, findings = kept(run / "policies" / "reported"), gather(Run.open(run))
    blocks = policies.section(findings).blocks
    text = next(b.text for b in blocks if isinstance(b, Text) and b.text.startswith("reported: "))
    for sentence in told(certificate, "accuracy"):
        assert sentence in text
    assert "On the 2 000 test samples: " in text
    assert any("Certified with" in note for note in verdict.answers(findings)[1].notes)
    grid = next(b for b in blocks if isinstance(b, Grid) and b.name == "guarantees")
    mine = grid.frame[grid.frame["policy"] == "reported"]
    assert mine["n"].sum() == certificate.n
    assert np.average(mine["loss"], weights=mine["n"]) == pytest.approx(certificate.observed)


def test_the_report_refuses_a_certificate_of_another_policy(adap, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report", "policies"))
    words = [
        "train-policy",
        "--run",
        str(tmp_path / "run"),
        "--algo",
        "threshold",
        "--confidence",
        "0.8",
        "-q",
    ]
    assert main(words) == 0
    path = tmp_path / "run" / "policies" / "threshold" / "policy.json"
    content = json.loads(path.read_text())
    content["parameters"]["tau"] *= 0.9
    path.write_text(json.dumps(content))
    assert main(["report", "--run", str(tmp_path / "run"), "-q"]) == 3
    assert "the certificate does not belong to this policy" in capsys.readouterr().err
