"""The images of one split of a source: a folder, arrays, shards or a table. `parts` draws the splits."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from adapcli.data.catalogue import open_catalogue
from adapcli.data.classes import number
from adapcli.data.dataset import UNLABELLED, Batch, Skipped, check_range
from adapcli.data.entries import Entry
from adapcli.data.findings import Findings
from adapcli.data.images import Examined, UnreadableImageError, no_warnings
from adapcli.data.parts import choose
from adapcli.data.spec import DataSpec
from adapcli.data.transforms import picture_mode, preprocess
from adapcli.errors import FileError
from adapcli.limits import cpus
from adapcli.model.preprocessing import Preprocessing

T = TypeVar("T")
E = TypeVar("E", bound=Entry)


class PictureDataset:
    """The readable images of one split, in an order that mixes the classes.

    Every image is decoded once when the data set is opened, so `len` is known and nothing fails halfway.
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
        self.labelled, self.findings = catalogue.labelled, catalogue.findings
        self.name, self.split, self.preprocessing = catalogue.name, split, preprocessing
        self.mode = picture_mode(len(preprocessing.mean))
        self.class_names, self._index = number(catalogue, class_names, spec.classes)
        keyed = choose(catalogue, split, spec)[:limit]
        entries, self.how = [entry for _, entry in keyed], spec.decoding(preprocessing)
        examined = each(lambda entry: entry.examine(self.mode, self.how), entries)
        note_pixels(self.findings, examined, spec, preprocessing)
        reasons = [found.reason for found in examined]
        self.skipped = [Skipped(e.name, reason) for e, reason in zip(entries, reasons, strict=True) if reason]
        usable = [pair for pair, reason in zip(keyed, reasons, strict=True) if not reason]
        self.keys, self._entries = [key for key, _ in usable], [entry for _, entry in usable]
        if not self._entries:
            raise FileError(
                f"{catalogue.place}: none of the {len(entries)} images of split {split!r} can be read",
                "first: {}: {}".format(*self.skipped[0]),
            )
        named = [*self.class_names, *other_background(spec, preprocessing)]
        self.fingerprint = f"{catalogue.kind}:{fingerprint(keyed, named)}"

    def __len__(self) -> int:
        return len(self._entries)

    def batch(self, start: int, stop: int) -> Batch:
        """Pictures start..stop - 1, preprocessed; FileError if one has become unreadable meanwhile."""
        check_range(start, stop, len(self))
        entries = self._entries[start:stop]
        images = torch.stack(each(self._load, entries))
        targets = torch.tensor([self._index[e.label] if self.labelled else UNLABELLED for e in entries])
        return Batch(images, targets, [entry.name for entry in entries])

    def _load(self, entry: Entry) -> Tensor:
        try:
            return preprocess(entry.read(self.mode, self.how), self.preprocessing)
        except UnreadableImageError as error:
            raise FileError(f"{self.name.partition(':')[2]}/{entry.name}: {error}") from error


def note_pixels(
    findings: Findings,
    examined: Iterable[Examined],
    spec: DataSpec,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Record that some of the images are transparent, or have more frames than the one that is read."""
    examined = list(examined)
    if any(found.transparent for found in examined):
        background = spec.background or (preprocessing.background if preprocessing else "white")
        findings.warn(
            "pixels", f"some images have transparent pixels: composited on {background} (--background)"
        )
    if any(found.frames for found in examined):
        findings.warn("pixels", "some images have several frames or pages: the first one is read")


def other_background(spec: DataSpec, preprocessing: Preprocessing) -> list[str]:
    """For fingerprints: the background, where it is not the model's; other answers must not be mixed."""
    return [spec.background] if spec.background not in (None, preprocessing.background) else []


def each(function: Callable[[E], T], entries: Sequence[E]) -> list[T]:
    """`function` of every entry, in order, in threads: decoding releases the interpreter's lock.

    A process that is one of several that read has one thread.
    """
    if get_worker_info() is not None:
        with no_warnings():
            return list(map(function, entries))
    with no_warnings(), ThreadPoolExecutor(cpus()) as pool:
        return list(pool.map(function, entries))


def fingerprint(keyed: list[tuple[str, Entry]], class_names: list[str]) -> str:
    """Of names, classes and content keys: a copy of the folder elsewhere has the same."""
    lines = [f"{key} {entry.label}/{entry.name}" for key, entry in keyed]
    text = "\n".join([*class_names, *lines])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
