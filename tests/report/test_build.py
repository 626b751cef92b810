"""A report of a whole run, and of runs that lack something."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adapcli.errors import FileError
from adapcli.report import document as blocks
from adapcli.report import markdown, page, summary
from adapcli.report.build import build, compose
from adapcli.report.findings import gather
from adapcli.report.fronts import StaticFront
from adapcli.report.sections import comparison
from adapcli.run import Run
from policies import pareto, registry
from policies.base import save
from policies.baselines import Static
from policies.evaluate import evaluate
from policies.grid import Grid

FIGURES = {"tradeoff", "axes", "choices", "calibration"}
TABLES = {
    "configurations",
    "axis_effects",
    "policies",
    "choices",
    "calibration",
    "exits",
    "front",
    "commands",
    "policies_made",
}
WORDS = re.compile(r"(?<![a-z])(nan|inf|infinity|none|null|undefined)(?![a-z])", re.IGNORECASE)


def read(report, name):
    return pd.read_csv(report.folder / "tables" / f"{name}.csv")


def composed(run):
    """The document alone: what takes time is drawing it."""
    return compose(gather(run), None, made="now")


def text_of(document):
    return visible(page.render(document, {drawing.name: "" for drawing in document.drawings()}))


def visible(source):
    body = re.sub(r"<style>.*?</style>", "", source, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", " ", body)


def test_everything_is_written(full_report, full_run):
    assert full_report.folder == full_run.report
    files = {
        p.relative_to(full_report.folder).as_posix() for p in full_report.folder.rglob("*") if p.is_file()
    }
    expected = {"index.html", "report.md"} | {f"tables/{name}.csv" for name in TABLES}
    expected |= {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert files == expected


def test_the_page_needs_nothing_else(full_report):
    source = full_report.index.read_text("utf-8")
    targets = re.findall(r'(?:src|href)="([^"]*)"', source)
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert "<script" not in source
    assert not re.search(r"url\(\s*['\"]?http|@import", source)


def test_no_nan_reaches_a_reader(full_report):
    for text in (visible(full_report.index.read_text()), markdown.render(full_report.document)):
        assert not [text[m.start() - 30 : m.end() + 30] for m in WORDS.finditer(text)]


def test_tables_hold_the_numbers_of_the_outcome_table(full_report, synthetic_table):
    configs = read(full_report, "configurations").sort_values(["tokens", "width", "depth"])
    rows = synthetic_table.rows("test")
    assert configs["score"].to_numpy() == pytest.approx(synthetic_table.score[rows].mean(0, dtype=np.float64))
    assert (configs["cost_flops"].to_numpy() == synthetic_table.cost_flops).all()


def test_policies_are_judged_as_policies_evaluate_does(full_report, full_run, synthetic_table):
    judged = read(full_report, "policies").set_index("name")
    assert list(judged.index[2:4]) == full_run.policy_names()
    for name in full_run.policy_names():
        expected = evaluate(registry.load(full_run.policies / name), synthetic_table)
        row = judged.loc[name]
        assert row["score"] == pytest.approx(expected.score.mean)
        assert row["cost_flops"] == pytest.approx(expected.cost_flops.mean)
        assert row["saving_static_low"] == pytest.approx(expected.saving_static.low)
    assert judged.loc["hindsight oracle", "score"] >= judged["score"].max()
    assert (judged["kind"] == ["static", "static", "policy", "policy", "oracle", "oracle"]).all()


def test_shares_of_a_policy_add_up(full_report):
    shares = read(full_report, "choices").groupby("name")["share"].sum()
    assert shares.to_numpy() == pytest.approx(1)


def test_the_front_is_the_searchs(full_report, full_run):
    with (full_run.search / "front.csv").open() as file:
        assert len(read(full_report, "front")) == len(list(csv.reader(file))) - 1


def test_the_verdict_names_the_choice_and_the_best_policy(full_report):
    static, policy, full = full_report.document.answers
    assert re.fullmatch(r"Run t=\d+, w=\d+, l=\d: \d\d\.\d % ± \d\.\d at 0\.\d\d of full", static.headline)
    assert policy.headline.startswith(("Policy threshold: ", "Policy hasty: "))
    assert "t=16, w=64, l=6" in full.numbers


def test_every_figure_and_picture_has_a_text(full_report):
    source = full_report.index.read_text("utf-8")
    svgs, images = re.findall(r"<svg [^>]*>", source), re.findall(r"<img [^>]*>", source)
    assert len(svgs) == 2 * len(FIGURES)
    assert all(re.search(r'role="img" aria-label="[^"]{20,}"', tag) for tag in svgs)
    assert len(images) == 10 + 2 * 10  # of every difficulty, and from cheap to dear for both policies
    assert all(re.search(r'alt="[^"]+"', tag) for tag in images)


def test_the_same_run_gives_the_same_bytes(full_report, full_run, tmp_path):
    first = {p.name: p.read_bytes() for p in full_report.folder.rglob("*") if p.is_file()}
    again = build(full_run, made="2026-01-02 03:04 UTC")
    assert {p.name: p.read_bytes() for p in again.folder.rglob("*") if p.is_file()} == first


def test_a_failed_report_leaves_the_one_before(full_report, full_run, monkeypatch):
    before = full_report.index.read_bytes()
    monkeypatch.setattr(page, "inline", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(full_run)
    assert full_report.index.read_bytes() == before
    assert [p.name for p in full_run.folder.iterdir() if p.name.startswith(".")] == []


def test_a_summary_is_json_and_names_every_file(full_report):
    from adapcli.console import plain

    content = json.loads(json.dumps(plain(summary.as_data(full_report)), allow_nan=False))
    assert set(content["figures"]) == FIGURES
    assert set(content["tables"]) == TABLES
    assert content["missing"] == []
    kinds = [mark["kind"] for mark in content["marks"]]
    assert kinds == ["full", "chosen", "policy", "policy", "oracle", "oracle"]


def test_a_table_alone_is_a_report_that_says_what_adds_the_rest(tmp_path, synthetic_table, make_run):
    run = make_run(tmp_path / "alone", synthetic_table, target=None, policies=False)
    document = composed(run)
    text = text_of(document)
    assert f"adap search --run {run.folder} --flops-target 0.7" in text
    assert f"adap train-policy --run {run.folder} --algo threshold" in text
    assert len(summary.missing(document)) == 2
    assert "front" not in [grid.name for grid in document.grids()]


def test_no_table_is_an_error_that_names_the_sweep(tmp_path):
    with pytest.raises(FileError) as caught:
        build(Run.open(tmp_path))
    assert "adap sweep" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_bare_table_is_enough(tmp_path, make_table, make_run):
    """No run.json, no classes, no signals, no features, no data, one axis, one sample per split."""
    table = make_table(
        n_samples=4, tokens=(4,), widths=(8,), depths=(1, 2), prediction=None, nll=None, features=None,
        feature_names=None, signals=None, signal_names=None, meta={},
    )  # fmt: skip
    run = Run.open(tmp_path)
    table.save(run.table)
    text = visible(build(run).index.read_text())
    assert "Score over cost" in text
    assert not WORDS.search(text)


def test_one_configuration_is_enough(tmp_path, make_table):
    table = make_table(n_samples=40, tokens=(4,), widths=(8,), depths=(3,))
    run = Run.open(tmp_path)
    table.save(run.table)
    assert build(run).index.exists()


def test_hostile_names_stay_text(tmp_path, synthetic_table, make_run):
    hostile = "<script>alert(1)</script>"
    meta = synthetic_table.meta | {"class_names": [f"{hostile}{i}" for i in range(10)]}
    meta["model"] = {"name": f"{hostile}\"'.pt"}
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    table.meta.update(meta)
    run = make_run(tmp_path / f"a{hostile.replace('/', '')}b", table)
    document = composed(run)
    source = page.render(document, {drawing.name: "" for drawing in document.drawings()})
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;0" in source
    assert "\\<script\\>" in markdown.render(document)


def test_a_policy_of_another_table_is_left_out_with_a_warning(tmp_path, synthetic_table, make_run):
    run = make_run(tmp_path, synthetic_table)
    path = run.policies / "hasty" / "policy.json"
    content = json.loads(path.read_text())
    content["grid"]["fingerprints"]["checkpoint"] = "another"
    path.write_text(json.dumps(content))
    document = composed(run)
    assert len(document.warnings) == 1
    assert "Policy hasty is left out" in text_of(document)
    assert "Policy threshold" in document.answers[1].headline


def test_a_policy_made_from_other_samples_is_shown_with_a_warning(tmp_path, synthetic_table, make_run):
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    run = make_run(tmp_path, table)
    assert composed(run).warnings == []
    path = run.policies / "hasty" / "policy.json"
    content = json.loads(path.read_text())
    content["grid"]["fingerprints"]["data"] = "another split"
    path.write_text(json.dumps(content))
    document = composed(run)
    assert [warning[:32] for warning in document.warnings] == ["Policy hasty was made from other"]
    assert "left out" not in document.warnings[0]


def test_a_search_of_another_table_is_left_out_with_a_warning(tmp_path, synthetic_table, make_run):
    run = make_run(tmp_path, synthetic_table, policies=False)
    path = run.search / "search.json"
    path.write_text(path.read_text().replace('"checkpoint": "', '"checkpoint": "x'))
    document = composed(run)
    assert "adap search" in document.warnings[0]
    assert document.answers[0].headline == "Not chosen yet"


def test_examples_are_left_out_where_the_data_is_gone(tmp_path, synthetic_table, make_run):
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    table.meta["data"] = {"name": "folder:/no/such/folder", "seed": 0}
    text = text_of(composed(make_run(tmp_path, table, policies=False)))
    assert "Examples are left out: the data cannot be opened" in text


def test_examples_of_other_data_are_never_shown(tmp_path, synthetic_table, make_run):
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    table.samples["sample_id"] = [f"other/{i}" for i in range(table.n_samples)]
    text = text_of(composed(make_run(tmp_path, table, policies=False)))
    assert "Examples are left out: the data is not what the table was made from" in text


@pytest.fixture(scope="module")
def stronger(tmp_path_factory, synthetic, make_run, synthetic_table):
    sizes = synthetic_table.meta["data"]["sizes"]
    table = synthetic.make_table(sizes, strength=0.4)
    return make_run(tmp_path_factory.mktemp("other") / "stronger", table, policies=False)


def frames(section):
    return {block.name: block.frame for block in section.blocks if isinstance(block, blocks.Grid)}


def test_two_runs_side_by_side(stronger, full_run):
    found = frames(comparison.section(gather(stronger), gather(full_run)))
    cost, score = found["comparison_at_equal_cost"], found["comparison_at_equal_score"]
    assert cost["difference"].to_numpy() == pytest.approx(cost["this_run"] - cost["other"])
    assert (cost["low"] <= cost["difference"]).all()
    assert (cost["difference"].iloc[1:-1] > 0).all()
    assert (score["ratio"] < 1).mean() > 0.7


def test_a_comparison_comes_second(stronger, full_run):
    document = compose(gather(stronger), gather(full_run), made="now")
    assert [section.anchor for section in document.sections][:2] == ["tradeoff", "comparison"]
    assert "Compared with run" in text_of(document)


def test_a_run_beside_itself_differs_by_nothing(full_run, tmp_path, synthetic_table, make_run):
    same = make_run(tmp_path / "same", synthetic_table, policies=False)
    cost = frames(comparison.section(gather(same), gather(full_run)))["comparison_at_equal_cost"]
    assert (cost[["difference", "low", "high"]] == 0).all().all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task": "depth"}, "task: "),
        ({"class_names": ["a", "b"]}, "classes: "),
        ({"fingerprints": {"data": {"test": "digits:other"}}}, "data: "),
    ],
)
def test_other_tasks_and_data_are_refused(tmp_path, full_run, synthetic_table, make_run, change, told):
    table = synthetic_table.take(np.arange(synthetic_table.n_samples))
    table.meta.update(change)
    other = make_run(tmp_path / "other", table, target=None, policies=False)
    with pytest.raises(FileError, match=told):
        build(other, compare=full_run)
    assert not other.report.exists()


def test_a_mixture_lies_between_its_corners(synthetic_table):
    front = StaticFront.of(synthetic_table)
    for i, cost in enumerate(front.cost_flops):
        assert front.mixture(cost) == pytest.approx(front.scores[:, i])
    middle = (front.cost_flops[0] + front.cost_flops[1]) / 2
    assert front.mixture(middle) == pytest.approx(front.scores[:, :2].mean(1))


def test_the_line_of_the_figure_is_what_policies_are_compared_with(full_run):
    findings = gather(full_run)
    for judged in findings.policies:
        if not judged.evaluation.beats_statics:
            cost = np.interp(judged.evaluation.score.mean, findings.front.score, findings.front.cost_flops)
            assert cost == pytest.approx(judged.evaluation.static_cost_flops)
    scores = findings.configs["score"].to_numpy()
    assert len(findings.front.score) == len(pareto.hull(findings.table.cost_flops, scores))


def test_pages_and_template_are_packaged():
    import adapcli.report

    assert (Path(adapcli.report.__file__).parent / "template.html").is_file()


def test_a_static_choice_is_no_per_sample_policy(tmp_path, synthetic_table, make_run):
    run = make_run(tmp_path, synthetic_table, policies=False)
    save(Static(Grid.of(synthetic_table), 53), run.policies / "static")
    document = composed(run)
    assert document.answers[1].headline == "Not trained yet"
    assert "static" in [row[0] for grid in document.grids() if grid.name == "policies" for row in grid.rows]


def test_the_best_policy_is_chosen_on_the_tune_split(full_run):
    findings = gather(full_run)
    least = findings.table.score[findings.table.rows("tune"), findings.chosen].mean(dtype=np.float64)
    good = [p for p in findings.policies if p.tuned.score.high >= least]
    assert findings.best_policy is max(good, key=lambda p: p.tuned.saving_static.mean)
    assert all(p.tuned.split == "tune" for p in findings.policies)


def test_what_training_recorded_is_told(tmp_path, synthetic_table, make_run):
    run = make_run(tmp_path, synthetic_table)
    recorded = {"objective": {"max_drop": 0.01}, "met": False}
    (run.policies / "hasty" / "evaluation.json").write_text(json.dumps(recorded))
    (run.policies / "threshold" / "evaluation.json").write_text('{"objective": "<b>"}')
    made = next(grid for grid in composed(run).grids() if grid.name == "policies_made")
    assert list(made.rows[0][:4]) == ["hasty", "threshold", "drop of at most 0.01", "no"]
    assert list(made.rows[1][:4]) == ["threshold", "threshold", "–", "–"]


def test_latency_is_drawn_where_it_was_measured(tmp_path, synthetic_table):
    rows = {"configuration": [0, 89], "batch": [1, 1], "device": ["cpu", "cpu"], "median_ms": [1.5, 9.25]}
    run = Run.open(tmp_path)
    replace(synthetic_table, latency=pd.DataFrame(rows)).save(run.table)
    document = composed(run)
    assert "latency" in [drawing.name for drawing in document.drawings()]
    grid = next(grid for grid in document.grids() if grid.name == "latency")
    assert list(grid.rows[1]) == ["89", "1", "cpu", "9.25"]
    assert grid.numeric == 1
    shutil.rmtree(run.table)
    unknown = pd.DataFrame(rows | {"configuration": [0, 90]})
    replace(synthetic_table, latency=unknown).save(run.table)
    assert "latency" not in [drawing.name for drawing in composed(run).drawings()]
