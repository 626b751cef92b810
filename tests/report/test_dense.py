"""Reports of runs with maps: metrics of the whole data set, and maps at several configurations."""

import io
import re

import numpy as np
import pytest
from PIL import Image

import adapcli
from adapcli.main import main
from adapcli.report import whole
from adapcli.report.build import build
from adapcli.report.document import Gallery, Text
from adapcli.run import Run
from policies.table import OutcomeTable, metrics

TASKS = {
    "segmentation": ["mIoU, %"],
    "depth": ["RMSE, m", "abs-rel", "delta_1, %"],
    "centres": ["endpoint error, px", "within 2 px, %"],
}


@pytest.fixture(scope="module")
def runs(make_model, tmp_path_factory):
    """Of each task a run made by the commands: swept, searched, with a policy."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        names = ("background", *map(str, range(10))) if task == "segmentation" else ()
        model = make_model(task=task, output_feat_dim=12, num_bins=16, num_classes=11, class_names=names)
        adapcli.save(model, folder / "m")
        where = ["--run", str(folder / "run"), "--quiet"]
        assert main(["sweep", "--ckpt", str(folder / "m"), "--limit", "80", *where]) == 0
        assert main(["search", "--flops-target", "0.9", *where]) == 0
        assert main(["train-policy", "--algo", "threshold", "--max-drop", "0.5", *where]) == 0
        found[task] = folder
    return found


@pytest.mark.parametrize("task", TASKS)
def test_a_report_tells_the_metrics_of_the_whole_data_set(runs, task):
    report = build(Run(runs[task] / "run"), made="now")
    grid = next(g for g in report.document.grids() if g.name == "dataset_metrics")
    assert list(grid.columns)[3:] == TASKS[task]
    assert [row[0].split(":")[0] for row in grid.rows] == ["cheapest", "chosen", "full", "threshold"]
    table = OutcomeTable.load(runs[task] / "run" / "table")
    values = metrics.of_configurations(table, table.rows("test"))
    frame = grid.frame.set_index(["name", "metric"])
    for metric, value in values.items():
        row = frame.loc[grid.rows[2][0], metric]
        assert row["value"] == pytest.approx(value[table.full])
        assert row["low"] <= row["value"] <= row["high"]


@pytest.mark.parametrize("task", TASKS)
def test_maps_stand_beside_picture_and_target(runs, task):
    report = build(Run(runs[task] / "run"), made="now")
    choices = next(s for s in report.document.sections if s.anchor == "choices")
    gallery = next(block for block in choices.blocks if isinstance(block, Gallery))
    assert "the cheapest" in gallery.caption
    assert "the full configuration" in gallery.caption
    assert len(gallery.examples) == 6
    for example in gallery.examples:
        with Image.open(io.BytesIO(example.png)) as image:
            height, width = image.height, image.width
        panels = round(width / height)
        assert panels in (4, 5)
        assert len(example.lines[0].split(", ")) == panels - 2


@pytest.mark.parametrize("task", TASKS)
def test_a_page_shows_the_whole_strip_of_maps(runs, task):
    page = (build(Run(runs[task] / "run"), made="now").folder / "index.html").read_text()
    (gallery,) = re.findall('class="(gallery[^"]*)"', page)
    assert "strips" in gallery.split()
    (rule,) = re.findall(r"\.strips img \{(.*?)\}", page)
    assert "aspect-ratio: auto" in rule
    assert ("Image IoU over cost" in page) == (task == "segmentation")


def test_without_its_checkpoint_a_report_says_why_there_are_no_maps(runs, make_model, tmp_path):
    import shutil

    shutil.copytree(runs["depth"], tmp_path / "copy")
    run = Run(tmp_path / "copy" / "run")
    adapcli.save(make_model(seed=5, task="depth", output_feat_dim=12, num_bins=16), tmp_path / "other")
    run.record(checkpoint={"path": str(tmp_path / "other"), "fingerprint": "x"})
    choices = next(s for s in build(run, made="now").document.sections if s.anchor == "choices")
    told = [block.text for block in choices.blocks if isinstance(block, Text)]
    assert any("Maps are left out" in text and "another checkpoint" in text for text in told)


def test_measures_of_a_policy_use_its_own_choices(runs):
    table = OutcomeTable.load(runs["segmentation"] / "run" / "table")
    rows = table.rows("test")
    mixed = np.where(np.arange(len(rows)) % 2, table.full, 0)
    frame = whole.measured(table, {"mixed": mixed, "full": table.full}).set_index("name")
    assert frame.loc["mixed", "value"] == pytest.approx(metrics.of_choices(table, rows, mixed)["mIoU"])
    assert frame.loc["full", "value"] != frame.loc["mixed", "value"]
    assert len(whole.cells(frame.reset_index(), "full")) == 1
