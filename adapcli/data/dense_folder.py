"""The pictures of one split of a folder of pairs, each with its mask or depth map; `pairs` tells layouts.

Splits are drawn as those of pictures with classes are (`folder`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.coding import refuse_foreground, refuse_many
from adapcli.data.dataset import FOLDER, Batch, Skipped, check_range
from adapcli.data.dense import IGNORE
from adapcli.data.folder import each, fingerprint, note_pixels, other_background
from adapcli.data.images import DECODING, Decoded, Decoding, Examined, UnreadableImageError, decode
from adapcli.data.pairs import TARGETS, PairEntry, Pairs, list_pairs
from adapcli.data.parts import choose
from adapcli.data.spec import DataSpec
from adapcli.data.targets import Coding, aligned, check_target, read_target
from adapcli.data.transforms import picture_mode, preprocess, preprocess_target
from adapcli.errors import FileError, UsageError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing


@dataclass(frozen=True)
class PairLoader:
    """Reads a picture with its target, as a model takes them. classes: of masks; None: any."""

    task: Task
    preprocessing: Preprocessing
    coding: Coding
    classes: int | None
    how: Decoding = DECODING

    def __call__(self, entry: PairEntry) -> tuple[Tensor, Tensor]:
        """Image (C, size, size), target (size, size): int64 classes or float32 metres.

        UnreadableImageError for a picture or a target that cannot be read; FileError for a target that
        cannot be the picture's: another size, classes that there are not, no depth at all.
        """
        picture, values = self._read(entry)
        target = torch.from_numpy(preprocess_target(values, self.preprocessing))
        image = preprocess(picture.image, self.preprocessing)
        return image, target.long() if self.task == "segmentation" else target

    def examine(self, entry: PairEntry) -> Examined:
        """Whether a picture or its target cannot be read, and why; FileError as above."""
        try:
            picture, _ = self._read(entry)
        except UnreadableImageError as error:
            return Examined(str(error))
        return Examined("", picture.transparent, picture.frames)

    def _read(self, entry: PairEntry) -> tuple[Decoded, NDArray[Any]]:
        mode = picture_mode(len(self.preprocessing.mean))
        picture = decode(entry.path, mode, self.how)
        stored = read_target(entry.target, self.task, self.coding, self.how.max_pixels)
        values = aligned(stored, picture, self.coding)
        check_target(entry.target, values, picture, self.task, self.classes)
        return picture, values


class DenseDataset:
    """The pairs of one split that can be read, in an order that depends on their content alone.

    Every pair is decoded once when the data set is opened, so `len` is known and nothing fails halfway.
    """

    def __init__(
        self,
        data: DataSpec | str | Path,
        split: str,
        preprocessing: Preprocessing,
        *,
        task: Task,
        limit: int | None = None,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """data: a spec, its name or the folder's path; options: fields of the spec."""
        spec = DataSpec.of(f"{FOLDER}{data}" if isinstance(data, Path) else data, **options)
        root = folder_of(spec.name, task)
        pairs = list_pairs(root, task, spec)
        self.labelled, self.findings = True, pairs.catalogue.findings
        self.name, self.split, self.preprocessing = pairs.catalogue.name, split, preprocessing
        keyed = choose(pairs.catalogue, split, spec)[:limit]
        paired = [(key, entry) for key, entry in keyed if isinstance(entry, PairEntry)]
        entries = [entry for _, entry in paired]
        self.class_names = names_of(pairs, task, class_names, entries)
        how = spec.decoding(preprocessing)
        self.load = PairLoader(task, preprocessing, pairs.coding, len(self.class_names) or None, how)
        examined = each(self.load.examine, entries)
        note_pixels(self.findings, examined, spec, preprocessing)
        reasons = [found.reason for found in examined]
        self.skipped = [Skipped(e.name, reason) for e, reason in zip(entries, reasons, strict=True) if reason]
        usable = [pair for pair, reason in zip(paired, reasons, strict=True) if not reason]
        self.keys, self._entries = [key for key, _ in usable], [entry for _, entry in usable]
        if not self._entries:
            raise FileError(
                f"{root}: none of the {len(entries)} pictures of split {split!r} can be read",
                "first: {}: {}".format(*self.skipped[0]),
            )
        named = [*self.class_names, pairs.coding.text, *other_background(spec, preprocessing)]
        self.fingerprint = f"folder:{task}:{fingerprint(keyed, named)}"

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
    seen = set[int]().union(*each(lambda entry: _values(entry, pairs.coding), list(entries)))
    root = Path(pairs.catalogue.place)
    if not pairs.explained:  # once more: more masks than those that decided
        refuse_foreground(root, seen)
    refuse_many(root, seen - {IGNORE})
    return [str(number) for number in range(max(max(seen - {IGNORE}, default=0) + 1, 2))]


def _values(entry: PairEntry, coding: Coding) -> set[int]:
    """Classes in a mask, and `IGNORE`; none if it cannot be read, for it is skipped then."""
    try:
        return set(np.unique(read_target(entry.target, "segmentation", coding).values).tolist())
    except UnreadableImageError:
        return set()
