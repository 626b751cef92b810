"""`adap predict` given wrong pictures, policies, budgets and places to write to."""

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapcli
from policies import base
from policies.baselines import RandomMixture
from policies.grid import Grid
from policies.table import OutcomeTable
from policies.threshold import Threshold


@pytest.fixture
def pictures(tmp_path):
    """Three pictures in `pics`."""
    (tmp_path / "pics").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / f"{i}.png")
    return tmp_path / "pics"


@pytest.fixture
def predict(adap, checkpoint, pictures):
    return lambda *words: adap("predict", "--ckpt", checkpoint, "--quiet", *words)


@pytest.fixture
def policy(run):
    """A policy called `early` in the run folder."""
    save_policy(run, "early", lambda grid: Threshold(grid, (0, 1), 0.5))
    return run / "policies" / "early"


def save_policy(run, name, make):
    base.save(make(Grid.of(OutcomeTable.load(run / "table"))), run / "policies" / name)


def bomb(path):
    Image.new("1", (20_000, 20_000)).save(path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.touch(), "empty file"),
        (lambda path: path.write_bytes(b"junk"), "not a picture that Pillow can read"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not a picture that Pillow can read"),
        (bomb, "decompression bomb?"),
        (lambda path: os.mkfifo(path), "empty file"),
    ],
)
def test_a_picture_that_cannot_be_read(predict, tmp_path, damage, told):
    """Alone it is refused; among others it is skipped and told."""
    damage(tmp_path / "x.png")
    predict("x.png").refused(3, "x.png: ", told)
    predict("x.png", "x.png", "--json").refused(3, "none of 2 pictures can be read", told)
    ended = predict("pics", "x.png")
    assert (ended.code, ended.out.count("\n")) == (0, 4)
    assert ended.err.startswith("warning: skipped x.png: ")
    assert told in ended.err
    skipped = json.loads(predict("pics", "x.png", "--json").out)["skipped"]
    assert [entry["path"] for entry in skipped] == ["x.png"]


def test_nothing_is_written_where_nothing_can_be_read(predict, tmp_path):
    (tmp_path / "x.png").touch()
    predict("x.png", "-o", "a.csv").refused(3)
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize("name", ["cmyk.jpg", "la.png", "palette.gif", "deep.png", "turned.jpg"])
def test_unusual_pictures_work(predict, tmp_path, name):
    modes = {"cmyk": "CMYK", "la": "LA", "palette": "P", "deep": "I;16", "turned": "L"}
    options = {}
    if name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    Image.new(modes[name.partition(".")[0]], (24, 20)).save(tmp_path / name, **options)
    ended = predict(name)
    assert (ended.code, ended.err, ended.out.count("\n")) == (0, "", 2)


def test_a_folder_without_pictures(predict, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").touch()
    predict("pics", "none").refused(3, "none: no pictures found in it")


@pytest.mark.parametrize("lines", [b"", b"\n\n \n"])
def test_nothing_on_stdin(predict, monkeypatch, lines):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    predict("-").refused(2, "no paths on stdin", "one per line")


def test_a_path_with_a_zero_byte_or_too_long_on_stdin(predict, monkeypatch):
    lines = b"a\0b.png\n" + b"x" * 5000 + b"\npics/0.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    ended = predict("-")
    assert (ended.code, ended.out.count("\n"), ended.err.count("warning: skipped")) == (0, 2, 2)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "Missing argument"),
        (["pics", "--top", "0"], 2, "expected a whole number from 1"),
        (["pics", "--top", "11"], 2, "expected 1 to 10, the model's classes"),
        *[(["pics", "--max-flops", text], 2, "write 5e6, 5M or 1.5G")
          for text in ("0", "-1", "nan", "inf", "5,0", "1e999", "5X", "", "0.5")],
        (["pics", "--max-flops", "1k"], 5, "budget of 1000 FLOPs: the configuration costs"),
        (["pics", "--policy", "early", "--max-flops", "1k"], 5, "budget of 1000 FLOPs"),
        (["pics", "--max-in-flight", "0"], 2, "expected a whole number from 1"),
        (["pics", "--tokens", "3"], 2, "allowed: 1, 2, 4"),
        (["pics", "--width", "9"], 2, "allowed: 8, 16"),
        (["pics", "--depth", "3"], 2, "allowed: 1, 2"),
        (["pics", "--policy", "early", "--depth", "1"], 2, "--policy and --depth exclude each other"),
        (["pics", "--policy", "erly"], 3, "did you mean 'early'?"),
        (["pics", "--policy", ""], 3, "there are: early"),
        (["pics", "--policy", "x" * 5000], 3, "there are: early"),
        (["pics", "--policy", "pics"], 3, "policy.json: no such file"),
        (["pics", "--policy", "adap-run/table"], 3, "policy.json: no such file"),
        (["pics", "--policy", "pics/0.png"], 3, "not a policy folder; refused, nothing was run"),
        (["pics", "--policy", "no/such"], 3, "no/such: no such policy folder"),
        (["pics", "--dtype", "float16"], 2, "allowed are auto, float32, bfloat16"),
        (["pics", "--device", "cudaa"], 2, "allowed are auto, cpu"),
        (["pics", "-o", "pics"], 2, "pics: not a file"),
        (["pics", "-o", "pics/0.png"], 2, "pics/0.png exists already"),
    ],
)  # fmt: skip
def test_wrong_arguments(predict, policy, contents, tmp_path, words, code, told):
    before = contents(tmp_path)
    predict(*words).refused(code, told)
    assert contents(tmp_path) == before


def test_a_pipe_is_not_replaced(predict, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which a failing test must not cost
    predict("pics", "-o", "pipe", "--overwrite").refused(2, "pipe: not a file")
    assert (tmp_path / "pipe").is_fifo()


def test_no_policy_at_all(predict):
    predict("pics", "--policy", "early").refused(3, "no policy 'early' in adap-run/policies", "train-policy")


def test_a_policy_of_another_checkpoint(adap, policy, make_model, pictures, tmp_path):
    adapcli.save(make_model(seed=1), tmp_path / "other.pt")
    adap("predict", "--ckpt", "other.pt", "pics", "--policy", "early", "--quiet").refused(
        3, "policy early was made for another checkpoint: "
    )


@pytest.mark.parametrize(
    ("axis", "value"),
    [("tokens", 3), ("tokens", 10**9), ("tokens", "2"), ("tokens", [2]), ("width", 12), ("depth", 1e300)],
)
def test_a_policy_of_configurations_that_the_model_was_not_made_for(predict, policy, axis, value):
    """Any number of tokens can be run: a stranger's policy must not ask for all time and memory there is."""
    content = json.loads((policy / "policy.json").read_text())
    content["grid"]["configurations"][1][content["grid"]["columns"].index(axis)] = value
    (policy / "policy.json").write_text(json.dumps(content))
    predict("pics", "--policy", "early").refused(3, f"policy early asks for {axis}", "not allowed")


def test_pictures_read_ahead_are_no_more_than_may_be_in_flight(predict, monkeypatch):
    from adapcli.data import pictures

    original, asked = pictures.read_pictures, []

    def recorded(*arguments, ahead, **others):
        asked.append(ahead)
        return original(*arguments, ahead=ahead, **others)

    monkeypatch.setattr(pictures, "read_pictures", recorded)
    assert predict("pics", "--batch", "60000", "--max-in-flight", "2").code == 0
    assert predict("pics", "--batch", "8").code == 0
    assert asked == [4, 16]


def test_a_policy_that_needs_a_table(predict, run):
    save_policy(run, "any", lambda grid: RandomMixture(grid, (1 / len(grid),) * len(grid), name="any"))
    predict("pics", "--policy", "any").refused(2, "policy any cannot run on pictures")


def test_a_policy_that_asks_for_an_unknown_signal(predict, run):
    save_policy(run, "odd", lambda grid: Threshold(grid, (0, 1), 0.5, signal="smell"))
    predict("pics", "--policy", "odd").refused(2, "smell")


def test_a_zip_of_stable_baselines_in_place_of_a_policy(predict, policy, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    with zipfile.ZipFile(tmp_path / "ppo.zip", "w") as archive:
        archive.writestr("policy.pth", pickle.dumps(Payload()))
    predict("pics", "--policy", "ppo.zip").refused(3, "an archive (Stable-Baselines3", "nothing was run")
    shutil.copy(tmp_path / "ppo.zip", policy / "policy.json")
    predict("pics", "--policy", "early").refused(3, "policy.json: not usable JSON")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("task", "code", "told"),
    [
        ("segmentation", 2, ": where do its maps go?"),
        ("depth", 2, ": where do its maps go?"),
        ("features", 3, ""),
    ],
)
def test_a_checkpoint_of_another_task(adap, make_model, pictures, tmp_path, task, code, told):
    adapcli.save(make_model(task=task, output_feat_dim=6), tmp_path / "d.pt")
    adap("predict", "--ckpt", "d.pt", "pics", "--quiet").refused(code, f"this checkpoint is for {task}{told}")


def test_a_full_disk_leaves_the_earlier_file(predict, disk_space, tmp_path):
    assert predict("pics", "-o", "a.csv").code == 0
    before = (tmp_path / "a.csv").read_bytes()
    with disk_space(10):
        ended = predict("pics", "-o", "a.csv", "--overwrite", "--depth", 1)
    assert (ended.code, "Traceback" in ended.err) == (1, False), ended
    assert "error: cannot write a.csv" in ended.err
    assert (tmp_path / "a.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["a.csv"]
