"""What sections say, without drawing anything."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adapcli.errors import UsageError
from adapcli.evaluation.calibration import reliability
from adapcli.evaluation.diagnosis.check import Check, Diagnosis
from adapcli.model.flops import input_flops, read_flops
from adapcli.report import style
from adapcli.report.build import build, compose
from adapcli.report.document import Drawing
from adapcli.report.figures.reliability import fewest, reliability_curves
from adapcli.report.findings import gather
from adapcli.report.sections import cost, diagnosis, policies, provenance, training, verdict
from adapcli.report.units import CostUnit
from adapcli.run import Run

from .conftest import CONFIG


@pytest.fixture
def run(tmp_path, synthetic_table, make_run):
    return make_run(tmp_path / "run", synthetic_table)


def asked(run, objective, *, met=True, name="hasty"):
    """The findings of a run whose policy `name` was chosen for `objective`."""
    recorded = {"objective": objective, "met": met}
    (run.policies / name / "evaluation.json").write_text(json.dumps(recorded))
    return gather(run)


def grid(findings, name):
    return next(b for b in policies.section(findings).blocks if getattr(b, "name", "") == name)


def test_an_objective_met_on_tune_and_missed_on_test_is_told(run):
    best = gather(run).best_policy
    drop = -best.evaluation.score_difference.mean
    assert drop > 0.01
    findings = asked(run, {"max_drop": drop / 2}, name=best.name)
    shown = grid(findings, "policies_made")
    row = dict(zip(shown.columns, next(r for r in shown.rows if r[0] == best.name), strict=True))
    assert (row["met on tune"], row["met on test"]) == ("yes", "no")
    told = (
        f"Asked for at most {50 * drop:.1f} points below full on the tune samples; "
        f"on the test samples it is {100 * drop:.1f} below."
    )
    assert told in verdict.answers(findings)[1].notes


def test_an_objective_that_is_met_or_has_no_limit_is_not_mentioned(run):
    best = gather(run).best_policy
    for objective, shown in (({"max_drop": 1.0}, "yes"), ({"lambda_": 0.1}, "–"), ({}, "–")):
        findings = asked(run, objective, name=best.name)
        row = next(r for r in grid(findings, "policies_made").rows if r[0] == best.name)
        assert row[4] == shown
        assert not [note for note in verdict.answers(findings)[1].notes if note.startswith("Asked")]


def test_a_budget_missed_by_little_is_told_with_enough_digits(run):
    best = gather(run).best_policy
    share = best.evaluation.cost_flops.mean / best.evaluation.full_cost_flops
    findings = asked(run, {"flops_target": share - 1e-4}, name=best.name)
    note = next(note for note in verdict.answers(findings)[1].notes if note.startswith("Asked"))
    assert note == (
        f"Asked for a cost of at most {share - 1e-4:.4f} of full on the tune samples; "
        f"on the test samples it is {share:.4f}."
    )


def test_an_objective_that_nothing_kept_on_tune_is_told_so(run):
    best = gather(run).best_policy
    findings = asked(run, {"max_drop": 0.0}, met=False, name=best.name)
    note = next(note for note in verdict.answers(findings)[1].notes if note.startswith("Asked"))
    assert note.startswith("Asked for at most 0.0 points below full, which no candidate kept on the tune ")


@pytest.mark.parametrize(
    "objective", ["<b>", 3, [], {"max_drop": "x"}, {"max_drop": 7}, {"price": 1}, {"lambda_": None}]
)
def test_an_objective_that_is_none_is_no_objective(run, objective):
    findings = asked(run, objective)
    assert next(p for p in findings.policies if p.name == "hasty").objective is None
    verdict.answers(findings)


def test_tables_of_policies_and_commands_hold_numbers(run):
    findings = asked(run, {"max_drop": 0.02})
    made = grid(findings, "policies_made").frame.set_index("name").loc["hasty"]
    tuned = next(p for p in findings.policies if p.name == "hasty").tuned
    assert (made["objective"], made["limit"]) == ("max_drop", 0.02)
    assert made["tune_score"] == tuned.score.mean
    assert made["tune_cost_flops"] == tuned.cost_flops.mean
    assert made["tune_fraction"] == tuned.cost_flops.mean / tuned.full_cost_flops
    commands = provenance.section(findings).blocks[-1].frame
    assert pd.api.types.is_numeric_dtype(commands["seconds"])


def test_bins_of_few_samples_are_not_drawn_but_counted():
    confidence = np.concatenate([np.full(500, 0.9), np.full(10, 0.5), np.full(9, 0.1)])
    curve = reliability(confidence, confidence > 0.3)
    line = reliability_curves({"t1": curve}, score_name="accuracy").axes[0].lines[-1]
    drawn = np.asarray(line.get_xdata(), float)
    assert drawn[np.isfinite(drawn)] == pytest.approx([50, 90])
    assert curve.count.sum() == 519


@pytest.mark.parametrize(("samples", "least"), [(0, 10), (300, 10), (5000, 10), (5001, 11), (20_000, 40)])
def test_a_bin_needs_ten_samples_or_a_five_hundredth(samples, least):
    assert fewest(samples) == least


def facts(run):
    return dict(provenance.section(gather(run)).blocks[0].items)


def test_provenance_says_each_thing_once(tmp_path, synthetic_table, make_run):
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    limits = {"fit": None, "tune": None, "calibration": None, "test": None}
    table.meta["data"] = {**table.meta["data"], "limits": limits, "split_by": "auto"}
    found = facts(make_run(tmp_path, table))
    assert found["checkpoint"] == "model.pt, fingerprint 0000000000000000"
    assert "checkpoint fingerprint" not in found
    assert found["data"] == "digits, split by auto"
    assert found["samples"] == "fit 120, tune 80, calibration 200, test 300"
    assert found["device"] == "Example CPU (cpu), threads 1, cpus 2"
    assert not [value for value in found.values() if "_" in value.replace("log_odds", "") or "()" in value]


def test_provenance_keeps_what_was_asked_for(tmp_path, synthetic_table, make_run):
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    table.meta["data"] = {"name": "photos", "seed": 3, "limits": {"fit": 100, "test": None}, "skipped": 2}
    found = facts(make_run(tmp_path, table))
    assert found["data"] == "photos, seed 3, limits (fit 100), 2 files skipped"


def test_a_path_is_not_given_to_another_checkpoint(tmp_path, synthetic_table, make_run):
    run = make_run(tmp_path, synthetic_table)
    run.record(checkpoint={"path": "other.pt", "fingerprint": "f" * 16})
    assert facts(run)["checkpoint"] == "fingerprint 0000000000000000"


def test_any_meta_data_can_be_shown(tmp_path, synthetic_table):
    odd = {"data": ["a", 1], "device": "gpu", "fingerprints": {}, "preprocessing": 3, "conventions": {}}
    run = Run.open(tmp_path)
    table = replace(synthetic_table, meta={**synthetic_table.meta, **odd})
    table.save(run.table)
    found = facts(run)
    assert (found["data"], found["device"], found["preprocessing"]) == ("a, 1", "gpu", "3")
    assert "conventions" not in found


def test_a_run_is_not_compared_with_itself(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for same in (run.folder, "run", tmp_path / "run" / ".." / "run"):
        with pytest.raises(UsageError, match="is the run itself"):
            build(run, compare=Run.open(same))
    assert not run.report.exists()


def test_the_document_holds_all_of_it(run):
    assert compose(gather(run), None, made="now").sections[-1].anchor == "provenance"


LINES = (
    {"step": 10, "stage": "one", "learning_rate": 0.1, "loss": 2.0},
    {"step": 20, "stage": "two [red]", "learning_rate": 0.1, "loss": 1.0},
    {"step": 20, "stage": "two [red]", "learning_rate": 0.1, "accuracy_full": 0.5},
)


def log(run, *lines):
    run.train.mkdir(exist_ok=True)
    (run.train / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_training_is_shown_only_of_a_run_that_trained(run):
    assert training.sections(gather(run)) == []
    log(run)
    assert training.sections(gather(run)) == []
    log(run, *LINES)
    (section,) = training.sections(gather(run))
    stages = next(block for block in section.blocks if getattr(block, "name", "") == "training")
    assert "training" in [getattr(block, "name", "") for block in section.blocks]
    grid = section.blocks[-1]
    assert stages is not grid
    assert grid.columns == ["stage", "to step", "loss", "full"]
    assert grid.rows == [["one", "10", "2.00", "–"], ["two [red]", "20", "1.00", "50.0 %"]]


@pytest.mark.parametrize(
    "odd",
    [
        {"step": 30},
        {"step": 30, "stage": 3, "learning_rate": 0.1},
        {"step": 30, "stage": "x", "learning_rate": "fast"},
        {"step": 30, "stage": "x", "learning_rate": 0.1, "loss": "low", "accuracy_full": None},
        {"step": 30, "stage": "x", "learning_rate": 0.1, "loss": float("inf")},
    ],
)
def test_odd_lines_of_a_journal_do_not_stop_a_report(run, odd):
    log(run, *LINES, odd)
    (section,) = training.sections(gather(run))
    section.blocks[-2].draw(style.WIDE)


def test_a_training_of_another_checkpoint_than_the_tables_is_told(run):
    log(run, *LINES)
    (section,) = training.sections(gather(run))
    assert "This training has not ended; the table of this run is of another" in section.blocks[0].text
    run.record(trained="model.pt")
    assert isinstance(training.sections(gather(run))[0].blocks[0], Drawing)


def test_a_diagnosis_is_shown_with_what_it_warns_of(run):
    told = diagnosis.section(gather(run)).blocks
    assert told[0].text == f"The checkpoint was not diagnosed; {run.command('diagnose')} does."
    fingerprint = gather(run).table.meta["fingerprints"]["checkpoint"]
    readouts = [{"tokens": 1, "width": 8, "depth": d, "ece": 0.1 * d} for d in (1, 2)]
    checks = (
        Check("widths", True, "w=8 loses", "warns if a wider one loses", {}),
        Check("calibration", False, "fine", "warns above", {"readouts": readouts}),
    )
    found = Diagnosis({"path": "m.pt", "fingerprint": fingerprint}, {}, checks)
    found.save(run.diagnosis)
    blocks = diagnosis.section(gather(run)).blocks
    assert [block.text for block in blocks[:2]] == [
        "1 of 2 checks warns.",
        "Warning, widths: it warns if a wider one loses.",
    ]
    assert blocks[2].strong == {0}
    assert blocks[3].rows == [["1", "10.0 %"], ["2", "20.0 %"]]
    replace(found, checks=(replace(checks[1], numbers={"readouts": [3, "x"]}),)).save(run.diagnosis)
    assert len(diagnosis.section(gather(run)).blocks) == 2


def test_the_cost_section_shows_what_every_configuration_pays(run):
    facts = next(b for b in cost.section(gather(run)).blocks if hasattr(b, "items"))
    shared = input_flops(CONFIG) + read_flops(CONFIG, 1)
    shown = dict(facts.items)["paid by every configuration (input stage, fewest tokens)"]
    assert shown.startswith(CostUnit.of([shared]).text(shared))


def test_the_title_is_the_run_s_name_and_the_subtitle_its_model_and_data(run):
    document = compose(gather(run), None, made="now")
    assert document.title == "Adaptive inference: run"
    assert document.subtitle.startswith("90 configurations of digits on digits, reported on 300 test")
