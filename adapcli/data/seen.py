"""Which images a model was trained on: content keys beside its checkpoint, so that a later sweep can tell.

`keys.npy`: sorted uint64 hashes of content keys, 8 bytes an image. Of 50 000 training images against 50 000
others, a hash collides by chance with a probability of 1e-10.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import FileError
from policies.files import atomic_file

KEYS = "keys.npy"

Hashes = NDArray[np.uint64]


def hashes(keys: Iterable[str]) -> Hashes:
    """A hash for each content key, in order."""
    digests = b"".join(hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest()[:8] for key in keys)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def save_keys(folder: Path, keys: Iterable[str]) -> None:
    """Record the content keys of training images beside the checkpoint that will be in `folder`."""
    with atomic_file(folder / KEYS) as file:
        np.save(file, np.unique(hashes(keys)))


def trained_on(checkpoint: str) -> Hashes:
    """Hashes of the images that a checkpoint was trained on; none where its folder does not record them.

    FileError for a record that is damaged.
    """
    place = Path(checkpoint)
    path = (place if place.is_dir() else place.parent) / KEYS
    if "://" in checkpoint or not path.is_file():
        return np.empty(0, np.uint64)
    try:
        found: Hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FileError(f"{path}: cannot be read: {error}", "remove it to go on without") from error
    if found.dtype != np.uint64 or found.ndim != 1:
        raise FileError(f"{path}: not a record of training images", "remove it to go on without")
    return found
