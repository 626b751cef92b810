"""From a name to a data set: `digits` (embedded) or `folder:PATH`.

Splits of a table: fit, tune, calibration and test, of disjoint sources (fit and tune share theirs in
`digits`); train is for training alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from adapcli.data.dense import is_dense
from adapcli.data.splitting import WAYS, Splitting
from adapcli.errors import UsageError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing

SPLITS = ("train", "fit", "tune", "calibration", "test")
# Samples of `digits` per split unless others are asked for; `limit` caps them. Its scenes are endless.
DIGITS_SIZES = {"train": 1_000_000, "fit": 12_000, "tune": 4_000, "calibration": 8_000, "test": 20_000}
FOLDER = "folder:"


@dataclass(frozen=True)
class Batch:
    """images (B, C, H, W) float32, normalised; sample_ids: B texts, all different.

    targets: (B,) int64 classes; for segmentation (B, H, W) int64 classes of the pixels, `dense.IGNORE` where
    none counts; for depth (B, H, W) float32 metres, 0 where unknown.
    """

    images: Tensor
    targets: Tensor
    sample_ids: list[str]


class Skipped(NamedTuple):
    """A file that is left out: its path in the folder, and why."""

    path: str
    reason: str


class Dataset(Protocol):
    """Samples in a fixed order; any range of them at any time, always the same.

    name: as given to `open_dataset`; fingerprint: changes with what the samples are, not with how they are
    preprocessed; skipped: files that cannot be read; class_names: of the pixels for segmentation, none for
    depth.
    """

    name: str
    split: str
    class_names: list[str]
    fingerprint: str
    skipped: list[Skipped]

    def __len__(self) -> int: ...

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop - 1, 0 <= start < stop <= len; IndexError otherwise."""
        ...


def open_dataset(
    name: str,
    *,
    split: str,
    preprocessing: Preprocessing,
    limit: int | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    split_by: str = "auto",
    task: Task = "classification",
    depth_scale: float | None = None,
) -> Dataset:
    """Open one split of `digits` or `folder:PATH`, at most `limit` samples of it.

    task: what a model is for decides what its targets are: masks for segmentation, maps of metres for depth,
    a class per picture for all others. depth_scale: values per metre of a folder's depth maps, in place of
    what the folder says, or 1000.
    seed: draws other scenes, or splits a folder otherwise. class_names: the model's classes; a folder's are
    then numbered as the model numbers them. split_by: how a folder's pictures are shared out, as
    `Splitting.parse` reads it; of `digits`, whose scenes are endless, F:T:C:E asks for as many of each.
    UsageError: unknown name or split, limit below 1, `digits` split in another way.
    FileError: a folder that is missing, empty, of one class, or without a readable image.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r}: not known", f"one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}: expected 1 or more")
    if name == "digits":
        from adapcli.data.digits import DigitsDataset

        size = _digits_sizes(split_by)[split]
        return DigitsDataset(split, preprocessing, size=min(size, limit or size), seed=seed, task=task)
    if is_dense(task):
        from adapcli.data.dense_folder import DenseDataset, folder_of

        return DenseDataset(
            folder_of(name, task),
            split,
            preprocessing,
            task=task,
            limit=limit,
            seed=seed,
            class_names=class_names,
            split_by=split_by,
            depth_scale=depth_scale,
        )
    from adapcli.data.catalogue import open_catalogue
    from adapcli.data.folder import PictureDataset

    return PictureDataset(
        open_catalogue(name, split_by),
        split,
        preprocessing,
        limit=limit,
        seed=seed,
        class_names=class_names,
        split_by=split_by,
    )


def _digits_sizes(split_by: str) -> dict[str, int]:
    splitting = Splitting.parse(split_by)
    if split_by == "auto":
        return DIGITS_SIZES
    if split_by in WAYS:
        raise UsageError(
            "digits has splits of its own", "how many scenes of each: --split 12000:4000:8000:20000"
        )
    return DIGITS_SIZES | splitting.shares


def check_range(start: int, stop: int, size: int) -> None:
    """IndexError unless 0 <= start < stop <= size."""
    if not 0 <= start < stop <= size:
        raise IndexError(f"samples {start}..{stop} of {size}")
