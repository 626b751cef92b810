"""`npz:PATH`: arrays of pictures and labels in numpy's archive, nothing in it unpickled.

`images` (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W): bytes, 16-bit numbers, truth values, or floating
point in [0, 1]; `labels` (N,) or (N, 1): whole numbers from 0, or texts; they may be missing. With parts:
`train_images`, `train_labels`, `val_images` ...; also `x_train`, `y_train` .... `class_names`: what numbers
stand for, if given. Arrays of an archive that is not compressed (`np.savez`) stay on disk and are read as
needed.
"""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adapcli.data.classes import class_name, classes_of, known_labels
from adapcli.data.entries import BrokenEntry, Catalogue, Entry, Form, pieces_key
from adapcli.data.findings import Findings
from adapcli.data.images import DECODING, Decoding, converted, scaled
from adapcli.data.parts import divide
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError
from adapcli.limits import memory_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

NAMES = re.compile("(?:(.+)_)?(images|labels)|([xy])(?:_(.+))?")


class NpzArray:
    """One array of an archive: on disk if it is stored as it is, else read when first needed.

    Can be sent to another process, which opens it again. FileError for what is no plain array, is cut short,
    or does not fit into half of the memory.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        try:
            with zipfile.ZipFile(path) as archive:
                info = archive.getinfo(f"{name}.npy")
                with archive.open(info) as member:
                    self.shape, self.fortran, self.dtype = _header(member)
                    start = member.tell()
        except Exception as error:  # a damaged archive fails anywhere in zipfile, zlib or numpy
            raise FileError(f"{path}: {name}: cannot be read: {error}") from error
        self.checksum = f"{info.CRC:08x}"
        size = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if self.dtype.hasobject:
            raise FileError(f"{path}: {name}: holds Python objects; nothing was run", "save plain arrays")
        if size != info.file_size - start:
            raise FileError(f"{path}: {name}: {info.file_size - start} bytes for an array of {size}")
        self.start = _data_start(path, info) + start if info.compress_type == zipfile.ZIP_STORED else None
        if self.start is not None and self.start + size > path.stat().st_size:
            raise FileError(f"{path}: {name}: cut short")
        if self.start is None and size > memory_bytes() // 2:
            raise FileError(
                f"{path}: {name}: {size:,} bytes once unpacked, more than half of the memory",
                "np.savez, which does not compress, leaves it on disk",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return NpzArray, (self.path, self.name)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @cached_property
    def values(self) -> NDArray[Any]:
        """The array, read-only."""
        if self.start is not None and 0 not in self.shape:
            order = "F" if self.fortran else "C"
            return np.memmap(self.path, self.dtype, "r", self.start, self.shape, order)  # type: ignore[call-overload, no-any-return]
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return np.asarray(archive[self.name])
        except Exception as error:  # as above
            raise FileError(f"{self.path}: {self.name}: cannot be read: {error}") from error


@dataclass(frozen=True)
class RowEntry(Entry):
    """A row of an array of pictures."""

    array: NpzArray
    row: int

    def read(self, mode: str, how: Decoding = DECODING) -> "Image":
        """See Entry."""
        from PIL import Image

        return converted(Image.fromarray(_eight_bits(_channels_last(self._pixels()))), mode, how)[0]

    def form(self) -> Form:
        """See Entry."""
        pixels = _channels_last(self._pixels())
        height, width, *channels = pixels.shape
        return Form(width, height, f"{self.array.dtype} x {channels[0] if channels else 1}")

    def is_grey(self) -> bool:
        """See Entry."""
        return _channels_last(self._pixels()).ndim == 2

    def key(self) -> str:
        """See Entry."""
        content = self._pixels().tobytes()
        return pieces_key(len(content), lambda start, count: content[start : start + count])

    def mark(self) -> str:
        """See Entry: the checksum of the whole array."""
        return self.array.checksum

    def _pixels(self) -> NDArray[Any]:
        return np.ascontiguousarray(self.array.values[self.row])


def open_npz(place: str, spec: DataSpec) -> Catalogue:
    """The images of an archive. FileError for one without arrays of images."""
    path, findings = Path(place).expanduser(), Findings()
    arrays = _arrays(path, findings)
    labelled = any(labels for _, labels in arrays.values())
    named: dict[str, list[Entry]] = {}
    for part, (images, labels) in arrays.items():
        entries = _entries(path, images, labels)
        if labelled and not labels:
            findings.leave("images without labels", images, len(entries))
        else:
            named[part] = entries
    if labelled:
        classes, numbered = classes_of(str(path), known_labels(named), _class_names(path))
    else:
        classes, numbered = [], False
        findings.decide("classes", "no arrays of labels: images without labels")
    parts = divide(named, spec, str(path), findings, "arrays")
    return Catalogue("npz", str(path), parts, classes, numbered, findings)


def _arrays(path: Path, findings: Findings) -> dict[str, tuple[str, str]]:
    """Names of the arrays of images and of labels ("" if there is none), by what they are called besides."""
    found: dict[str, dict[str, str]] = {}
    for name in _members(path):
        match = NAMES.fullmatch(name.lower())
        if match:
            kind = "images" if match[2] == "images" or match[3] == "x" else "labels"
            both = found.setdefault(match[1] or match[4] or "", {})
            if kind in both:
                raise FileError(f"{path}: arrays {both[kind]} and {name}: which one is meant is not clear")
            both[kind] = name
        elif name != "class_names":
            findings.leave("arrays that are neither images nor labels", name)
    pairs = {
        part: (both["images"], both.get("labels", "")) for part, both in found.items() if "images" in both
    }
    if not pairs:
        raise FileError(
            f"{path}: no arrays of images in it: {', '.join(_members(path)[:5]) or 'empty'}",
            "expected images and labels, or train_images, train_labels, test_images, test_labels",
        )
    return pairs


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except IsADirectoryError as error:
        raise FileError(f"{path}: a folder, not an archive of numpy") from error
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "not an archive of numpy (.npz)"
        raise FileError(f"{path}: {reason}") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def _entries(path: Path, images: str, labels: str) -> list[Entry]:
    pictures = NpzArray(path, images)
    _check_pictures(pictures)
    targets = _labels(NpzArray(path, labels)) if labels else [""] * len(pictures)
    if len(pictures) != len(targets):
        raise FileError(f"{path}: {len(pictures)} {images} and {len(targets)} {labels}")
    return [
        BrokenEntry(f"{images}/{row:08d}", label, f"label {label}")
        if label.startswith("-")
        else RowEntry(f"{images}/{row:08d}", label, pictures, row)
        for row, label in enumerate(targets)
    ]


def _labels(array: NpzArray) -> Sequence[str]:
    if array.dtype.kind not in "iubU" or not (len(array.shape) == 1 or array.shape[1:] == (1,)):
        raise FileError(
            f"{array.path}: {array.name}: {array.dtype} of shape {array.shape}",
            "expected (N,) whole numbers from 0, or texts",
        )
    values = array.values.ravel()
    plain = values.astype(np.int64) if array.dtype.kind == "b" else values
    return [class_name(str(value)) for value in plain.tolist()]


def _check_pictures(array: NpzArray) -> None:
    kind = array.dtype.kind
    usable = kind in "bf" or (kind == "u" and array.dtype.itemsize <= 2)
    layout = len(array.shape) == 3 or (len(array.shape) == 4 and {array.shape[1], array.shape[3]} & {1, 3})
    if not usable or not layout or 0 in array.shape[1:]:
        raise FileError(
            f"{array.path}: {array.name}: {array.dtype} of shape {array.shape}",
            "expected (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W) of uint8, or of float in [0, 1]",
        )


def _class_names(path: Path) -> list[str]:
    if "class_names" not in _members(path):
        return []
    array = NpzArray(path, "class_names")
    if array.dtype.kind != "U" or len(array.shape) != 1:
        raise FileError(f"{path}: class_names: {array.dtype} of shape {array.shape}, expected (K,) texts")
    return [str(name) for name in array.values]


def _channels_last(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W), (H, W, C) or (C, H, W) -> (H, W) or (H, W, 3)."""
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        pixels = np.moveaxis(pixels, 0, 2)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    return scaled(pixels, 65_535 if pixels.dtype.kind == "u" else 1)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array, read without the array."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where in the file the bytes of a member begin: after its own header, which the archive's list lacks."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        sizes = file.read(4)
    return info.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
