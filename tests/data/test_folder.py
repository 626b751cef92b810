"""Folders of pictures: classes, splits, what is skipped and what is refused."""

import os
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapcli.data import images
from adapcli.data.dataset import open_dataset
from adapcli.data.entries import PIECE, content_key, split_of
from adapcli.data.splitting import SHARES
from adapcli.errors import FileError, UsageError
from adapcli.model.preprocessing import Preprocessing

GREY = Preprocessing(8, 8, (0.0,), (1.0,))
TABLE = ("fit", "tune", "calibration", "test")


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(root, classes=("cat", "dog"), each=40, first=0):
    for number, label in enumerate(classes):
        for index in range(each):
            picture(root / label / f"{index:03d}.png", first + number * 1000 + index)
    return root


def opened(root, split="test", **options):
    return open_dataset(f"folder:{root}", split=split, preprocessing=GREY, **options)


def ids(dataset):
    return dataset.batch(0, len(dataset)).sample_ids


def test_by_ratio_every_picture_is_in_exactly_one_split(tmp_path):
    fill(tmp_path, each=60)
    names = [name for split in TABLE for name in ids(opened(tmp_path, split))]
    expected = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert sorted(names) == expected


def test_shares_are_about_those_of_digits():
    splits = [split_of(f"{index:x}", 0, SHARES) for index in range(20_000)]
    for split, share in SHARES.items():
        assert splits.count(split) / 20_000 == pytest.approx(share / sum(SHARES.values()), abs=0.015)
    val = {name: share for name, share in SHARES.items() if name != "test"}
    assert {split_of(str(index), 0, val) for index in range(200)} == set(TABLE) - {"test"}


def test_adding_renaming_and_copying_move_no_picture(tmp_path):
    fill(tmp_path / "a")
    before = {split: set(ids(opened(tmp_path / "a", split))) for split in TABLE}
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    fill(tmp_path / "b", classes=("emu",), first=77_777)
    copies = {name: f"{name[:-4]}-copy.png" for name in sorted(before["tune"])[:3]}
    for name, copy in copies.items():
        shutil.copy(tmp_path / "b" / name, tmp_path / "b" / copy)
    for split in TABLE:
        assert before[split] <= set(ids(opened(tmp_path / "b", split)))
    assert set(copies.values()) <= set(ids(opened(tmp_path / "b", "tune")))


def test_another_seed_splits_otherwise(tmp_path):
    fill(tmp_path)
    assert set(ids(opened(tmp_path))) != set(ids(opened(tmp_path, seed=1)))


def test_train_val_test_folders(tmp_path):
    for index, part in enumerate(("train", "val", "test")):
        fill(tmp_path / part, first=10_000 * index)
    assert {name.split("/")[0] for name in ids(opened(tmp_path, "train"))} == {"train"}
    assert len(opened(tmp_path, "test")) == 80
    shared = [set(ids(opened(tmp_path, split))) for split in ("fit", "tune", "calibration")]
    assert all(one.isdisjoint(other) for one, other in combinations(shared, 2))
    assert set().union(*shared) == {str(p.relative_to(tmp_path)) for p in (tmp_path / "val").rglob("*.png")}


@pytest.mark.parametrize("only", ["Validation", "test"])
def test_with_one_folder_beside_train_all_table_splits_come_from_it(tmp_path, only):
    fill(tmp_path / "train")
    fill(tmp_path / only, each=60, first=5000)
    names = [name for split in TABLE for name in ids(opened(tmp_path, split))]
    assert len(names) == len(set(names)) == 120
    assert {name.split("/")[0] for name in names} == {only}


def test_classes_named_like_splits_are_classes_when_others_are_there(tmp_path):
    fill(tmp_path, classes=("test", "val", "exam"), each=20)
    assert opened(tmp_path).class_names == ["exam", "test", "val"]


def test_other_shares(tmp_path):
    fill(tmp_path, each=100)
    sizes = {split: len(opened(tmp_path, split, split_by="1:1:1:7")) for split in TABLE}
    assert sum(sizes.values()) == 200
    assert sizes["test"] > 110 > 50 > max(sizes["fit"], sizes["tune"], sizes["calibration"])
    for split in TABLE:
        same = [ids(opened(tmp_path, split, split_by=by)) for by in ("auto", "ratio", "12:4:8:20", "3:1:2:5")]
        assert same[1:] == same[:-1]


def test_another_split_has_another_fingerprint(tmp_path):
    fill(tmp_path)
    found = {opened(tmp_path, split_by=by).fingerprint for by in ("auto", "ratio", "12:4:8:20", "1:1:1:1")}
    assert len(found) == 2


def test_by_folders_only_those_named_count(tmp_path):
    for index, part in enumerate(("train", "valid", "Test", "extra")):
        fill(tmp_path / part, first=10_000 * index)
    assert opened(tmp_path).class_names == ["Test", "extra", "train", "valid"]
    parts = {
        split: {n.split("/")[0] for n in ids(opened(tmp_path, split, split_by="folders"))} for split in TABLE
    }
    assert parts == {"fit": {"valid"}, "tune": {"valid"}, "calibration": {"valid"}, "test": {"Test"}}
    assert len(opened(tmp_path, "test", split_by="folders")) == 80
    assert opened(tmp_path, split_by="folders").class_names == ["cat", "dog"]


def test_by_ratio_classes_may_be_called_like_splits(tmp_path):
    fill(tmp_path, classes=("test", "val"))
    assert opened(tmp_path, split_by="ratio").class_names == ["test", "val"]


@pytest.mark.parametrize(
    ("folders", "by", "message", "hint"),
    [
        (["train/a", "test/a"], "folders", "no folder 'val' in it", "looked for val or valid or validation"),
        (["val/a", "val/b"], "folders", "no folder 'test' in it", "found val"),
        (["a", "b"], "folders", "no folder 'val' in it", "found a, b"),
        ([], "folders", "no folder 'val' in it", "found none"),
        (
            ["val/a", "Validation/a", "test/a"],
            "folders",
            "more than one folder of a kind: Validation, val",
            "",
        ),
        (
            ["val/a", "test/b"],
            "ratio",
            "its subfolders test, val hold folders themselves",
            "open one of them",
        ),
        (["val/a", "test/b"], "1:2:3:4", "they are parts, not classes", "split by folders"),
    ],
)
def test_folders_that_cannot_be_split_so_are_refused(tmp_path, folders, by, message, hint):
    for index, name in enumerate(folders):
        picture(tmp_path / name / "x.png", index)
    with pytest.raises(FileError, match=message) as caught:
        opened(tmp_path, split_by=by)
    assert hint in caught.value.hint
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "folder",
        "1:2:3",
        "1:2:3:4:5",
        "0:1:1:1",
        "-1:2:3:4",
        "1.5:1:1:1",
        "a:b:c:d",
        "1:1:1:9999999",
        "٣:1:1:1",
    ],
)
def test_another_way_to_split_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match="not known") as caught:
        opened(tmp_path, split_by=text)
    assert "12:4:8:20" in caught.value.hint


def test_images_and_targets(tmp_path):
    fill(tmp_path)
    data = opened(tmp_path)
    batch = data.batch(0, len(data))
    for image, target, name in zip(batch.images, batch.targets, batch.sample_ids, strict=True):
        assert data.class_names[target] == name.split("/")[0]
        square = Image.open(tmp_path / name).resize((9, 8), Image.Resampling.BILINEAR).crop((0, 0, 8, 8))
        np.testing.assert_allclose(image[0], np.asarray(square) / 255, atol=1e-6)


def test_classes_follow_the_model_by_name(tmp_path):
    fill(tmp_path)
    data = opened(tmp_path, class_names=["dog", "bird", "cat"])
    batch = data.batch(0, len(data))
    assert data.class_names == ["dog", "bird", "cat"]
    assert set(zip([n[:3] for n in batch.sample_ids], batch.targets.tolist(), strict=True)) == {
        ("cat", 2),
        ("dog", 0),
    }


def test_as_many_folders_as_classes_are_taken_in_order(tmp_path):
    """ImageNet's folders are called n01440764 ..., its classes tench ..."""
    fill(tmp_path)
    data = opened(tmp_path, class_names=["Katze", "Hund"])
    batch = data.batch(0, len(data))
    assert set(zip([n[:3] for n in batch.sample_ids], batch.targets.tolist(), strict=True)) == {
        ("cat", 0),
        ("dog", 1),
    }


def test_a_class_that_the_model_does_not_know_is_refused(tmp_path):
    fill(tmp_path)
    with pytest.raises(FileError, match=r"1 of 2 class folders are unknown to the model: 'dog'"):
        opened(tmp_path, class_names=["cat", "cow", "pig"])


def test_a_limit_takes_a_mixed_beginning(tmp_path):
    fill(tmp_path, each=100)
    short, whole = opened(tmp_path, limit=20), opened(tmp_path)
    assert ids(short) == ids(whole)[:20]
    assert set(short.batch(0, 20).targets.tolist()) == {0, 1}


def test_corrupt_pictures_are_skipped_and_counted(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "text.png").write_text("hello")
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "dog" / "folder.png").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("not announced as a picture: ignored")
    skipped = [s for split in TABLE for s in opened(tmp_path, split).skipped]
    assert {skip.path for skip in skipped} == {"cat/text.png", "cat/empty.jpg", "dog/folder.png"}
    assert {skip.reason for skip in skipped} == {
        "not a picture that Pillow can read", "empty file", "a folder, not a picture",
    }  # fmt: skip
    assert sum(len(opened(tmp_path, split)) for split in TABLE) == 80


def test_pictures_at_any_depth_and_links_to_class_folders(tmp_path):
    root = fill(tmp_path / "data", classes=("cat",))
    picture(root / "cat" / "deep" / "er" / "x.PNG", 999)
    fill(tmp_path / "elsewhere", classes=("dog",), first=5000)
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (root / ".cache").mkdir()
    (root / "__MACOSX").mkdir()
    names = [name for split in TABLE for name in ids(opened(root, split))]
    assert "cat/deep/er/x.PNG" in names
    assert len(names) == 81


def test_a_name_that_is_not_utf8_has_a_readable_id(tmp_path):
    fill(tmp_path)
    try:
        (tmp_path / "cat" / "000.png").rename(tmp_path / "cat" / os.fsdecode(b"\xff[red].png"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    names = [name for split in TABLE for name in ids(opened(tmp_path, split))]
    assert "cat/\\xff[red].png" in names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root.rmdir(), "no such folder"),
        (lambda root: (root.rmdir(), root.touch()), "a file, not a folder"),
        (lambda root: None, "no pictures found in class subfolders"),
        (lambda root: (root / "cat").mkdir(), "no pictures found in class subfolders"),
        (lambda root: picture(root / "a.png", 0), "1 lie directly in the folder, without a class"),
        (lambda root: fill(root, classes=("cat",)), r"one class only \('cat'\)"),
        (lambda root: fill(root, each=1), "none of 2 pictures falls into the split"),
    ],
)
def test_a_folder_without_the_data_is_refused(tmp_path, make, message):
    root = tmp_path / "data"
    root.mkdir()
    make(root)
    with pytest.raises(FileError, match=message) as caught:
        [opened(root, split) for split in TABLE]
    assert str(root) in caught.value.message
    assert caught.value.exit_code == 3


def test_a_folder_of_nothing_but_corrupt_pictures_is_refused(tmp_path):
    for index in range(40):
        for label in ("cat", "dog"):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{index}.png").write_text(f"no picture {index}")
    with pytest.raises(FileError, match=r"none of the \d+ pictures of split 'test' can be read") as caught:
        opened(tmp_path)
    assert "not a picture that Pillow can read" in caught.value.hint


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    fill(tmp_path, each=2)

    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(FileError, match="cannot be read: Permission denied"):
        opened(tmp_path)


def test_training_needs_a_train_folder(tmp_path):
    fill(tmp_path)
    with pytest.raises(FileError, match="no folder 'train' in it"):
        opened(tmp_path, "train")


def test_a_picture_that_vanishes_meanwhile_is_named(tmp_path):
    fill(tmp_path)
    data = opened(tmp_path)
    name = ids(data)[0]
    (tmp_path / name).unlink()
    with pytest.raises(FileError, match=rf"{name}: No such file"):
        data.batch(0, 1)


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path):
    fill(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    data = opened(tmp_path / "a")
    assert opened(tmp_path / "b").fingerprint == data.fingerprint
    assert opened(tmp_path / "a", limit=5).fingerprint != data.fingerprint
    assert opened(tmp_path / "a", "tune").fingerprint != data.fingerprint
    picture(tmp_path / "b" / ids(data)[0], 4242)
    assert opened(tmp_path / "b").fingerprint != data.fingerprint


def test_a_content_key_sees_size_beginning_middle_and_end(tmp_path):
    content = bytearray(10 * PIECE)
    path = tmp_path / "file"
    keys = set()
    for place in (0, 5 * PIECE, 10 * PIECE - 1):
        changed = content.copy()
        changed[place] = 1
        path.write_bytes(changed)
        keys.add(content_key(path))
    path.write_bytes(content[:-1])
    keys.add(content_key(path))
    path.write_bytes(content)
    keys.add(content_key(path))
    assert len(keys) == 5


def test_every_ending_is_one_that_pillow_opens():
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".gif", ".bmp"} <= images.suffixes()
    assert not {".eps", ".ps", ".txt", ".pdf"} & images.suffixes()
