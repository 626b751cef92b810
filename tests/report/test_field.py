"""The field and whole trade-offs in a report: what is drawn is what training kept."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adapcli.errors import FileError
from adapcli.report.field import read_field
from adapcli.report.figures.field import gaps
from adapcli.report.findings import gather
from adapcli.report.sections import field, tradeoff
from adapcli.report.style import NARROW, WIDE
from adapcli.run import Run
from policies import registry
from policies.base import save
from policies.curves import trade_off
from policies.field import Request, train_field
from policies.files import write_csv, write_json


@pytest.fixture(scope="module")
def made(make_table, tmp_path_factory):
    """A run whose field was trained: its folder, its table and the field."""
    table, run = make_table(800), Run(tmp_path_factory.mktemp("run") / "run")
    table.save(run.table)
    found = train_field(table, Request(resamples=60), run.field, only=["static", "threshold"])
    write_json(run.field / "field.json", found.to_dict())
    trained = registry.train("threshold", table)
    save(trained.policy, run.policies / "threshold")
    write_csv(run.policies / "threshold" / "curve.csv", trade_off(trained, table, resamples=60).frame())
    return run, table, found


def test_the_section_tells_the_numbers_that_were_kept(made):
    run, _, found = made
    (section,) = field.sections(gather(run))
    advice, _, drawing, grid = section.blocks
    assert found.recommendation.reason[0] in advice.text
    assert [row[0] for row in grid.rows[:2]] == ["static", "threshold"]
    assert all("(not achievable)" in row[0] for row in grid.rows[2:])
    expected = found.frame().set_index("name")
    shown = grid.frame.set_index("name")
    for name in ("static", "threshold", "same-answer oracle"):
        for column in ("gap", "gap_low", "saving_full_0.005", "saving_static_0.01_high"):
            assert shown.loc[name, column] == pytest.approx(expected.loc[name, column])
    assert {grid.rows[i][0] for i in grid.strong} == {found.recommendation.name}
    for layout in (WIDE, NARROW):
        assert drawing.draw(layout) is not None


def test_gaps_are_drawn_where_they_are(made):
    standings = gather(made[0]).field_found.standings
    (axes,) = gaps(standings, "threshold").axes
    drawn = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert [drawn[-i] for i in range(len(standings))] == [standing.gap.mean for standing in standings]


def test_without_a_field_there_is_no_section(make_table, tmp_path):
    make_table(200).save(tmp_path / "run" / "table")
    findings = gather(Run(tmp_path / "run"))
    assert findings.field_found is None
    assert field.sections(findings) == []


def test_the_field_of_another_table_is_left_out_with_a_warning(made, make_table):
    run, table, _ = made
    warnings = []
    assert read_field(run, make_table(400), warnings) is None
    assert "another table" in warnings[0]
    assert read_field(run, table, warnings) is not None


@pytest.mark.parametrize(
    "change", [{"entries": [{}]}, {"recommendation": 3}, {"schema_version": 9}, {"n": "x"}]
)
def test_a_damaged_field_is_refused(made, tmp_path, change):
    run, table, _ = made
    content = json.loads((run.field / "field.json").read_text())
    write_json(tmp_path / "field" / "field.json", content | change)
    with pytest.raises(FileError, match=r"field\.json"):
        read_field(Run(tmp_path), table, [])


def test_the_trade_off_is_the_front_of_what_was_kept(made):
    run = made[0]
    findings = gather(run)
    (line,) = findings.curves().values()
    kept = pd.read_csv(run.policies / "threshold" / "curve.csv")
    points = set(zip(kept["cost_flops"], kept["score"], strict=True))
    assert set(zip(line.cost_flops, line.score, strict=True)) <= points
    assert (np.diff(line.score) >= 0).all()
    assert (line.low <= line.score).all()
    assert "whole trade-offs" in tradeoff.section(findings).blocks[0].caption
    assert tradeoff.section(findings).blocks[0].draw(WIDE) is not None


@pytest.mark.parametrize("content", ["", "score\n1\n", "score,score_low,score_high,cost_flops\n1,nan,1,5\n",
                                     "score,score_low,score_high,cost_flops\n1,1,1,-5\n"])  # fmt: skip
def test_a_curve_that_cannot_be_drawn_is_refused(made, tmp_path, content):
    run, table, _ = made
    broken = Run(tmp_path / "run")
    table.save(broken.table)
    save(registry.load(run.policies / "threshold"), broken.policies / "threshold")
    (broken.policies / "threshold" / "curve.csv").write_text(content)
    with pytest.raises(FileError, match=r"curve\.csv"):
        gather(broken)


def test_a_gap_that_was_not_recorded_is_none(made):
    (policy,) = gather(made[0]).policies
    assert policy.gap == 0
    assert replace(policy, made={"curve": {"gap": {"mean": 0.4}}}).gap == 0.4
    assert replace(policy, made={"curve": {"gap": None}}).gap == 0
