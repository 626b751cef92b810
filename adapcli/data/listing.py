"""Which pictures a folder holds, of which class, and which split each belongs to."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapcli.data.images import suffixes
from adapcli.errors import FileError

# Names of split folders, and which splits are taken from each.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Relative sizes of the splits that share one folder, as in `digits`.
SHARES = {"fit": 12, "tune": 4, "calibration": 8, "test": 20}
PIECE = 16_384


@dataclass(frozen=True)
class Entry:
    """One picture file: where it lies, its path in the data folder as text, and the name of its class."""

    path: Path
    name: str
    label: str


def list_folder(root: Path) -> tuple[dict[str, list[Entry]], list[str]]:
    """The entries of every part ("all", or "train", "val", "test"), and all class names, sorted.

    FileError names what was looked for where: no such folder, no class folders, one class.
    """
    parts = {part: _class_entries(root, folder) for part, folder in _parts(root).items()}
    labels = sorted({entry.label for entries in parts.values() for entry in entries})
    if not labels:
        raise FileError(
            f"{root}: no pictures found in class subfolders{_loose(root)}", "expected CLASS/PICTURE"
        )
    if len(labels) == 1:
        raise FileError(
            f"{root}: one class only ({labels[0]!r})", "expected two or more subfolders with pictures"
        )
    return parts, labels


def split_of(key: str, seed: int, *, with_test: bool) -> str:
    """The split of a content key: the same file, or a copy of it, always falls into the same."""
    shares = SHARES if with_test else {name: share for name, share in SHARES.items() if name != "test"}
    place = scramble(f"split {key}", seed) * sum(shares.values())
    ends = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(ends, place, side="right"))]


def scramble(key: str, seed: int) -> float:
    """A number in [0, 1) that looks random but depends on the key and the seed alone."""
    return int(hashlib.sha256(f"{seed} {key}".encode()).hexdigest()[:13], 16) / 16**13


def content_key(path: Path) -> str:
    """A digest of the file's size and content; of three pieces of 16 KB if it is larger.

    Files that differ only elsewhere share a key, which puts them into one split: harmless.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        starts = (0, PIECE, 2 * PIECE) if size <= 3 * PIECE else (0, (size - PIECE) // 2, size - PIECE)
        for start in starts:
            file.seek(start)
            digest.update(file.read(PIECE))
    return digest.hexdigest()[:32]


def _parts(root: Path) -> dict[str, Path]:
    """Folders named train, val or test, if nothing else is there and not train alone; else all."""
    children = _subfolders(root)
    named = {SPLIT_FOLDERS.get(child.name.lower(), ""): child for child in children}
    if named and "" not in named and len(named) == len(children) and set(named) != {"train"}:
        return named
    return {"all": root}


def _subfolders(folder: Path) -> list[Path]:
    """Subfolders (or links to them) in order of name; hidden ones and those of archivers left out."""
    try:
        children = sorted(folder.iterdir())
        return [child for child in children if not child.name.startswith((".", "__")) and child.is_dir()]
    except FileNotFoundError as error:
        raise FileError(
            f"{folder}: no such folder", "expected a folder with one subfolder per class"
        ) from error
    except NotADirectoryError as error:
        raise FileError(f"{folder}: a file, not a folder", "expected one subfolder per class") from error
    except OSError as error:
        raise FileError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _class_entries(root: Path, folder: Path) -> list[Entry]:
    return [
        Entry(path, readable_name(path.relative_to(root)), readable_name(Path(label.name)))
        for label in _subfolders(folder)
        for path in _pictures(label)
    ]


def _pictures(folder: Path) -> Iterator[Path]:
    """Files, and folders too, whose names end like a picture's; at any depth, in order of name."""
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(files + folders):
            if Path(name).suffix.lower() in suffixes() and not name.startswith("."):
                yield Path(parent, name)


def _refuse(error: OSError) -> None:
    raise FileError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _loose(root: Path) -> str:
    count = sum(path.suffix.lower() in suffixes() for path in root.iterdir() if path.is_file())
    return f"; {count} lie directly in the folder, without a class" if count else ""


def readable_name(path: Path) -> str:
    """A path as text that any file can store: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
