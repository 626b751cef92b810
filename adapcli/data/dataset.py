"""From a name to a data set: `digits` (embedded) or `folder:PATH`.

Splits of a table: fit, tune, calibration and test, of disjoint sources (fit and tune share theirs in
`digits`); train is for training alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from adapcli.data.dense import is_dense
from adapcli.data.findings import Findings
from adapcli.data.spec import DataSpec
from adapcli.data.splitting import WAYS
from adapcli.errors import UsageError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing

SPLITS = ("train", "fit", "tune", "calibration", "test")
# Samples of `digits` per split unless others are asked for; `limit` caps them. Its scenes are endless.
DIGITS_SIZES = {"train": 1_000_000, "fit": 12_000, "tune": 4_000, "calibration": 8_000, "test": 20_000}
FOLDER = "folder:"
UNLABELLED = -1
"""Target of an image without a label."""


@dataclass(frozen=True)
class Batch:
    """images (B, C, H, W) float32, normalised; sample_ids: B texts, all different.

    targets: (B,) int64 classes, `UNLABELLED` where the data set has no labels; for segmentation (B, H, W)
    int64 classes of the pixels, `dense.IGNORE` where none counts; for depth (B, H, W) float32 metres, 0 where
    unknown.
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
    depth; labelled: whether targets are known; findings: what was decided about the source, and what of it
    was left out; keys: a digest of every sample, in order: those of one key are the same, wherever they lie.
    """

    name: str
    split: str
    class_names: list[str]
    fingerprint: str
    skipped: list[Skipped]
    labelled: bool
    findings: Findings

    @property
    def keys(self) -> Sequence[str]:
        """See above; len texts."""
        ...

    def __len__(self) -> int: ...

    def batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop - 1, 0 <= start < stop <= len; IndexError otherwise."""
        ...


def open_dataset(
    data: str | DataSpec,
    *,
    split: str,
    preprocessing: Preprocessing,
    limit: int | None = None,
    class_names: Sequence[str] | None = None,
    task: Task = "classification",
    **options: Any,
) -> Dataset:
    """Open one split of data, at most `limit` samples of it.

    data: their name, or a `DataSpec`; options: fields of the spec. task: what a model is for decides what its
    targets are: masks for segmentation, maps of metres for depth, a class per image for all others.
    class_names: the model's classes; those of the data are then numbered as the model numbers them.
    UsageError: unknown name, option or split, limit below 1, `digits` split in another way.
    FileError: a folder that is missing, empty, or without a readable image; parts or classes that are not
    clear.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r}: not known", f"one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}: expected 1 or more")
    spec = DataSpec.of(data, **options)
    if spec.name == "digits":
        from adapcli.data.digits import DigitsDataset

        size = _digits_sizes(spec)[split]
        return DigitsDataset(split, preprocessing, size=min(size, limit or size), seed=spec.seed, task=task)
    if is_dense(task):
        from adapcli.data.dense_folder import DenseDataset

        return DenseDataset(spec, split, preprocessing, task=task, limit=limit, class_names=class_names)
    from adapcli.data.folder import PictureDataset

    return PictureDataset(spec, split, preprocessing, limit=limit, class_names=class_names)


def _digits_sizes(spec: DataSpec) -> dict[str, int]:
    if spec.split_by == "auto":
        return DIGITS_SIZES
    if spec.split_by in WAYS:
        raise UsageError(
            "digits has splits of its own", "how many scenes of each: --split 12000:4000:8000:20000"
        )
    return DIGITS_SIZES | spec.splitting.shares


def check_range(start: int, stop: int, size: int) -> None:
    """IndexError unless 0 <= start < stop <= size."""
    if not 0 <= start < stop <= size:
        raise IndexError(f"samples {start}..{stop} of {size}")
