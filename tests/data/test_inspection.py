"""`adap data inspect`: what it says of every kind of source."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from adapcli.main import main

from .conftest import CLASSES, EACH, grey, png, write_table


def inspected(capsys, *arguments):
    assert main(["data", "inspect", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["folder", "npz", "shards", "saved"])
def test_every_source_of_the_same_images_says_the_same(kind, request, tmp_path, capsys):
    place = request.getfixturevalue(f"picture_{kind}")
    name = {"shards": "webdataset", "saved": "hf"}.get(kind, kind)
    found = inspected(capsys, "--data", f"{name}:{place}", "--thumbnails", tmp_path / "t.png")
    assert found["images"] == found["sampled"] == sum(found["splits"].values()) == 3 * EACH
    assert found["classes"] == {label: {"all": EACH} for label in CLASSES}
    assert found["size"] == {"smallest": [11, 9], "largest": [11, 9], "median": [11, 9]}
    assert found["modes"] == {"uint8 x 3" if kind == "npz" else "RGB": 3 * EACH}
    assert found["damaged"] == found["left_out"] == []
    none = {"repeated": 0, "across_parts": {}, "across_classes": 0, "contradictory": []}
    assert found["copies"] == {"compared": 180, **none}
    sheet = np.asarray(Image.open(tmp_path / "t.png"))
    assert sheet.shape == (330, 384, 3)
    cells = sheet.reshape(3, 110, 4, 96, 3).transpose(0, 2, 1, 3, 4).reshape(12, -1)
    assert all(cell.std() > 5 for cell in cells)


def test_leaks_contradictions_damage_and_what_is_left_out_are_shown(tmp_path, capsys):
    for number, part in enumerate(("train", "val")):
        for label, seed in (("cat", 1), ("dog", 2)):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for row, image in enumerate(grey(5, 10 * number + seed)):
                (folder / f"{row}.png").write_bytes(png(image))
    shutil.copy(tmp_path / "train/cat/0.png", tmp_path / "val/cat/copy.png")
    shutil.copy(tmp_path / "val/cat/1.png", tmp_path / "val/dog/copy.png")
    (tmp_path / "val/dog/9.png").write_text("no image")
    (tmp_path / "val/.hidden").mkdir()
    found = inspected(capsys, "--data", f"folder:{tmp_path}")
    assert found["copies"] == {
        "compared": 23,
        "repeated": 2,
        "across_parts": {"train, val": 1},
        "across_classes": 1,
        "contradictory": ["val/cat/1.png", "val/dog/copy.png"],
    }
    assert found["damaged"] == [
        {"reason": "not a picture that Pillow can read", "count": 1, "first": "val/dog/9.png"}
    ]
    assert found["left_out"] == [{"reason": "hidden files and folders", "count": 1, "first": "val/.hidden"}]
    assert main(["data", "inspect", "--data", f"folder:{tmp_path}"]) == 0
    text = capsys.readouterr().out
    for line in (
        "parts: train 10, val 13",
        "leak: 1 image in more than one part: train, val",
        "contradictory labels: 1 image, first val/cat/1.png = val/dog/copy.png",
        "damaged: 1: not a picture that Pillow can read, first val/dog/9.png",
        "left out: 1: hidden files and folders, first val/.hidden",
        "size in pixels: 6 x 6 to 6 x 6, median 6 x 6; modes: L 22",
    ):
        assert f"{line}\n" in text


def test_a_refusal_of_classes_is_shown_with_the_classes(tmp_path, picture_folder, make_model, capsys):
    import adapcli

    model = make_model(num_classes=3)
    model.class_names = ["ape", "bee", "emu"]
    adapcli.save(model, tmp_path / "m.pt")
    found = inspected(capsys, "--data", f"folder:{picture_folder}", "--ckpt", tmp_path / "m.pt")
    (decision,) = [d["text"] for d in found["decisions"] if "refused" in d["text"]]
    assert "1 of 3 class folders are unknown to the model: 'cow'" in decision
    assert list(found["classes"]) == list(CLASSES)


def test_classes_parts_and_columns_may_be_said(tmp_path, capsys):
    rows = [(row % 2, image) for row, image in enumerate(grey(8))]
    for part in ("train", "night"):
        write_table(tmp_path / f"{part}.parquet", rows, names="ab")
    (tmp_path / "classes.json").write_text('{"a": "cat", "b": "dog"}')
    options = ["--parts", "train=train,test=night", "--classes", tmp_path / "classes.json"]
    found = inspected(capsys, "--data", f"hf:{tmp_path}", "--columns", "image=image,label=label", *options)
    assert found["parts"] == {"train": 8, "test": 8}
    assert found["classes"] == {name: {"train": 4, "test": 4} for name in ("cat", "dog")}


@pytest.mark.parametrize(("task", "place"), [("segmentation", "masks"), ("depth", "depth")])
def test_values_of_masks_and_depth_maps_are_shown(tmp_path, capsys, task, place):
    for row, image in enumerate(grey(4)):
        values = (
            np.full((6, 6), row % 2, np.uint8) if task == "segmentation" else np.full((6, 6), 2000, np.uint16)
        )
        values[0, :3] = 255 if task == "segmentation" else 0
        for folder, content in (("images", image), (place, values)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(tmp_path / folder / f"{row}.png")
    found = inspected(capsys, "--data", f"folder:{tmp_path}", "--task", task)
    assert found["images"] == 4
    share = {"0": 33 / 72, "1": 33 / 72, "not scored": 6 / 72}
    metres = {"smallest_m": 2.0, "median_m": 2.0, "largest_m": 2.0, "unknown": 6 / 72}
    assert found["values"] == pytest.approx(share if task == "segmentation" else metres)


def test_digits_can_be_inspected(capsys):
    found = inspected(capsys, "--data", "digits")
    assert list(found["classes"]) == [str(number) for number in range(10)]
    assert found["splits"]["test"] == 20_000


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "Missing option '--data'"),
        (["--data", "folder:/nowhere"], 3, "no such folder"),
        (["--data", "nope"], 2, "not known"),
        (["--data", "npz:x", "--task", "depth"], 2, "has no depth"),
        (["--data", "digits", "--parts", "dev"], 2, "expected train=NAME, val=NAME, test=NAME"),
        (["--data", "digits", "--classes", "/nowhere"], 3, "cannot be read"),
        (["--data", "digits", "--split", "1:2"], 2, "not known"),
    ],
)
def test_what_cannot_be_inspected_is_one_line(capsys, arguments, code, told):
    assert main(["data", "inspect", *arguments]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert told in shown.err
