"""The pictures of one split of a folder of pairs, each with its mask or depth map; `pairs` tells layouts.

Splits are drawn as those of pictures with classes are (`folder`).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from adapcli.data.dataset import FOLDER, Batch, Skipped, check_range
from adapcli.data.dense import IGNORE
from adapcli.data.folder import fingerprint
from adapcli.data.images import UnreadableImageError, no_warnings
from adapcli.data.pairs import TARGETS, Coding, PairEntry, Pairs, list_pairs
from adapcli.data.parts import choose
from adapcli.data.spec import DataSpec
from adapcli.data.targets import check_target, read_depth, read_mask
from adapcli.data.transforms import picture_mode, preprocess, preprocess_target
from adapcli.errors import FileError, UsageError
from adapcli.limits import cpus
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing

T = TypeVar("T")


@dataclass(frozen=True)
class PairLoader:
    """Reads a picture with its target, as a model takes them. classes: of masks; None: any."""

    task: Task
    preprocessing: Preprocessing
    coding: Coding
    classes: int | None

    def __call__(self, entry: PairEntry) -> tuple[Tensor, Tensor]:
        """Image (C, size, size), target (size, size): int64 classes or float32 metres.

        UnreadableImageError for a picture or a target that cannot be read; FileError for a target that
        cannot be the picture's: another size, classes that there are not, no depth at all.
        """
        picture = entry.read(picture_mode(len(self.preprocessing.mean)))
        values = read_values(entry.target, self.task, self.coding)
        check_target(entry.target, values, picture.size, self.task, self.classes)
        target = torch.from_numpy(preprocess_target(values, self.preprocessing))
        image = preprocess(picture, self.preprocessing)
        return image, target.long() if self.task == "segmentation" else target

    def problem(self, entry: PairEntry) -> str:
        """Why a picture or its target cannot be read, or ""; FileError as above."""
        try:
            self(entry)
        except UnreadableImageError as error:
            return str(error)
        return ""


class DenseDataset:
    """The pairs of one split that can be read, in an order that depends on their content alone.

    Every pair is decoded once when the data set is opened, so `len` is known and nothing fails halfway.
    """

    def __init__(
        self,
        spec: DataSpec,
        split: str,
        preprocessing: Preprocessing,
        *,
        task: Task,
        limit: int | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        root = folder_of(spec.name, task)
        pairs = list_pairs(root, task, spec)
        self.labelled, self.findings = True, pairs.catalogue.findings
        self.name, self.split, self.preprocessing = pairs.catalogue.name, split, preprocessing
        keyed = choose(pairs.catalogue, split, spec)[:limit]
        paired = [(key, entry) for key, entry in keyed if isinstance(entry, PairEntry)]
        entries = [entry for _, entry in paired]
        self.class_names = names_of(pairs, task, class_names, entries)
        self.load = PairLoader(task, preprocessing, pairs.coding, len(self.class_names) or None)
        reasons = each(self.load.problem, entries)
        self.skipped = [Skipped(e.name, reason) for e, reason in zip(entries, reasons, strict=True) if reason]
        usable = [pair for pair, reason in zip(paired, reasons, strict=True) if not reason]
        self.keys, self._entries = [key for key, _ in usable], [entry for _, entry in usable]
        if not self._entries:
            raise FileError(
                f"{root}: none of the {len(entries)} pictures of split {split!r} can be read",
                "first: {}: {}".format(*self.skipped[0]),
            )
        self.fingerprint = f"folder:{task}:{fingerprint(keyed, [*self.class_names, repr(pairs.coding)])}"

    def __len__(self) -> int:
        return len(self._entries)

    def batch(self, start: int, stop: int) -> Batch:
        """Pairs start..stop - 1, preprocessed; FileError if one has become unreadable meanwhile."""
        check_range(start, stop, len(self))
        entries = self._entries[start:stop]
        images, targets = zip(*each(self._again, entries), strict=True)
        return Batch(torch.stack(images), torch.stack(targets), [entry.name for entry in entries])

    def _again(self, entry: PairEntry) -> tuple[Tensor, Tensor]:
        try:
            return self.load(entry)
        except UnreadableImageError as error:
            raise FileError(f"{entry.path}: {error}") from error


def folder_of(name: str, task: Task) -> Path:
    """The folder of `folder:PATH`. UsageError for other kinds of data, which have no maps."""
    if task not in TARGETS:
        raise UsageError(f"data {name!r}: has no {task}", "digits does")
    if not name.startswith(FOLDER):
        raise UsageError(f"data {name!r}: has no {TARGETS[task][0]}", f"digits, or {FOLDER}PATH")
    return Path(name.removeprefix(FOLDER)).expanduser()


def read_values(path: Path, task: Task, coding: Coding) -> np.ndarray:
    """Classes or metres (H, W) of a target's file. UnreadableImageError, naming the file."""
    try:
        if task == "depth":
            return read_depth(path, scale=coding.scale)
        return read_mask(path, first=coding.first, ignore=coding.ignore)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{path.name}: {error}") from error


def names_of(
    pairs: Pairs, task: Task, known: Sequence[str] | None, entries: Sequence[PairEntry]
) -> list[str]:
    """The classes' names: the model's, the folder's, or the numbers up to the largest in the entries' masks.

    FileError if model and folder have different numbers of them.
    """
    if task == "depth":
        return []
    told = pairs.class_names
    if known and told and len(known) != len(told):
        raise FileError(f"{pairs.catalogue.place}: {len(told)} classes, the model has {len(known)}")
    if known or told:
        return list(known or told or ())
    largest = max(each(lambda entry: _largest(entry, pairs.coding), list(entries)), default=0)
    return [str(number) for number in range(max(largest + 1, 2))]


def _largest(entry: PairEntry, coding: Coding) -> int:
    try:
        values = read_values(entry.target, "segmentation", coding)
    except UnreadableImageError:
        return 0
    return int(np.where(values == IGNORE, 0, values).max())


def each(function: Callable[[PairEntry], T], entries: Sequence[PairEntry]) -> list[T]:
    """`function` of every entry, in order, in threads: decoding releases the interpreter's lock."""
    with no_warnings(), ThreadPoolExecutor(cpus()) as pool:
        return list(pool.map(function, entries))
