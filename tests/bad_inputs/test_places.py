"""What is written never replaces what it was made from."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

import adapcli

PREDICT = ("predict", "pics", "--quiet")
EXPORT = ("export", "--format", "pt2", "--depth", "1", "--quiet")
EXTRACT = ("extract", "--depth", "1", "--quiet")


@pytest.fixture
def place(tmp_path, make_model):
    """The folder that commands run in, with pictures and checkpoints."""
    (tmp_path / "pics").mkdir()
    for i in range(2):
        Image.fromarray(np.full((16, 16), 90 * i, np.uint8)).save(tmp_path / "pics" / f"{i}.png")
    adapcli.save(make_model(), tmp_path / "m")
    return tmp_path


@pytest.mark.parametrize("command", [PREDICT, EXPORT])
@pytest.mark.parametrize("source", ["m", "m/model.safetensors"])
@pytest.mark.parametrize("output", ["m/config.json", "m/model.safetensors", "pics/../m/config.json"])
def test_a_part_of_the_checkpoint_is_never_replaced(adap, place, contents, command, source, output):
    before = contents(place)
    ended = adap(*command, "--ckpt", source, "-o", output, "--overwrite")
    ended.refused(2, f"{output} holds the checkpoint itself")
    assert contents(place) == before


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_a_picture_to_predict_is_never_replaced(adap, place, contents, link):
    output = "pics/1.png"
    if link:
        link(place / output, place / "other.csv")
        output = "other.csv"
    before = contents(place)
    adap(*PREDICT, "--ckpt", "m", "-o", output, "--overwrite").refused(2, f"{output} is one of the pictures")
    assert contents(place) == before


@pytest.mark.parametrize("command", [PREDICT, EXPORT, EXTRACT])
def test_a_link_to_nothing_is_there_all_the_same(adap, place, command):
    (place / "link").symlink_to(place / "gone")
    adap(*command, "--ckpt", "m", "-o", "link").refused(2, "link exists already")
    assert (place / "link").is_symlink()


def test_beside_the_checkpoint_there_is_room(adap, place):
    assert adap(*PREDICT, "--ckpt", "m", "-o", "m/predictions.csv").code == 0
    shutil.copy(place / "m" / "config.json", place / "config.json")
    adapcli.save(adapcli.load(place / "m"), place / "m.pt")
    assert adap(*PREDICT, "--ckpt", "m.pt", "-o", "config.json", "--overwrite").code == 0
