"""What a report says of a calibrated table: before and after, and that all else is after."""

import re

import numpy as np
import pytest

from adapcli.errors import FileError
from adapcli.evaluation.effect import Effect
from adapcli.evaluation.outcomes import outcomes
from adapcli.report.document import Drawing, Grid, Text
from adapcli.report.findings import gather
from adapcli.report.sections import calibration, provenance
from policies.table.recalibration import Recalibration


@pytest.fixture(scope="module")
def effect():
    """Of 90 configurations on 200 samples: number i is right on 100 before and on 100 + i after."""
    import torch

    right = torch.arange(200)[:, None] < 100 + torch.arange(90) * torch.tensor([[0], [1]])[:, None]
    logits = torch.stack([right.float(), 1 - right.float()], dim=-1)
    targets = torch.zeros(200, 1, dtype=torch.int64)
    return Effect.measured("tune", *([outcomes(each, targets)] for each in logits))


@pytest.fixture
def findings(synthetic, make_run, tmp_path, effect):
    def build(told, recalibration=True):
        sizes = {"fit": 12, "tune": 8, "calibration": 20, "test": 30}
        meta = synthetic.make_meta(0, sizes) | {"recalibration": told}
        rows = Recalibration.identity(90, 10) if recalibration else None
        table = synthetic.make_table(sizes, meta=meta, recalibration=rows)
        return gather(make_run(tmp_path / "run", table, target=None, policies=False))

    return build


def named(section, kind, name):
    return next(b for b in section.blocks if isinstance(b, kind) and getattr(b, "name", name) == name)


def test_before_and_after_are_shown(findings, effect):
    section = calibration.section(findings({"fit_samples": 4000, "effect": effect.to_dict()}))
    words = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert "were fitted on 4 000 fit samples" in words
    assert "at no cost" in words
    assert re.search(
        r"On 200 tune samples accuracy gains \+22\.[23] points in the mean over 90 config", words
    )
    grid = named(section, Grid, "recalibration")
    shown = {row[0]: row for row in grid.rows}
    assert shown["cheapest"][1:5] == ["t1 w16 l1", "50.0 %", "50.0 %", "0.0"]
    assert shown["full"][1:5] == ["t16 w64 l6", "50.0 %", "94.5 %", "+44.5"]
    assert shown["gains most"][1:] == shown["full"][1:]
    assert len(grid.frame) == 90
    np.testing.assert_allclose(grid.frame["gain"], np.arange(90) / 200)
    assert named(section, Drawing, "recalibration").alt.endswith("calibration error before and after")


def test_a_table_without_says_nothing_of_it(findings, effect):
    section = calibration.section(findings({"effect": effect.to_dict()}, recalibration=False))
    assert [block.name for block in section.blocks] == ["calibration", "calibration"]


@pytest.mark.parametrize("told", [{}, None, 3])
def test_where_nothing_was_measured_it_is_still_said(findings, told):
    section = calibration.section(findings(told))
    assert "another run's" in section.blocks[-1].text


def test_a_damaged_effect_is_refused(findings, effect):
    broken = effect.to_dict() | {"columns": {}}
    with pytest.raises(FileError, match=r"recalibration\.effect"):
        calibration.section(findings({"effect": broken}))


def test_the_digest_is_among_the_facts(findings, effect):
    found = findings({"effect": effect.to_dict()})
    facts = dict(provenance.section(found).blocks[0].items)
    assert facts["recalibration"] == found.table.recalibration.digest
