"""A folder of pictures, one subfolder per class.

By folders train, val and test, the splits fit, tune and calibration are taken from val (12 : 4 : 8), and test
is test. By ratio all four are taken from everything (12 : 4 : 8 : 20, or other shares). Unless told which,
those folders count if nothing else is there; where only val or only test is missing, all four are taken from
the other. The split of a file depends on its content, the seed and the shares alone: adding files moves no
other, and copies of a file stay together. Pictures that are merely similar (two shots of one thing) may still
be parted.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from adapcli.data.dataset import FOLDER, Batch, Skipped, check_range
from adapcli.data.images import UnreadableImageError, check_image, no_warnings, read_image
from adapcli.data.listing import Entry, content_key, list_folder, scramble, split_of
from adapcli.data.splitting import Splitting
from adapcli.data.transforms import picture_mode, preprocess
from adapcli.errors import FileError
from adapcli.model.preprocessing import Preprocessing

T = TypeVar("T")


class FolderDataset:
    """The readable pictures of one split, in an order that mixes the classes.

    Every picture is decoded once when the data set is opened, so `len` is known and nothing fails halfway.
    Sample ids are paths relative to the folder.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        preprocessing: Preprocessing,
        *,
        limit: int | None = None,
        seed: int = 0,
        class_names: Sequence[str] | None = None,
        split_by: str = "auto",
    ) -> None:
        splitting = Splitting.parse(split_by)
        self.name, self.split, self.preprocessing = f"{FOLDER}{root}", split, preprocessing
        self.mode = picture_mode(len(preprocessing.mean))
        parts, labels = list_folder(root, splitting.by)
        self.class_names, self._index = _number(root, labels, class_names)
        keyed = _choose(root, parts, split, splitting.shares, seed)[:limit]
        entries = [entry for _, entry in keyed]
        reasons = _each(lambda entry: check_image(entry.path, self.mode), entries)
        self.skipped = [Skipped(e.name, reason) for e, reason in zip(entries, reasons, strict=True) if reason]
        self._entries = [entry for entry, reason in zip(entries, reasons, strict=True) if not reason]
        if not self._entries:
            raise FileError(
                f"{root}: none of the {len(entries)} pictures of split {split!r} can be read",
                "first: {}: {}".format(*self.skipped[0]),
            )
        self.fingerprint = _fingerprint(keyed, self.class_names)

    def __len__(self) -> int:
        return len(self._entries)

    def batch(self, start: int, stop: int) -> Batch:
        """Pictures start..stop - 1, preprocessed; FileError if one has become unreadable meanwhile."""
        check_range(start, stop, len(self))
        entries = self._entries[start:stop]
        images = torch.stack(_each(self._load, entries))
        targets = torch.tensor([self._index[entry.label] for entry in entries])
        return Batch(images, targets, [entry.name for entry in entries])

    def _load(self, entry: Entry) -> Tensor:
        try:
            return preprocess(read_image(entry.path, self.mode), self.preprocessing)
        except UnreadableImageError as error:
            raise FileError(f"{entry.path}: {error}") from error


def _each(function: Callable[[Entry], T], entries: list[Entry]) -> list[T]:
    """`function` of every entry, in order, in threads: decoding releases the interpreter's lock."""
    with no_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, entries))


def _number(
    root: Path, labels: list[str], class_names: Sequence[str] | None
) -> tuple[list[str], dict[str, int]]:
    """The class names, and the number of every folder: by name where the model knows it, else in order."""
    if class_names is None or (len(class_names) == len(labels) and not set(labels) <= set(class_names)):
        return list(class_names or labels), {label: index for index, label in enumerate(labels)}
    unknown = [label for label in labels if label not in class_names]
    if unknown:
        raise FileError(
            f"{root}: {len(unknown)} of {len(labels)} class folders are unknown to the model: {unknown[0]!r}",
            f"it knows {len(class_names)} classes, such as {class_names[0]!r}",
        )
    return list(class_names), {label: list(class_names).index(label) for label in labels}


def _choose(
    root: Path, parts: dict[str, list[Entry]], split: str, shares: dict[str, int], seed: int
) -> list[tuple[str, Entry]]:
    """(content key, entry) of a split, in the order of a hash, so that any beginning is a fair sample."""
    both = {"val", "test"} <= set(parts)
    part = _part(root, parts, split, both=both)
    keyed = [(_key(entry), entry) for entry in parts[part]]
    if both:
        shares = {name: share for name, share in shares.items() if name != "test"}
    if split in shares:
        keyed = [pair for pair in keyed if split_of(pair[0], seed, shares) == split]
    if not keyed:
        raise FileError(
            f"{root}: none of {len(parts[part])} pictures falls into the split {split!r}",
            "splits are drawn by ratio: more pictures are needed",
        )
    return sorted(keyed, key=lambda pair: (scramble(pair[0], seed), pair[1].name))


def _part(root: Path, parts: dict[str, list[Entry]], split: str, *, both: bool) -> str:
    """Which part of the folder a split is taken from; both: it has val and test."""
    if split == "train":
        if "train" not in parts:
            raise FileError(f"{root}: no folder 'train' in it", "expected folders train, val and test")
        return "train"
    if both:
        return "test" if split == "test" else "val"
    return next(part for part in ("val", "test", "all") if part in parts)


def _key(entry: Entry) -> str:
    try:
        return content_key(entry.path)
    except OSError:
        # Counted among the unreadable ones of some split.
        return entry.name


def _fingerprint(keyed: list[tuple[str, Entry]], class_names: list[str]) -> str:
    """Of names, classes and content keys: a copy of the folder elsewhere has the same."""
    lines = [f"{key} {entry.label}/{entry.name}" for key, entry in keyed]
    text = "\n".join([*class_names, *lines])
    return "folder:" + hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
