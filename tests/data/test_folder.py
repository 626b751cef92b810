"""Folders of pictures: classes, splits, what is skipped and what is refused."""

import os
import shutil
import unicodedata
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from adapcli.data import images
from adapcli.data.dataset import open_dataset
from adapcli.data.entries import PIECE, content_key, split_of
from adapcli.data.splitting import SHARES
from adapcli.errors import AdapError, FileError, UsageError
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


def test_a_class_may_be_called_like_a_part(tmp_path):
    """COCO has a class train."""
    fill(tmp_path, classes=("car", "plane", "train"), each=20)
    assert opened(tmp_path).class_names == ["car", "plane", "train"]


def test_two_folders_called_like_parts_beside_another_are_ambiguous(tmp_path):
    fill(tmp_path, classes=("test", "val", "exam"), each=20)
    with pytest.raises(FileError, match="'test', 'val' are parts, and 'exam' are not") as caught:
        opened(tmp_path)
    assert "--parts" in caught.value.hint
    assert opened(tmp_path, split_by="ratio").class_names == ["exam", "test", "val"]
    assert not opened(tmp_path, parts={"test": "test", "val": "val"}).labelled


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
    for index, part in enumerate(("train", "valid", "Test", "more")):
        fill(tmp_path / part, first=10_000 * index)
    with pytest.raises(FileError, match="'more' are not known as such"):
        opened(tmp_path)
    parts = {
        split: {n.split("/")[0] for n in ids(opened(tmp_path, split, split_by="folders"))} for split in TABLE
    }
    assert parts == {"fit": {"valid"}, "tune": {"valid"}, "calibration": {"valid"}, "test": {"Test"}}
    data = opened(tmp_path, "test", split_by="folders")
    assert len(data) == 80
    assert data.class_names == ["cat", "dog"]
    assert [(out.count, out.first) for out in data.findings.left_out] == [(80, "more")]


def test_by_ratio_classes_may_be_called_like_splits(tmp_path):
    fill(tmp_path, classes=("test", "val"))
    assert opened(tmp_path, split_by="ratio").class_names == ["test", "val"]


@pytest.mark.parametrize(
    ("folders", "message", "hint"),
    [
        (["train/a", "test/a"], "no part 'val' in it", "looked for val or valid or validation or dev"),
        (["val/a", "val/b"], "no part 'test' in it", "found 'val'"),
        (["a", "b"], "no part 'val' in it", "found 'a', 'b'"),
        ([], "no images found in it", ""),
    ],
)
def test_folders_that_cannot_be_split_so_are_refused(tmp_path, folders, message, hint):
    for index, name in enumerate(folders):
        picture(tmp_path / name / "x.png", index)
    with pytest.raises(FileError, match=message) as caught:
        opened(tmp_path, split_by="folders")
    assert hint in caught.value.hint
    assert str(tmp_path) in caught.value.message


def test_shares_of_folders_with_parts_are_of_everything_but_train(tmp_path):
    for index, part in enumerate(("train", "val", "test")):
        fill(tmp_path / part, first=10_000 * index)
    by_split = {split: ids(opened(tmp_path, split, split_by="1:1:8:1")) for split in TABLE}
    names = [name for found in by_split.values() for name in found]
    assert len(names) == len(set(names)) == 160
    assert {name.split("/")[0] for name in names} == {"val", "test"}
    assert len(by_split["calibration"]) > 90
    assert {n.split("/")[0] for n in ids(opened(tmp_path, "train", split_by="1:1:8:1"))} == {"train"}


@pytest.mark.parametrize("by", ["auto", "5:1:1:1"])
def test_a_share_to_train_on_is_in_no_other_split(tmp_path, by):
    fill(tmp_path, each=100)
    for index in range(10):
        shutil.copy(tmp_path / "cat" / f"{index:03d}.png", tmp_path / "cat" / f"copy{index}.png")
    options = {"split_by": by, "train_share": 0.4}
    keys = {split: opened(tmp_path, split, **options).keys for split in ("train", *TABLE)}
    assert sum(map(len, keys.values())) == 210
    assert all(set(keys[a]).isdisjoint(keys[b]) for a, b in combinations(keys, 2))
    assert 60 < len(keys["train"]) < 105
    assert set(opened(tmp_path, "train", seed=1, **options).keys) == set(keys["train"])


def test_with_a_part_train_no_share_is_taken(tmp_path):
    for index, part in enumerate(("train", "val", "test")):
        fill(tmp_path / part, first=10_000 * index)
    for split in ("train", *TABLE):
        assert ids(opened(tmp_path, split, train_share=0.5)) == ids(opened(tmp_path, split))


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


def targets(data):
    batch = data.batch(0, len(data))
    return set(zip((n.split("/")[0] for n in batch.sample_ids), batch.targets.tolist(), strict=True))


@pytest.mark.parametrize("names", [["0", "1"], ["LABEL_0", "LABEL_1"]])
def test_classes_without_names_are_numbered_by_order_and_that_is_reported(tmp_path, names):
    fill(tmp_path)
    data = opened(tmp_path, class_names=names)
    assert targets(data) == {("cat", 0), ("dog", 1)}
    assert "numbered by order" in [decision.text for decision in data.findings.decisions]


def test_numbers_sort_by_value(tmp_path):
    fill(tmp_path, classes=("10", "9", "2"))
    assert opened(tmp_path).class_names == ["2", "9", "10"]


def test_numbers_below_the_count_are_the_models(tmp_path):
    fill(tmp_path, classes=("2", "10"))
    assert targets(opened(tmp_path, class_names=[f"name {n}" for n in range(12)])) == {("2", 2), ("10", 10)}
    with pytest.raises(FileError, match="2 of 2 class folders are unknown to the model: '2', '10'"):
        opened(tmp_path, class_names=[f"name {n}" for n in range(10)])


def test_forms_of_unicode_are_the_same_name(tmp_path):
    """macOS writes decomposed names; here also beside the composed one."""
    composed, decomposed = (unicodedata.normalize(form, "\u00e9cole") for form in ("NFC", "NFD"))
    fill(tmp_path, classes=("apple", decomposed, "zoo"))
    fill(tmp_path, classes=(composed,), first=50_000)
    data = opened(tmp_path, class_names=["apple", "zoo", composed])
    assert targets(data) == {("apple", 0), ("zoo", 1), (composed, 2), (decomposed, 2)}
    assert opened(tmp_path, class_names=["apple", "zoo", decomposed]).class_names[2] == decomposed


@pytest.mark.parametrize(
    ("names", "told", "hint"),
    [
        (
            ["bird", "cat"],
            "1 of 2 .* unknown to the model: 'dog'; known are 'cat'",
            "--classes",
        ),
        (["Katze", "Hund"], "2 of 2 class folders are unknown to the model: 'cat', 'dog'", "'Katze', 'Hund'"),
        (["cat", "cow", "pig"], "1 of 2 class folders are unknown to the model: 'dog'", "--classes"),
        (["Cat", "dog"], "1 of 2 class folders", "is 'cat' for 'Cat' meant?"),
    ],
)
def test_a_class_that_the_model_does_not_know_is_refused(tmp_path, names, told, hint):
    fill(tmp_path)
    with pytest.raises(FileError, match=told) as caught:
        opened(tmp_path, class_names=names)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "said",
    [("cat", "dog"), {"cat": "Katze", "dog": "Hund"}, {"dog": 1, "cat": 0}, ("dog", "cat")],
)
def test_what_classes_says_counts(tmp_path, said):
    fill(tmp_path)
    turned = said == ("dog", "cat")
    data = opened(tmp_path, class_names=["Katze", "Hund"], classes=said)
    assert targets(data) == {("cat", int(turned)), ("dog", 1 - turned)}
    fresh = opened(tmp_path, classes=said).class_names
    assert (
        fresh
        == {0: ["cat", "dog"], 1: ["Hund", "Katze"], 2: ["cat", "dog"], 3: ["dog", "cat"]}[
            [("cat", "dog"), {"cat": "Katze", "dog": "Hund"}, {"dog": 1, "cat": 0}, ("dog", "cat")].index(
                said
            )
        ]
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("cat",), "1 labels, the model has 2"),
        (("cat", "cat"), "twice"),
        (("cat", "cow"), "does not name 'dog'"),
        ({"cat": 0, "dog": 2}, "class 2: the model has 2"),
        ({"cat": "Katze", "dog": "Kuh"}, "class 'Kuh': the model has 'Katze', 'Hund'"),
    ],
)
def test_classes_that_cannot_be_are_refused(tmp_path, said, told):
    fill(tmp_path)
    with pytest.raises(AdapError, match=told):
        opened(tmp_path, class_names=["Katze", "Hund"], classes=said)


@pytest.mark.parametrize("places", [["."], ["only"], ["train", "test"], [".", "only/deep"]])
def test_images_without_labels_are_opened(tmp_path, places):
    for number, place in enumerate(places):
        fill(tmp_path, classes=(place,), each=60, first=1000 * number)
    data = opened(tmp_path, class_names=["a", "b"])
    assert not data.labelled
    assert data.class_names == ["a", "b"]
    assert data.batch(0, len(data)).targets.tolist() == [-1] * len(data)
    assert len(data.keys) == len(data)


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
        (lambda root: None, "no images found in it"),
        (lambda root: (root / "cat").mkdir(), "no images found in it"),
        (lambda root: fill(root / "wrapper"), "one subfolder, 'wrapper', which holds 2 folders itself"),
        (lambda root: fill(root, each=1), "none of 2 images falls into the split"),
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
    with pytest.raises(FileError, match=r"none of the \d+ images of split 'test' can be read") as caught:
        opened(tmp_path)
    assert "not a picture that Pillow can read" in caught.value.hint


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    fill(tmp_path, each=2)

    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", forbidden)
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
