"""Which pictures a folder holds, of which class, and in which part of it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapcli.data.entries import Entry as Entry
from adapcli.data.entries import content_key
from adapcli.data.flat import HEAPS, LISTINGS, in_classes, listing_of
from adapcli.data.images import check_image, is_grey, read_image, suffixes
from adapcli.data.parts import PART_NAMES
from adapcli.errors import FileError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class FileEntry(Entry):
    """A picture that is a file: its name is its path in the data folder."""

    path: Path

    def read(self, mode: str) -> "Image":
        """See Entry."""
        return read_image(self.path, mode)

    def check(self, mode: str) -> str:
        """See Entry. JPEG is decoded at reduced size."""
        return check_image(self.path, mode)

    def is_grey(self) -> bool:
        """See Entry."""
        return is_grey(self.path)

    def key(self) -> str:
        """See Entry."""
        return content_key(self.path)

    def mark(self) -> str:
        """See Entry: the file's size."""
        return str(self.path.stat().st_size)


def list_folder(root: Path, by: str = "auto") -> tuple[dict[str, list[Entry]], list[str]]:
    """The entries of every part ("all", or "train", "val", "test"), and all class names, sorted.

    by: see `Splitting`. FileError names what was looked for where: no such folder, no folders val and test
    though `by` asks for them, no class folders, one class.
    """
    folders = _parts(root, by)
    heaps = {part: folder for part, folder in folders.items() if part != "all" and _is_heap(folder)}
    parts: dict[str, list[Entry]] = {
        part: [] if part in heaps else _class_entries(root, folder) for part, folder in folders.items()
    }
    labels = sorted({entry.label for entries in parts.values() for entry in entries})
    if not labels:
        raise FileError(
            f"{root}: no pictures found in class subfolders{_loose(root)}", "expected CLASS/PICTURE"
        )
    if len(labels) == 1:
        raise FileError(
            f"{root}: one class only ({labels[0]!r})", "expected two or more subfolders with pictures"
        )
    for part, folder in heaps.items():
        parts[part] = _heap_entries(root, folder, labels)
    if not any(entries for part, entries in parts.items() if part != "train"):
        names = ", ".join(name.format(folder.name) for folder in heaps.values() for name in LISTINGS)
        raise FileError(
            f"{root}: no pictures in class subfolders but for training", f"nor a listing: {names}"
        )
    return {part: entries for part, entries in parts.items() if entries or by == "folders"}, labels


def _parts(root: Path, by: str) -> dict[str, Path]:
    """The folders that splits are taken from, by the name of the part: train, val and test, or all."""
    children = _subfolders(root)
    if by == "folders":
        return _named_parts(root, children)
    named = {PART_NAMES.get(child.name.lower(), ""): child for child in children}
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
        found.setdefault(PART_NAMES.get(child.name.lower(), ""), []).append(child)
    others = found.pop("", [])
    for part in ("val", "test"):
        if part not in found:
            alike = " or ".join(name for name, kind in PART_NAMES.items() if kind == part)
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


def _is_heap(folder: Path) -> bool:
    """Whether a part's pictures do not lie in folders of classes."""
    return {child.name for child in _subfolders(folder)} <= HEAPS


def _heap_entries(root: Path, folder: Path, labels: list[str]) -> list[Entry]:
    """Pictures of a heap, if it is listed; none otherwise, as ImageNet's test pictures are."""
    listing = listing_of(root, folder)
    if listing is None:
        return []
    heap = [FileEntry(readable_name(path.relative_to(root)), "", path) for path in pictures_in(folder)]
    return in_classes(heap, listing, labels)


def _class_entries(root: Path, folder: Path) -> list[Entry]:
    return [
        FileEntry(readable_name(path.relative_to(root)), readable_name(Path(label.name)), path)
        for label in _subfolders(folder)
        for path in pictures_in(label)
    ]


def pictures_in(folder: Path) -> Iterator[Path]:
    """Files, and folders too, whose names end like a picture's; at any depth, in order of name.

    FileError for a folder that cannot be read.
    """
    for path in files_in(folder):
        if path.suffix.lower() in suffixes():
            yield path


def files_in(folder: Path) -> Iterator[Path]:
    """Files and folders at any depth, in order of name; hidden ones left out.

    FileError for a folder that cannot be read.
    """
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(files + folders):
            if not name.startswith("."):
                yield Path(parent, name)


def _refuse(error: OSError) -> None:
    raise FileError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _loose(root: Path) -> str:
    count = sum(path.suffix.lower() in suffixes() for path in root.iterdir() if path.is_file())
    return f"; {count} lie directly in the folder, without a class" if count else ""


def readable_name(path: Path) -> str:
    """A path as text that any file can store: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
