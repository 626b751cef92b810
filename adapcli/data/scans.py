"""The 1 797 handwritten digits of scikit-learn (8 x 8 pixels, 0..16), split once into pools of scans.

They are `sklearn.datasets.load_digits`, stored in assets/scans.npz (origin and licence: assets/scans.md).

Everything that is drawn for a pool uses scans of that pool alone: pools share no source, so that a guarantee
made on one holds on another.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

POOLS = ("train", "tune", "calibration", "test")
POOL_SHARES = (1000, 300, 200, 297)
SPLIT_SEED = 20251118
SIDE = 8
CLASSES = 10

# Training scans are also seen slightly turned, sheared and scaled. Copy 0 is the scan itself.
COPIES = 24
MAX_TURN = np.deg2rad(14.0)
MAX_SHEAR = 0.2
MAX_STRETCH = 0.12


@dataclass(frozen=True)
class Scans:
    """One pool.

    glyphs: (n, copies, 8, 8) float32 in [0, 1], ordered by class; indices: (n,) positions in `load_digits`;
    starts, counts: (10,) first scan and number of scans of every class.
    """

    glyphs: Floats
    indices: Ints
    starts: Ints
    counts: Ints


@lru_cache(maxsize=1)
def _digits() -> tuple[Floats, Ints]:
    with np.load(Path(__file__).parent.parent / "assets" / "scans.npz", allow_pickle=False) as stored:
        return (stored["images"] / 16.0).astype(np.float32), stored["target"].astype(np.int64)


@lru_cache(maxsize=1)
def split_indices() -> dict[str, Ints]:
    """Pool -> positions in `load_digits`, ordered by class. Stratified; the same on every machine."""
    target = _digits()[1]
    order = np.random.default_rng(SPLIT_SEED).random(len(target))
    cuts = np.cumsum(POOL_SHARES)[:-1] / sum(POOL_SHARES)
    parts: dict[str, list[Ints]] = {pool: [] for pool in POOLS}
    for label in range(CLASSES):
        members = np.flatnonzero(target == label)
        members = members[np.argsort(order[members])]
        pieces = np.split(members, np.round(cuts * len(members)).astype(int))
        for pool, piece in zip(POOLS, pieces, strict=True):
            parts[pool].append(piece)
    return {pool: np.concatenate(pieces) for pool, pieces in parts.items()}


@lru_cache(maxsize=8)
def load_scans(pool: str, *, augment: bool = False) -> Scans:
    """The scans of one pool; with `augment`, each with `COPIES` - 1 distorted copies."""
    images, target = _digits()
    indices = split_indices()[pool]
    glyphs = images[indices][:, None]
    if augment:
        glyphs = np.concatenate([glyphs, _distort(images[indices])], axis=1)
    counts = np.bincount(target[indices], minlength=CLASSES).astype(np.int64)
    return Scans(glyphs, indices, np.cumsum(counts) - counts, counts)


def _distort(images: Floats) -> Floats:
    """(n, 8, 8) -> (n, COPIES - 1, 8, 8): turned, sheared, stretched about the centre; cubic."""
    from scipy.ndimage import affine_transform  # type: ignore[import-untyped]

    rng = np.random.default_rng(SPLIT_SEED + 1)
    copies = np.empty((len(images), COPIES - 1, SIDE, SIDE), np.float32)
    centre = np.full(2, (SIDE - 1) / 2)
    for copy in range(COPIES - 1):
        matrix = _affine(rng.uniform(-1, 1, 4))
        shift = centre - matrix @ centre
        for index, image in enumerate(images):
            copies[index, copy] = affine_transform(image, matrix, shift, order=3, mode="constant")
    return copies.clip(0, 1)


def _affine(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    turn, shear = amounts[0] * MAX_TURN, amounts[1] * MAX_SHEAR
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix: NDArray[np.float64] = rotation @ np.array([[1.0, 0.0], [shear, 1.0]])
    return matrix * (1 + amounts[2:] * MAX_STRETCH)
