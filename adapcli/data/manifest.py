"""Text files that say what images are: listings of a part (`val.txt`), and CSV manifests of a whole folder.

A listing has a line per image: its name, with its ending or without, and its class: the name of a class, or
its number in their order; what follows does not count. Fields are separated by tabs, commas, semicolons or
spaces, and may be quoted. `val.txt`, `val_annotations.txt` (in the part's folder or beside it) and
`LOC_val_solution.csv` are listings of a part `val`, as ImageNet's are.

A manifest is CSV with a header: `path`, and `label` and `split` if there are such; paths are relative to its
folder and stay inside. It is opened as `folder:FILE.csv`.
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from adapcli.data.classes import class_name
from adapcli.data.entries import BrokenEntry, Entry
from adapcli.data.findings import Findings
from adapcli.data.images import suffixes
from adapcli.errors import FileError

LISTINGS = ("{}.txt", "{}_annotations.txt", "LOC_{}_solution.csv")
HEADERS = {
    "image": ("path", "file_name", "filename", "file", "image"),
    "label": ("label", "class", "class_name"),
    "split": ("split", "part", "subset"),
}
LARGEST = 1 << 30
"""Bytes of a listing or manifest; about ten million lines."""


class Row(NamedTuple):
    """A line of a manifest: the path as written, the label and the split, "" where nothing is said."""

    path: str
    label: str
    split: str


def listing_of(root: Path, folder: Path) -> Path | None:
    """The file that lists the images of a part, if there is one."""
    names = [name.format(folder.name) for name in LISTINGS]
    places = [place / name for place in (folder, root) for name in names]
    return next((path for path in places if path.is_file()), None)


def in_classes(
    entries: Sequence[Entry], path: Path, labels: Sequence[str], findings: Findings
) -> list[Entry]:
    """Entries with the classes that a listing gives them; those that are not listed cannot be read.

    labels: classes that are known, in order, which numbers count; none: the listing's own. An image is found
    by its path or file name, else by its name without the ending. FileError for a name that fits more than
    one image, an image of two classes, or a class that is not known.
    """
    names = _Names(entries)
    found: dict[str, str] = {}
    for line, fields in _lines(path):
        name, said = names.split(fields)
        label = _label(said, labels)
        if name is None and label is None and line == 1:
            continue  # a header
        if label is None:
            more = f"{len(labels)} are, such as {labels[0]!r}" if labels else "expected NAME CLASS"
            raise FileError(f"{path}:{line}: class {' '.join(said)[:40]!r}: not known", more)
        if name is None:
            findings.leave(f"listed in {path.name}, but not there", fields[0])
        elif found.setdefault(name, label) != label:
            raise FileError(f"{path}:{line}: {name}: of class {label!r} here, and {found[name]!r} before")
    return [
        replace(entry, label=found[entry.name])
        if entry.name in found
        else BrokenEntry(entry.name, "", f"not listed in {path.name}")
        for entry in entries
    ]


def _label(said: Sequence[str], labels: Sequence[str]) -> str | None:
    """The class of a listing's fields: the longest beginning of them that is one."""
    words = " ".join(said).split()
    texts = [class_name(text) for text in (" ".join(words), *said[:1], *words[:1]) if text]
    if not labels:
        return texts[-1] if texts else None
    known = set(labels)
    named = next((text for text in texts if text in known), None)
    if named is None and texts and texts[-1].isdecimal() and len(texts[-1]) < 10:
        place = int(texts[-1])
        return labels[place] if place < len(labels) else None
    return named


class _Names:
    """Finds images by what a listing calls them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._exact: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for entry in entries:
            pieces = PurePosixPath(entry.name).parts
            for start in range(len(pieces)):
                path = "/".join(pieces[start:])
                self._exact.setdefault(class_name(path), []).append(entry.name)
                self._stems.setdefault(class_name(_stem(path)), []).append(entry.name)

    def split(self, fields: list[str]) -> tuple[str | None, list[str]]:
        """The entry's name and the fields of its class; an unquoted name may have spaces in it."""
        for end in range(len(fields) - 1, 0, -1):
            name = self.find(" ".join(fields[:end]))
            if name is not None:
                return name, fields[end:]
        return None, fields[1:]

    def find(self, text: str) -> str | None:
        """The one image of that name. FileError if there are more."""
        text = class_name(text.replace("\\", "/").removeprefix("./"))
        found = self._exact.get(text) or self._stems.get(_stem(text)) or []
        if len(found) > 1:
            raise FileError(
                f"{text!r} in a listing fits {found[0]} and {found[1]}", "list them by their paths"
            )
        return found[0] if found else None


def _stem(path: str) -> str:
    """Without the ending, if it is that of an image."""
    start, dot, ending = path.rpartition(".")
    return start if dot and f".{ending.lower()}" in suffixes() else path


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of every line that is not empty, with its number."""
    text = _text(path)
    first = text.lstrip().partition("\n")[0]
    mark = next((mark for mark in "\t,;" if mark in first), " ")
    try:
        for number, fields in enumerate(csv.reader(text.splitlines(), delimiter=mark), start=1):
            kept = [field.strip() for field in fields if field.strip()]
            if kept:
                yield number, kept
    except csv.Error as error:
        raise FileError(f"{path}: cannot be read: {error}") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise FileError(f"{path}: more than {LARGEST:,} bytes")
        return path.read_text("utf-8-sig", "backslashreplace")
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_manifest(path: Path, columns: Mapping[str, str], findings: Findings) -> list[Row]:
    """Rows of a CSV manifest, a row per path. columns: names of the columns image, label and split, if said.

    FileError: no header with a path, a path that leads out of the folder, a path with two labels or splits.
    """
    text = _text(path)
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter="," if "," in first else ";" if ";" in first else "\t")
    rows: dict[str, Row] = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        places = _columns(path, header, columns, findings)
        for line, fields in enumerate(reader, start=2):
            if not any(fields):
                continue
            row = Row(*("" if at is None or at >= len(fields) else fields[at].strip() for at in places))
            row = row._replace(path=_inside(path, line, row.path), label=class_name(row.label))
            if row.path in rows:
                if rows[row.path] != row:
                    raise FileError(
                        f"{path}:{line}: {row.path}: is there already, with another label or split"
                    )
                findings.leave(f"repeated lines of {path.name}", row.path)
            rows[row.path] = row
    except csv.Error as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    return list(rows.values())


def _columns(path: Path, header: list[str], said: Mapping[str, str], findings: Findings) -> list[int | None]:
    """Places of the columns of paths, labels and splits."""
    found: list[int | None] = []
    for kind, usual in HEADERS.items():
        names = [said[kind]] if kind in said else [name for name in header if name.lower() in usual]
        if kind in said and said[kind] not in header:
            raise FileError(f"{path}: no column {said[kind]!r}", f"found {', '.join(header[:8]) or 'none'}")
        if len(names) > 1:
            raise FileError(
                f"{path}: {kind}: more than one column: {', '.join(names)}", f"--columns {kind}=NAME"
            )
        found.append(header.index(names[0]) if names else None)
    if found[0] is None:
        raise FileError(
            f"{path}: no column 'path'", f"found {', '.join(header[:8])}; or --columns image=NAME"
        )
    told = ", ".join(
        f"{kind} is {header[at]!r}" for kind, at in zip(HEADERS, found, strict=True) if at is not None
    )
    findings.decide("columns", told)
    for place, name in enumerate(header):
        if place not in found:
            findings.leave("columns that say nothing of image, label or split", name)
    return found


def _inside(path: Path, line: int, text: str) -> str:
    """A path of a manifest, with slashes. FileError if it is not one inside the manifest's folder."""
    plain = text if "\\" not in text or (path.parent / text).exists() else text.replace("\\", "/")
    pieces = PurePosixPath(plain)
    outside = (
        not plain or plain.startswith("~") or "\0" in plain or pieces.is_absolute() or ".." in pieces.parts
    )
    if outside or (os.name == "posix" and plain[1:2] == ":"):
        raise FileError(f"{path}:{line}: {text[:80]!r}: not a path inside the manifest's folder")
    return str(pieces)
