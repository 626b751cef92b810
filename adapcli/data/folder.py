"""The pictures of one split of a source: a folder with one subfolder per class, arrays, shards, a table.

By folders (or other parts) train, val and test, the splits fit, tune and calibration are taken from val
(12 : 4 : 8), and test is test. By ratio all four are taken from everything (12 : 4 : 8 : 20, or other
shares). Unless told which, those folders count if nothing else is there; where only val or only test is
missing, all four are taken from the other. The split of a file depends on its content, the seed and the
shares alone: adding files moves no other, and copies of a file stay together. Pictures that are merely
similar (two shots of one thing) may still be parted.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from adapcli.data.catalogue import open_catalogue
from adapcli.data.dataset import Batch, Skipped, check_range
from adapcli.data.entries import Catalogue, Entry, scramble, split_of
from adapcli.data.images import UnreadableImageError, no_warnings
from adapcli.data.spec import DataSpec
from adapcli.data.transforms import picture_mode, preprocess
from adapcli.errors import FileError
from adapcli.limits import cpus
from adapcli.model.preprocessing import Preprocessing

T = TypeVar("T")


class PictureDataset:
    """The readable pictures of one split, in an order that mixes the classes.

    Every picture is decoded once when the data set is opened, so `len` is known and nothing fails halfway.
    Sample ids are the names of entries: of files, their paths relative to the folder.
    """

    def __init__(
        self,
        spec: DataSpec,
        split: str,
        preprocessing: Preprocessing,
        *,
        limit: int | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        catalogue = open_catalogue(spec)
        self.name, self.split, self.preprocessing = catalogue.name, split, preprocessing
        self.mode = picture_mode(len(preprocessing.mean))
        self.class_names, self._index = number(catalogue, class_names)
        keyed = choose(catalogue, split, spec.splitting.shares, spec.seed)[:limit]
        entries = [entry for _, entry in keyed]
        reasons = _each(lambda entry: entry.check(self.mode), entries)
        self.skipped = [Skipped(e.name, reason) for e, reason in zip(entries, reasons, strict=True) if reason]
        self._entries = [entry for entry, reason in zip(entries, reasons, strict=True) if not reason]
        if not self._entries:
            raise FileError(
                f"{catalogue.place}: none of the {len(entries)} pictures of split {split!r} can be read",
                "first: {}: {}".format(*self.skipped[0]),
            )
        self.fingerprint = f"{catalogue.kind}:{fingerprint(keyed, self.class_names)}"

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
            return preprocess(entry.read(self.mode), self.preprocessing)
        except UnreadableImageError as error:
            raise FileError(f"{self.name.partition(':')[2]}/{entry.name}: {error}") from error


def _each(function: Callable[[Entry], T], entries: list[Entry]) -> list[T]:
    """`function` of every entry, in order, in threads: decoding releases the interpreter's lock.

    A process that is one of several that read has one thread.
    """
    if get_worker_info() is not None:
        with no_warnings():
            return list(map(function, entries))
    with no_warnings(), ThreadPoolExecutor(cpus()) as pool:
        return list(pool.map(function, entries))


def number(catalogue: Catalogue, class_names: Sequence[str] | None) -> tuple[list[str], dict[str, int]]:
    """The class names, and the number of every label: by name where the model knows it, else in order.

    Numbers without names are those of the model's classes. FileError for classes it does not know.
    """
    names, index = _by_name(catalogue, class_names)
    if catalogue.numbered:
        return names, {str(place): index[label] for place, label in enumerate(catalogue.labels)}
    return names, index


def _by_name(catalogue: Catalogue, class_names: Sequence[str] | None) -> tuple[list[str], dict[str, int]]:
    labels, known = list(catalogue.labels), class_names
    plain = catalogue.numbered and labels == [str(place) for place in range(len(labels))]
    if known is not None and plain and len(labels) <= len(known):
        return list(known), {label: int(label) for label in labels}
    if known is None or (len(known) == len(labels) and not set(labels) <= set(known)):
        return list(known or labels), {label: index for index, label in enumerate(labels)}
    unknown = [label for label in labels if label not in known]
    if unknown:
        what = "class folders" if catalogue.kind == "folder" else "classes"
        raise FileError(
            f"{catalogue.place}: {len(unknown)} of {len(labels)} {what} are unknown to the model: "
            f"{unknown[0]!r}",
            f"it knows {len(known)} classes, such as {known[0]!r}",
        )
    return list(known), {label: list(known).index(label) for label in labels}


def choose(catalogue: Catalogue, split: str, shares: dict[str, int], seed: int) -> list[tuple[str, Entry]]:
    """(content key, entry) of a split, in the order of a hash, so that any beginning is a fair sample.

    Entries of a block stay together.
    """
    both = {"val", "test"} <= set(catalogue.parts)
    entries = catalogue.parts[part_for(catalogue, split)]
    keyed = [(_key(entry), entry) for entry in entries]
    if both:
        shares = {name: share for name, share in shares.items() if name != "test"}
    if split in shares:
        keyed = [pair for pair in keyed if split_of(pair[0], seed, shares) == split]
    if not keyed:
        raise FileError(
            f"{catalogue.place}: none of {len(entries)} pictures falls into the split {split!r}",
            "splits are drawn by ratio: more pictures are needed",
        )
    return sorted(keyed, key=lambda pair: (scramble(pair[1].block or pair[0], seed), pair[1].name))


def part_for(catalogue: Catalogue, split: str) -> str:
    """Which part a split is taken from. FileError for train, if there is none."""
    parts = catalogue.parts
    if split == "train":
        if "train" not in parts:
            what = "folder" if catalogue.kind == "folder" else "part"
            raise FileError(
                f"{catalogue.place}: no {what} 'train' in it", f"expected {what}s train, val and test"
            )
        return "train"
    if {"val", "test"} <= set(parts):
        return "test" if split == "test" else "val"
    return next(part for part in ("val", "test", "all") if part in parts)


def _key(entry: Entry) -> str:
    try:
        return entry.key()
    except OSError:
        # Counted among the unreadable ones of some split.
        return entry.name


def fingerprint(keyed: list[tuple[str, Entry]], class_names: list[str]) -> str:
    """Of names, classes and content keys: a copy of the folder elsewhere has the same."""
    lines = [f"{key} {entry.label}/{entry.name}" for key, entry in keyed]
    text = "\n".join([*class_names, *lines])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
