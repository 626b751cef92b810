"""The same pictures in every kind of source."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from adapcli.data.dataset import open_dataset
from adapcli.model.preprocessing import Preprocessing

PLAIN = Preprocessing(6, 6, (0.0,), (1.0,))
TABLE = ("fit", "tune", "calibration", "test")
CLASSES = ("ape", "bee", "cow")
EACH = 60


def pixels(label: int, index: int) -> np.ndarray:
    return np.random.default_rng([label, index]).integers(0, 256, (9, 11, 3), np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, members):
    """A tar file of (name, content) pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="session")
def every_picture():
    """(class, number of the picture, pixels) of all of them, in an order that mixes the classes."""
    return [(label, index, pixels(label, index)) for index in range(EACH) for label in range(len(CLASSES))]


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory, every_picture):
    root = tmp_path_factory.mktemp("pictures")
    for label, index, array in every_picture:
        path = root / CLASSES[label] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(array))
    return root


@pytest.fixture(scope="session")
def picture_npz(tmp_path_factory, every_picture):
    path = tmp_path_factory.mktemp("npz") / "pictures.npz"
    labels = np.array([label for label, _, _ in every_picture])
    np.savez(
        path, images=np.stack([array for *_, array in every_picture]), labels=labels, class_names=CLASSES
    )
    return path


@pytest.fixture(scope="session")
def picture_shards(tmp_path_factory, every_picture):
    root = tmp_path_factory.mktemp("shards")
    members = [
        (f"{label}-{index:03d}.{ending}", content)
        for label, index, array in every_picture
        for ending, content in (("png", png(array)), ("cls", CLASSES[label].encode()))
    ]
    for shard in range(3):
        write_shard(root / f"pictures-{shard:05d}.tar", members[shard * 120 : (shard + 1) * 120])
    return root


def write_table(path, rows, *, names=CLASSES, **options):
    """A Parquet file as Hugging Face's libraries write it, of (class, pixels) pairs; needs pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "image": pa.array([{"bytes": png(array), "path": None} for _, array in rows], kind),
        "label": pa.array([label for label, _ in rows], pa.int64()),
    }
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(told), path, **options)
    return path


@pytest.fixture(scope="session")
def picture_tables(tmp_path_factory, every_picture):
    root = tmp_path_factory.mktemp("tables")
    rows = [(label, array) for label, _, array in every_picture]
    for file in range(2):
        write_table(root / f"part-{file}.parquet", rows[file * 90 : (file + 1) * 90], row_group_size=12)
    return root


@pytest.fixture(scope="session")
def picture_saved(tmp_path_factory, every_picture):
    """As `datasets` itself saves it, in two files."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    columns = {
        "image": [Image.fromarray(array) for *_, array in every_picture],
        "label": [label for label, _, _ in every_picture],
    }
    datasets.disable_progress_bars()
    root = tmp_path_factory.mktemp("saved")
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(root, num_shards=2)
    return root


def whole(name, **options):
    """All batches of a source's four splits, and everything skipped."""
    opened = [open_dataset(name, split=split, preprocessing=PLAIN, **options) for split in TABLE]
    return [data.batch(0, len(data)) for data in opened], [skip for data in opened for skip in data.skipped]


def labels_of(name, **options):
    batches, _ = whole(name, **options)
    return {k: int(v) for b in batches for k, v in zip(b.sample_ids, b.targets, strict=True)}


def grey(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 6), np.uint8)
