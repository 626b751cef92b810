"""npz sources: layouts, parts, labels, what is skipped or refused, and that nothing is unpickled."""

import io
import zipfile

import numpy as np
import pytest

from adapcli.data import npz
from adapcli.data.catalogue import open_catalogue
from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError

from .conftest import PLAIN, TABLE, grey, labels_of, whole


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def save(path, *, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return f"npz:{path}"


class TestNpz:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_compressed_or_not_it_is_the_same(self, tmp_path, compressed):
        images, labels = grey(90), np.arange(90) % 3
        name = save(tmp_path / "a.npz", compressed=compressed, images=images, labels=labels)
        batches, skipped = whole(name)
        assert not skipped
        rows = {
            int(sample.split("/")[1]): image
            for b in batches
            for sample, image in zip(b.sample_ids, b.images, strict=True)
        }
        assert sorted(rows) == list(range(90))
        for row, image in rows.items():
            np.testing.assert_array_equal(image[0].numpy(), images[row].astype(np.float32) / 255)

    def test_what_is_not_compressed_stays_on_disk(self, tmp_path):
        save(tmp_path / "a.npz", images=grey(9), labels=np.arange(9) % 3)
        save(tmp_path / "b.npz", compressed=True, images=grey(9), labels=np.arange(9) % 3)
        assert isinstance(npz.NpzArray(tmp_path / "a.npz", "images").values, np.memmap)
        assert not isinstance(npz.NpzArray(tmp_path / "b.npz", "images").values, np.memmap)

    @pytest.mark.parametrize(
        "images",
        [
            grey(90)[..., None],
            np.repeat(grey(90)[..., None], 3, 3),
            np.repeat(grey(90)[:, None], 3, 1),
            grey(90)[:, None],
            np.asfortranarray(grey(90)),
            grey(90).astype(np.uint16) * 257,
            grey(90) / 255,
            (grey(90) / 255).astype(np.float16),
        ],
        ids=["NHW1", "NHW3", "N3HW", "N1HW", "fortran", "16 bits", "float64", "float16"],
    )
    def test_layouts_and_types_of_the_same_pictures(self, tmp_path, images):
        labels = np.arange(90) % 3
        one = whole(save(tmp_path / "a.npz", images=images, labels=labels))[0]
        two = whole(save(tmp_path / "b.npz", images=grey(90), labels=labels))[0]
        rows = [
            {s: i for b in each for s, i in zip(b.sample_ids, b.images, strict=True)} for each in (one, two)
        ]
        assert rows[0].keys() == rows[1].keys()
        for sample, image in rows[0].items():
            np.testing.assert_allclose(image, rows[1][sample], atol=1e-3)

    @pytest.mark.parametrize("names", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
    def test_parts(self, tmp_path, names):
        arrays = {}
        for number, part in enumerate(("train", "val", "test")):
            arrays[names[0].format(part)] = grey(30, number)
            arrays[names[1].format(part)] = (np.arange(30) % 3)[:, None]
        name = save(tmp_path / "a.npz", **arrays)
        by_split = {s: open_dataset(name, split=s, preprocessing=PLAIN) for s in ("train", *TABLE)}
        parts = {s: {i.split("/")[0] for i in d.batch(0, len(d)).sample_ids} for s, d in by_split.items()}
        val, test = names[0].format("val"), names[0].format("test")
        shared = {split: {val} for split in TABLE[:3]}
        assert parts == {"train": {names[0].format("train")}, "test": {test}} | shared
        assert sum(len(by_split[s]) for s in TABLE[:3]) == 30
        assert {i.split("/")[0] for i in labels_of(name, split_by="ratio")} == {val, test}

    def test_numbers_without_names_are_those_of_the_model(self, tmp_path):
        name = save(tmp_path / "a.npz", images=grey(90), labels=np.arange(90) % 3)
        known = labels_of(name, class_names=[f"class {n}" for n in range(10)])
        assert known == labels_of(name)
        with pytest.raises(FileError, match=r"1 of 3 classes are unknown to the model: '2'"):
            labels_of(name, class_names=["0", "1"])

    def test_texts_are_names(self, tmp_path):
        labels = np.array(["b", "a", "c"])[np.arange(90) % 3]
        found = labels_of(save(tmp_path / "a.npz", images=grey(90), labels=labels))
        assert {k: "abc"[v] for k, v in found.items()} == {f"images/{r:08d}": labels[r] for r in range(90)}

    def test_rows_that_are_no_picture_are_skipped(self, tmp_path):
        images, labels = grey(90) / 255, np.arange(90) % 3
        images[4, 0, 0], images[5, 0, :2], labels[6] = np.nan, (0, 3), -1
        skipped = whole(save(tmp_path / "a.npz", images=images, labels=labels))[1]
        assert {s.path: s.reason for s in skipped} == {
            "images/00000004": "pixel values nan..nan lie outside 0..1",
            "images/00000005": "pixel values 0..3 lie outside 0..1",
            "images/00000006": "label -1",
        }

    def test_nothing_is_unpickled(self, tmp_path):
        mark = tmp_path / "mark"
        bombs = np.array([Bomb(mark)] * 4, dtype=object)
        np.savez(tmp_path / "a.npz", images=bombs, labels=np.arange(4))
        with pytest.raises(FileError, match="images: holds Python objects; nothing was run"):
            open_catalogue(f"npz:{tmp_path / 'a.npz'}")
        np.savez(tmp_path / "b.npz", images=grey(4), labels=bombs)
        with pytest.raises(FileError, match="labels: holds Python objects; nothing was run"):
            open_catalogue(f"npz:{tmp_path / 'b.npz'}")
        assert not mark.exists()

    @pytest.mark.parametrize("compressed", [False, True])
    def test_an_array_larger_than_its_bytes_is_refused(self, tmp_path, compressed):
        header = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 100, 100)}
        np.lib.format.write_array_header_1_0(header, about)
        kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
            archive.writestr("images.npy", header.getvalue() + bytes(1000))
            archive.writestr("labels.npy", header.getvalue())
        with pytest.raises(FileError, match="images: 1000 bytes for an array of 10000000000000000"):
            open_catalogue(f"npz:{tmp_path / 'a.npz'}")

    def test_what_would_not_fit_into_memory_is_refused(self, tmp_path, monkeypatch):
        name = save(tmp_path / "a.npz", compressed=True, images=grey(90), labels=np.arange(90) % 3)
        monkeypatch.setattr(npz, "memory_bytes", lambda: 2 * 90 * 36 - 2)
        with pytest.raises(
            FileError, match="3,240 bytes once unpacked, more than half of the memory"
        ) as caught:
            open_catalogue(name)
        assert "np.savez" in caught.value.hint

    @pytest.mark.parametrize(
        ("arrays", "told"),
        [
            ({"pictures": grey(4)}, "no arrays of images in it: pictures"),
            ({"images": grey(4), "labels": np.arange(5)}, "4 images and 5 labels"),
            ({"images": grey(4), "labels": np.arange(4) / 2}, r"labels: float64 of shape \(4,\)"),
            ({"images": grey(4), "labels": np.zeros((4, 2), int)}, r"labels: int64 of shape \(4, 2\)"),
            ({"images": grey(4)[0], "labels": np.arange(6)}, r"images: uint8 of shape \(6, 6\)"),
            ({"images": grey(4).astype(int), "labels": np.arange(4)}, "images: int64"),
            ({"images": grey(4), "labels": np.zeros(4, int)}, r"one class only \('0'\)"),
            ({"images": grey(4), "labels": np.array([0, 1, 2, 10**9])}, "class 1000000000: there are 10"),
            ({"images": grey(4), "labels": np.arange(4), "class_names": list("ab")}, "class 3: there are 2"),
            ({"images": grey(0), "labels": np.arange(0)}, "no class"),
        ],
    )  # fmt: skip
    def test_other_arrays_are_refused(self, tmp_path, arrays, told):
        with pytest.raises(FileError, match=told):
            open_catalogue(save(tmp_path / "a.npz", **arrays))

    @pytest.mark.parametrize("content", [b"", b"no archive", "cut", "garbage"])
    def test_a_damaged_archive_is_refused(self, tmp_path, content):
        path = tmp_path / "a.npz"
        save(path, compressed=True, images=grey(90), labels=np.arange(90) % 3)
        good = path.read_bytes()
        middle = good[:80] + b"\xff" * 500 + good[580:]
        path.write_bytes({"cut": good[:-300], "garbage": middle}.get(content, content))
        with pytest.raises(FileError, match=r"a\.npz"):
            whole(f"npz:{path}")

    @pytest.mark.parametrize("place", ["none.npz", ""])
    def test_a_place_without_archive_is_refused(self, tmp_path, place):
        with pytest.raises(FileError):
            open_catalogue(f"npz:{tmp_path / place}")
