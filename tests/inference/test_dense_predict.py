"""`adap predict` with models that draw maps: the files hold the model's own answers."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import adapcli
import policies
from adapcli.data.images import read_image
from adapcli.data.transforms import preprocess
from adapcli.inference.anytime import run_anytime
from adapcli.inference.maps import depth_png, depth_unit_m, mask_png, palette
from adapcli.main import main
from adapcli.space import Configuration
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies import base
from policies.grid import Grid
from policies.table import OutcomeTable
from policies.threshold import Threshold

TASKS = ("segmentation", "depth", "centres")


@pytest.fixture(scope="module")
def runs(make_model, tmp_path_factory):
    """Of each task: the model, its checkpoint, and a run with a table and a policy that often goes on."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        names = ("background", *map(str, range(10))) if task == "segmentation" else ()
        model = make_model(task=task, output_feat_dim=12, num_bins=16, num_classes=11, class_names=names)
        adapcli.save(model, folder / "m.pt")
        samples = Samples.open("digits", model.preprocessing, limit=60, task=task)
        table = Sweep(model, samples, model.config.space).run(folder / "run" / "table")
        signal = table.signal_names[0]
        tau = float(np.median(table.signal(signal)[:, 0]))
        base.save(
            Threshold(Grid.of(table), (0, 1, table.full), tau, signal), folder / "run" / "policies" / "t"
        )
        found[task] = model, folder / "m.pt", folder / "run"
    return found


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "more/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24), np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def predict(runs, tmp_path, capsys):
    def call(task, *words):
        _, checkpoint, run = runs[task]
        known = ("--ckpt", checkpoint, "--run", run, "--quiet")
        code = main(["predict", *map(str, (*known, *words))])
        ended = capsys.readouterr()
        return code, ended.out, ended.err

    return call


def alone(model, path, configuration):
    image = preprocess(read_image(path, "L"), model.preprocessing)[None]
    with torch.inference_mode():
        return model(image, configuration)


def stored(path, task):
    if task == "centres":
        return np.load(path, allow_pickle=False)
    with Image.open(path) as image:
        values = np.asarray(image)
        assert image.mode == ("P" if task == "segmentation" else "I;16")
        unit = float(image.text.get("metres_per_unit", 1))
    return values * unit


@pytest.mark.parametrize("task", TASKS)
def test_files_hold_what_the_model_answers_at_that_configuration(runs, predict, pictures, tmp_path, task):
    model, out = runs[task][0], tmp_path / "maps"
    code, text, _ = predict(task, pictures, "--maps", out, "--tokens", 2, "--depth", 2)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 0
    assert [row["path"] for row in rows] == [str(pictures / n) for n in ("a.png", "b.png", "more/a.png")]
    assert len({row["map"] for row in rows}) == 3
    configuration = Configuration(2, 24, 2)
    for row in rows:
        maps = alone(model, row_path(row), configuration).maps[0]
        if task == "segmentation":
            assert np.array_equal(stored(row["map"], task), maps.argmax(0))
        elif task == "depth":
            np.testing.assert_allclose(stored(row["map"], task), maps[0], atol=0.0006)
        else:
            np.testing.assert_allclose(stored(row["map"], task), maps, atol=1e-5)
        assert int(row["cost_flops"]) == adapcli.flops(
            model.config, configuration, readout="folded", attention="block"
        )
    facts = json.loads((out / "maps.json").read_text())
    assert facts["task"] == task
    told = {"segmentation": "classes", "depth": "metres_per_unit", "centres": "channels"}[task]
    assert facts[told] in (["background", *map(str, range(10))], 0.001, ["down", "right"])


def row_path(row):
    return Path(row["path"])


@pytest.mark.parametrize("task", TASKS)
def test_a_policy_decides_as_it_does_on_the_table(runs, task):
    model, _, run = runs[task]
    table = OutcomeTable.load(run / "table")
    policy, rows = policies.load(run / "policies" / "t"), table.rows("test")
    images = (
        Samples.open("digits", model.preprocessing, limit=60, task=task).splits["test"].batch(0, len(rows))
    )
    answers = run_anytime(model, images.images, policy, batch=7)
    decision = policy.select(table, rows)
    axes = table.configs[["tokens", "width", "depth"]].to_numpy()[decision.configuration]
    assert [(c.tokens, c.width, c.depth) for c in answers.configurations] == [tuple(row) for row in axes]
    assert answers.cost_flops.tolist() == decision.cost_flops.astype(int).tolist()
    assert len(set(answers.configurations)) > 1
    for i in (0, 3, len(rows) - 1):
        with torch.inference_mode():
            direct = model(images.images[i : i + 1], answers.configurations[i]).maps[0]
        torch.testing.assert_close(answers.output.maps[i], direct, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_with_a_policy_each_picture_has_its_own_cost(predict, pictures, tmp_path, task):
    code, text, _ = predict(task, pictures, "--maps", tmp_path / "maps", "--policy", "t", "--json")
    found = json.loads(text)
    assert code == 0
    assert len(found["predictions"]) == 3
    assert found["summary"]["mean_cost_flops"] == pytest.approx(
        np.mean([p["cost_flops"] for p in found["predictions"]])
    )


def test_where_maps_go_must_be_said_and_be_free(predict, pictures, tmp_path):
    code, out, err = predict("segmentation", pictures)
    assert (code, out) == (2, "")
    assert "--maps DIR, or --summary" in err
    code, _, err = predict("segmentation", pictures / "a.png", "--maps", pictures)
    assert code == 2
    assert "holds the pictures themselves" in err
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    code, _, err = predict("segmentation", pictures, "--maps", full)
    assert code == 2
    assert "is not empty" in err
    assert predict("segmentation", pictures, "--maps", full, "--overwrite")[0] == 0
    assert (full / "mine.txt").read_text() == "mine"
    code, _, err = predict("depth", pictures, "--maps", full / "mine.txt")
    assert code == 2
    assert "not a folder" in err
    code, _, err = predict("depth", pictures, "--maps", tmp_path / "m", "--top", 2)
    assert code == 2
    assert "draws maps" in err


def test_a_classifier_draws_none(make_model, pictures, tmp_path, capsys):
    adapcli.save(make_model(), tmp_path / "c.pt")
    words = ["predict", str(pictures), "--ckpt", str(tmp_path / "c.pt"), "--maps", str(tmp_path / "m")]
    assert main(words) == 2
    assert "this checkpoint is for classification" in capsys.readouterr().err


def test_a_summary_needs_no_place_for_maps(predict, pictures):
    code, text, _ = predict("depth", pictures, "--summary")
    assert code == 0
    assert "throughput" in text


@given(st.integers(2, 300), st.integers(0, 10**6))
def test_masks_come_back_as_they_were(classes, seed):
    mask = np.random.default_rng(seed).integers(0, classes, (3, 5))
    with Image.open(io.BytesIO(mask_png(mask, classes))) as image:
        assert np.array_equal(np.asarray(image), mask)


@given(st.floats(0.5, 1000), st.integers(0, 10**6))
def test_depth_comes_back_to_half_a_step(farthest, seed):
    unit = depth_unit_m(farthest)
    metres = np.random.default_rng(seed).uniform(unit, farthest, (3, 4))
    with Image.open(io.BytesIO(depth_png(metres, unit))) as image:
        np.testing.assert_allclose(np.asarray(image) * unit, metres, atol=0.501 * unit)
        assert float(image.text["metres_per_unit"]) == unit


def test_colours_differ_and_the_background_is_black():
    colours = palette(256)
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1].tolist() == [128, 0, 0]
    assert len({tuple(c) for c in colours.tolist()}) == 256
