"""The same pictures in every kind of source."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

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
