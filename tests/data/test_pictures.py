"""Loose pictures: found in order, read a few ahead, never failing as a whole."""

import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapcli.data import pictures
from adapcli.data.images import read_image
from adapcli.data.pictures import find_pictures, read_pictures
from adapcli.data.transforms import preprocess
from adapcli.errors import FileError, UsageError
from adapcli.model.preprocessing import Preprocessing

GREY = Preprocessing(16, 16, (0.2,), (0.4,))


def save(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24), np.uint8)).save(path)
    return str(path)


@pytest.fixture
def tree(tmp_path):
    for name in ("b.png", "a.jpg", "sub/z.png", "sub/deep/y.PNG", ".hidden/x.png", "__MACOSX/._b.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_is_all_pictures_below_it_by_name(tree):
    found = [str(Path(path).relative_to(tree)) for path in find_pictures([str(tree)])]
    assert found == ["a.jpg", "b.png", "sub/z.png", "sub/deep/y.PNG"]


def test_places_keep_their_order_and_files_need_no_ending(tree):
    note, sub = str(tree / "notes.txt"), str(tree / "sub")
    assert find_pictures([note, sub, note]) == [note, f"{sub}/z.png", f"{sub}/deep/y.PNG", note]


def test_a_relative_folder_gives_relative_paths(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find_pictures(["sub"]) == ["sub/z.png", "sub/deep/y.PNG"]
    monkeypatch.chdir(tree / ".hidden")
    assert find_pictures(["."]) == ["x.png"]  # asked for by its name, no part below it is hidden


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(FileError, match="no pictures found in it"):
        find_pictures([str(tmp_path)])


@pytest.mark.parametrize("place", ["x" * 5000, "a\0b", ""])
def test_impossible_names_are_pictures_that_cannot_be_read(place):
    (picture,) = read_pictures(find_pictures([place]), GREY)
    assert (picture.image, bool(picture.reason)) == (None, True)


def test_pictures_come_in_order_as_read_one_by_one(tmp_path):
    paths = [save(tmp_path / f"{i}.png", seed=i) for i in range(20)]
    paths.insert(7, str(tmp_path / "absent.png"))
    found = list(read_pictures(paths, GREY, ahead=3))
    assert [picture.path for picture in found] == paths
    assert found[7].reason == "No such file or directory"
    for picture in found[:7] + found[8:]:
        torch.testing.assert_close(picture.image, preprocess(read_image(Path(picture.path), "L"), GREY))


def test_no_more_is_read_ahead_than_said(tmp_path, monkeypatch):
    asked = []
    paths = (asked.append(i) or save(tmp_path / f"{i}.png") for i in range(50))
    found = read_pictures(paths, GREY, ahead=4)
    next(found)
    assert len(asked) == 5
    next(found)
    assert len(asked) == 6
    found.close()
    assert len(asked) == 6


def test_threads_end_and_warnings_come_back_when_a_reader_stops_early(tmp_path):
    paths = [save(tmp_path / f"{i}.png") for i in range(8)]
    before, filters = threading.active_count(), list(warnings.filters)
    found = read_pictures(paths, GREY)
    next(found)
    found.close()
    assert (threading.active_count(), warnings.filters) == (before, filters)


def test_damaged_pictures_do_not_stop_the_others(tmp_path):
    good = save(tmp_path / "good.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(good).read_bytes()[:100])
    os.mkfifo(tmp_path / "pipe.png")
    names = [good, str(cut), str(tmp_path / "pipe.png"), str(tmp_path), good]
    assert [bool(picture.reason) for picture in read_pictures(names, GREY)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_model_of_other_channels_is_refused():
    with pytest.raises(UsageError, match="1 or 3 channels"):
        next(read_pictures(["a.png"], Preprocessing(16, 16, (0.0,) * 4, (1.0,) * 4)))


def test_hidden_is_judged_below_the_folder_alone():
    assert pictures._is_hidden(Path("a/.b/c.png"))
    assert not pictures._is_hidden(Path("a/b.c/d.png"))
