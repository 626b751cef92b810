"""Parts of a folder that lie in one heap, with a listing that tells the class of each picture.

As in ImageNet's validation pictures: `val/*.JPEG` with `val.txt`, `val_annotations.txt` (in the part's folder
or beside it) or `LOC_val_solution.csv`. A line holds a picture's name, with its ending or without, and its
class: the name of a class folder, or its number in their order. What follows on the line does not count.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adapcli.data.entries import BrokenEntry, Entry
from adapcli.errors import FileError

LISTINGS = ("{}.txt", "{}_annotations.txt", "LOC_{}_solution.csv")
HEAPS = {"images"}
"""Names of a subfolder that is none of a class, but holds the whole heap."""


def listing_of(root: Path, folder: Path) -> Path | None:
    """The file that lists the pictures of a part, if there is one."""
    names = [name.format(folder.name) for name in LISTINGS]
    places = [place / name for place in (folder, root) for name in names]
    return next((path for path in places if path.is_file()), None)


def read_listing(path: Path, labels: Sequence[str]) -> dict[str, str]:
    """Class by the picture's name, without folders and ending. FileError for a class that there is not.

    labels: of the class folders, in order; what the numbers count.
    """
    found: dict[str, str] = {}
    for number, (name, label) in _pairs(path):
        if label not in labels and label.isdecimal() and len(label) < 10 and int(label) < len(labels):
            label = labels[int(label)]
        if label in labels:
            found[name] = label
        elif number > 1:  # the first line may tell what the columns are
            raise FileError(
                f"{path}:{number}: class {label[:40]!r}: not known",
                f"{len(labels)} are, such as {labels[0]!r}",
            )
    return found


def in_classes(entries: Sequence[Entry], path: Path, labels: Sequence[str]) -> list[Entry]:
    """Entries of a heap with their classes; those that are not listed cannot be read."""
    known = read_listing(path, labels)
    return [_in_class(entry, known, path) for entry in entries]


def _in_class(entry: Entry, known: dict[str, str], path: Path) -> Entry:
    label = known.get(_stem(entry.name))
    return replace(entry, label=label) if label else BrokenEntry(entry.name, "", f"not listed in {path.name}")


def _pairs(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Names and classes, with the numbers of their lines."""
    try:
        lines = path.read_text("utf-8", "backslashreplace").splitlines()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        words = re.split(r"[\s,;]+", line.strip())
        if len(words) >= 2:
            yield number, (_stem(words[0]), words[1])


def _stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]
