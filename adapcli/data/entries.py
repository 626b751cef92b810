"""Pictures of a source before any is decoded: what each is called, its class, and how to read it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adapcli.data.findings import Findings
from adapcli.data.images import (
    DECODING,
    Decoding,
    Examined,
    UnreadableImageError,
    examine_image,
    is_grey,
    opened,
    read_image,
)

if TYPE_CHECKING:
    from PIL.Image import Image

PIECE = 16_384
LARGEST = 1 << 28
"""Bytes of one picture's file inside an archive or a table; more is refused before it is read."""


class Form(NamedTuple):
    """Width and height in pixels; mode: Pillow's, or the type of an array's values and its channels."""

    width: int
    height: int
    mode: str


def form_of(file: Path | bytes) -> Form:
    """Of an encoded image, without decoding it. Raises UnreadableImageError."""
    with opened(file) as image:
        return Form(*image.size, image.mode)


@dataclass(frozen=True)
class Entry(ABC):
    """One picture: its name, unique in its source, and the name of its class.

    Entries can be sent to another process; nothing stays open in them.
    """

    name: str
    label: str

    @property
    def block(self) -> str:
        """What is cheaply read together with others of the same block; empty if nothing is."""
        return ""

    @abstractmethod
    def read(self, mode: str, how: Decoding = DECODING) -> "Image":
        """The picture in mode "L" or "RGB", 8 bits, upright. Raises UnreadableImageError."""

    def examine(self, mode: str, how: Decoding = DECODING) -> Examined:
        """Whether `read` would fail, and why; transparency and further frames."""
        try:
            self.read(mode, how)
        except UnreadableImageError as error:
            return Examined(str(error))
        return Examined()

    def check(self, mode: str, how: Decoding = DECODING) -> str:
        """The reason why `read` would fail, or ""."""
        return self.examine(mode, how).reason

    @abstractmethod
    def form(self) -> Form:
        """Its size and kind of pixels, as stored. Raises UnreadableImageError."""

    @abstractmethod
    def is_grey(self) -> bool:
        """Whether it has no colour. Raises UnreadableImageError."""

    @abstractmethod
    def key(self) -> str:
        """A digest of what it is, which decides its split. OSError if it cannot be read."""

    @abstractmethod
    def mark(self) -> str:
        """What shows cheaply, without reading it, that it has become another one: a size, a checksum."""


class ContentEntry(Entry):
    """A picture whose encoded bytes lie somewhere in a larger file."""

    @abstractmethod
    def content(self) -> bytes:
        """The bytes of the picture. OSError or UnreadableImageError if they are not there."""

    def read(self, mode: str, how: Decoding = DECODING) -> "Image":
        """See Entry."""
        return read_image(self._bytes(), mode, how)

    def examine(self, mode: str, how: Decoding = DECODING) -> Examined:
        """See Entry."""
        try:
            return examine_image(self._bytes(), mode, how)
        except UnreadableImageError as error:
            return Examined(str(error))

    def form(self) -> Form:
        """See Entry."""
        return form_of(self._bytes())

    def is_grey(self) -> bool:
        """See Entry."""
        return is_grey(self._bytes())

    def _bytes(self) -> bytes:
        try:
            return self.content()
        except OSError as error:
            raise UnreadableImageError(error.strerror or str(error)) from error


@dataclass(frozen=True)
class BrokenEntry(Entry):
    """Stands for what cannot be read at all, so that it is skipped and counted like a damaged picture."""

    reason: str

    def read(self, mode: str, how: Decoding = DECODING) -> "Image":
        """See Entry."""
        raise UnreadableImageError(self.reason)

    def form(self) -> Form:
        """See Entry."""
        raise UnreadableImageError(self.reason)

    def is_grey(self) -> bool:
        """See Entry."""
        raise UnreadableImageError(self.reason)

    def key(self) -> str:
        """See Entry."""
        return self.name

    def mark(self) -> str:
        """See Entry."""
        return self.reason


@dataclass(frozen=True)
class Catalogue:
    """What a source holds. kind: its prefix in names of data; place: where it is, as text.

    parts: entries of "train", "val" and "test", as far as there are, or "all" for those that belong to no
    part; labels: names of all classes, in order; none: the images have no labels, and those of entries are
    "". numbered: labels of entries are numbers of classes, from 0, rather than names. findings: what was
    decided, and what was left out.
    """

    kind: str
    place: str
    parts: Mapping[str, Sequence[Entry]]
    labels: Sequence[str]
    numbered: bool = False
    findings: Findings = field(default_factory=Findings, compare=False)

    @property
    def name(self) -> str:
        """As it is opened by `open_dataset`."""
        return f"{self.kind}:{self.place}"

    @property
    def labelled(self) -> bool:
        """Whether the images have classes."""
        return bool(self.labels)


def content_key(path: Path, start: int = 0, size: int | None = None) -> str:
    """A digest of a file's size and content; of three pieces of 16 KB if it is larger.

    start, size: of a file within a file. Files that differ only elsewhere share a key, which puts them into
    one split: harmless.
    """
    with path.open("rb") as file:

        def read(place: int, count: int) -> bytes:
            file.seek(start + place)
            return file.read(count)

        return pieces_key(path.stat().st_size if size is None else size, read)


def pieces_key(size: int, read: Callable[[int, int], bytes]) -> str:
    """`content_key` of `size` bytes, of which `read` gives so many from a place on."""
    digest = hashlib.sha256(str(size).encode())
    starts = (0, PIECE, 2 * PIECE) if size <= 3 * PIECE else (0, (size - PIECE) // 2, size - PIECE)
    for start in starts:
        digest.update(read(start, max(0, min(PIECE, size - start))))
    return digest.hexdigest()[:32]


def split_of(key: str, seed: int, shares: Mapping[str, int]) -> str:
    """The split of a content key: the same file, or a copy of it, always falls into the same."""
    place = scramble(f"split {key}", seed) * sum(shares.values())
    ends = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(ends, place, side="right"))]


def scramble(key: str, seed: int) -> float:
    """A number in [0, 1) that looks random but depends on the key and the seed alone."""
    return int(hashlib.sha256(f"{seed} {key}".encode()).hexdigest()[:13], 16) / 16**13
