"""Which pictures a folder holds, of which class, and which split each belongs to."""

import hashlib
import os
from collections.abc import Iterator, Mapping
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
PIECE = 16_384


@dataclass(frozen=True)
class Entry:
    """One picture file: where it lies, its path in the data folder as text, and the name of its class."""

    path: Path
    name: str
    label: str


def list_folder(root: Path, by: str = "auto") -> tuple[dict[str, list[Entry]], list[str]]:
    """The entries of every part ("all", or "train", "val", "test"), and all class names, sorted.

    by: see `Splitting`. FileError names what was looked for where: no such folder, no folders val and test
    though `by` asks for them, no class folders, one class.
    """
    parts = {part: _class_entries(root, folder) for part, folder in _parts(root, by).items()}
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


def split_of(key: str, seed: int, shares: Mapping[str, int]) -> str:
    """The split of a content key: the same file, or a copy of it, always falls into the same."""
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


def _parts(root: Path, by: str) -> dict[str, Path]:
    """The folders that splits are taken from, by the name of the part: train, val and test, or all."""
    children = _subfolders(root)
    if by == "folders":
        return _named_parts(root, children)
    named = {SPLIT_FOLDERS.get(child.name.lower(), ""): child for child in children}
    if not named or "" in named or len(named) < len(children) or set(named) == {"train"}:
        return {"all": root}
    if by == "auto":
        return named
    if any(_subfolders(child) for child in children):
        raise FileError(
            f"{root}: its subfolders {_names(children)} hold folders themselves: they are parts, not classes",
            f"split by folders, or open one of them: {children[-1]}",
        )
    return {"all": root}


def _named_parts(root: Path, children: list[Path]) -> dict[str, Path]:
    """Folders named train, val and test, whatever lies beside them; FileError without val and test."""
    found: dict[str, list[Path]] = {}
    for child in children:
        found.setdefault(SPLIT_FOLDERS.get(child.name.lower(), ""), []).append(child)
    others = found.pop("", [])
    for part in ("val", "test"):
        if part not in found:
            alike = " or ".join(name for name, kind in SPLIT_FOLDERS.items() if kind == part)
            there = _names(sorted([*others, *(path for paths in found.values() for path in paths)]))
            raise FileError(
                f"{root}: no folder {part!r} in it", f"looked for {alike}; found {there or 'none'}"
            )
    for paths in found.values():
        if len(paths) > 1:
            raise FileError(
                f"{root}: more than one folder of a kind: {_names(paths)}", "rename or merge them"
            )
    return {part: paths[0] for part, paths in found.items()}


def _names(folders: list[Path]) -> str:
    """The first five names, for a message."""
    more = ", ..." if len(folders) > 5 else ""
    return ", ".join(readable_name(Path(folder.name)) for folder in folders[:5]) + more


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
        for path in pictures_in(label)
    ]


def pictures_in(folder: Path) -> Iterator[Path]:
    """Files, and folders too, whose names end like a picture's; at any depth, in order of name.

    FileError for a folder that cannot be read.
    """
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
