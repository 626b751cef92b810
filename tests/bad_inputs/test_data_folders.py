"""Folders of pictures that are not what `adap sweep --data folder:PATH` looks for, or only in part."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapcli
from policies.table import OutcomeTable


@pytest.fixture
def pictures(tmp_path):
    """A folder `data` with 40 pictures of each of two classes."""
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(40):
            pixels = rng.integers(0, 256, (18, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index:02}.png")
    return tmp_path / "data"


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def sweep(request, adap, make_model, tmp_path):
    """`adap sweep` of a model of two classes over a folder."""
    model = make_model(num_classes=2, in_channels=request.param)
    adapcli.save(model, tmp_path / "two.pt")

    def run(*more, data="folder:data"):
        return adap("sweep", "--ckpt", "two.pt", "--data", data, "--batch", 32, *more)

    return run


def png_header(width, height):
    """A whole PNG that claims a size and holds next to nothing."""
    chunks = b""
    for name, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


def put_damaged(folder):
    """Everything that looks like a picture and is none."""
    whole = (folder / "00.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture")
    (folder / "zero.png").touch()
    (folder / "bomb.png").write_bytes(png_header(20_000, 20_000))
    (folder / "folder.png").mkdir()
    (folder / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "gone.png").symlink_to("nowhere")


def test_damaged_pictures_are_left_out_and_counted(sweep, pictures, tmp_path):
    put_damaged(pictures / "a")
    ended = sweep("--quiet")
    assert ended.code == 0, ended
    assert re.fullmatch(r"warning: [^\n]* cannot be read: 6, first a/[^\n]*\n", ended.err)
    table = OutcomeTable.load(tmp_path / "adap-run" / "table")
    assert (table.n_samples, table.meta["data"]["skipped"]) == (80, 6)


def test_nothing_but_damaged_pictures(sweep, pictures, tmp_path):
    for path in pictures.rglob("*.png"):
        path.write_text(f"no picture {path}")
    sweep().refused(3, "data: none of the", "can be read", "first: ")
    assert not (tmp_path / "adap-run" / "table").exists()


@pytest.mark.parametrize(
    ("make", "data", "told"),
    [
        (lambda root: None, "folder:none", "none: no such folder"),
        (lambda root: None, "folder:data/a/00.png", "00.png: a file, not a folder"),
        (lambda root: (root / "empty").mkdir(), "folder:data/empty", "no images found in it"),
        (lambda root: (root / "c").symlink_to(root / "a"), "folder:data", "2 classes, the data 3"),
    ],
)
@pytest.mark.parametrize("sweep", [1], indirect=True)
def test_folders_without_the_data(sweep, pictures, tmp_path, make, data, told):
    make(pictures)
    sweep(data=data).refused(3, told)
    assert not (tmp_path / "adap-run" / "table").exists()


@pytest.mark.parametrize(
    ("data", "code", "told"),
    [
        ("npz:none.npz", 3, "none.npz: No such file"),
        ("npz:text.npz", 3, "text.npz: not an archive of numpy"),
        ("webdataset:none", 3, "none: no such file or folder"),
        ("webdataset:text.tar", 3, "no image with a class in its shards"),
        ("hf:./none", 3, "none: no such file or folder"),
        ("hf:text.parquet", 3, "text.parquet: not a file of Parquet"),
        ("zip:none", 2, "data 'zip:none': not known"),
    ],
)
@pytest.mark.parametrize("sweep", [1], indirect=True)
def test_other_sources_without_the_data(sweep, tmp_path, data, code, told):
    for ending in ("npz", "tar", "parquet"):
        (tmp_path / f"text.{ending}").write_text("neither an archive nor a table " * 40)
    sweep(data=data).refused(code, told)
    assert not (tmp_path / "adap-run" / "table").exists()


@pytest.mark.parametrize("sweep", [1], indirect=True)
def test_a_folder_that_may_not_be_read(sweep, pictures, monkeypatch):
    """Simulated: to the superuser every folder is readable."""
    scandir = os.scandir

    def forbidden(path="."):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    sweep().refused(3, "data/b: cannot be read: Permission denied")


def animated():
    frames = [Image.new("RGB", (20, 18), (60 * i, 0, 0)) for i in range(3)]
    return {"x.gif": lambda p: frames[0].save(p, save_all=True, append_images=frames[1:])}


def unusual():
    """Pictures of every kind that people have, as functions that write them."""
    rng = np.random.default_rng(1)
    plain = Image.fromarray(rng.integers(0, 256, (18, 20, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    deep = Image.fromarray(rng.integers(0, 65_536, (18, 20)).astype(np.uint16))
    return {
        "cmyk.jpg": lambda path: plain.convert("CMYK").save(path),
        "la.png": lambda path: plain.convert("LA").save(path),
        "rgba.webp": lambda path: plain.convert("RGBA").save(path),
        "palette.png": lambda path: plain.convert("P").save(path, transparency=0),
        "one bit.png": lambda path: plain.convert("1").save(path),
        "deep.png": deep.save,
        "deep.tif": deep.save,
        "turned.jpg": lambda path: plain.save(path, exif=exif),
        "UPPER.JPG": lambda path: plain.save(path),
        **animated(),
    }


def test_unusual_pictures_work(sweep, pictures, tmp_path):
    for name, save in unusual().items():
        save(pictures / "b" / name)
    ended = sweep("--quiet")
    reported = "warning: some images have several frames or pages: the first one is read\n"
    assert (ended.code, ended.err) == (0, reported)
    found = set(OutcomeTable.load(tmp_path / "adap-run" / "table").samples["sample_id"])
    assert {f"b/{name}" for name in unusual()} <= found


@pytest.mark.parametrize(
    ("data", "split", "code", "told"),
    [
        ("digits", "ratio", 2, "digits has splits of its own"),
        ("folder:data", "halves", 2, "auto, folders, ratio, or the shares"),
        ("folder:data", "1:2:3", 2, "12:4:8:20"),
        ("folder:data", "0:1:1:1", 2, "12:4:8:20"),
        ("folder:data", "folders", 3, "found 'a', 'b'"),
    ],
)
@pytest.mark.parametrize("sweep", [1], indirect=True)
def test_ways_to_split_that_do_not_go(sweep, pictures, tmp_path, data, split, code, told):
    sweep("--split", split, data=data).refused(code, told)
    assert not (tmp_path / "adap-run" / "table").exists()


@pytest.mark.parametrize("sweep", [1], indirect=True)
def test_a_split_is_kept_with_the_table_and_resuming_refuses_another(sweep, pictures, tmp_path):
    assert sweep("--split", "1:1:1:1").code == 0
    meta = OutcomeTable.load(tmp_path / "adap-run" / "table").meta
    assert meta["data"]["split_by"] == "1:1:1:1"
    sweep("--split", "1:1:1:9", "--resume").refused(3, "made from something else: data.fit: ")
    assert sweep("--split", "2:2:2:2", "--resume").code == 0
