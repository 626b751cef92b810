"""Which images a folder holds, of which class, and in which part of it.

Found by what is there (PART: train, val, test or the like, see `parts`):

    CLASS/.../IMAGE                  classes
    PART/CLASS/.../IMAGE             classes in parts
    PART/IMAGE with PART.txt         a listing gives the classes, see `manifest`
    IMAGE, CLASS/IMAGE, PART/IMAGE   images without labels: no subfolders, one, or parts without any
    FILE.csv                         a manifest, see `manifest`
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapcli.data.classes import class_name, in_order
from adapcli.data.entries import BrokenEntry, Catalogue, Entry, Form, content_key, form_of
from adapcli.data.findings import Findings
from adapcli.data.images import DECODING, Decoding, Examined, examine_image, is_grey, read_image, suffixes
from adapcli.data.manifest import LISTINGS, in_classes, listing_of, read_manifest
from adapcli.data.parts import UNUSED, divide, part_of, part_of_folder
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError

if TYPE_CHECKING:
    from PIL.Image import Image

HEAPS = {"images"}
"""Names of a subfolder that is none of a class, but holds all images of a part."""
NO_CLASSES = {"unlabeled", "unlabelled", "unsupervised"}
HIDDEN = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
"""Folders that systems and archivers make; so are all whose names begin with a dot."""
MOST_VISITS = 8
"""How often links may lead to one folder: links to links would multiply without end."""


@dataclass(frozen=True)
class FileEntry(Entry):
    """A picture that is a file: its name is its path in the data folder."""

    path: Path

    def read(self, mode: str, how: Decoding = DECODING) -> "Image":
        """See Entry."""
        return read_image(self.path, mode, how)

    def examine(self, mode: str, how: Decoding = DECODING) -> Examined:
        """See Entry. JPEG is decoded at reduced size."""
        return examine_image(self.path, mode, how)

    def form(self) -> Form:
        """See Entry."""
        return form_of(self.path)

    def is_grey(self) -> bool:
        """See Entry."""
        return is_grey(self.path)

    def key(self) -> str:
        """See Entry."""
        return content_key(self.path)

    def mark(self) -> str:
        """See Entry: the file's size."""
        return str(self.path.stat().st_size)


def open_folder(place: str, spec: DataSpec) -> Catalogue:
    """The images of a folder, or of a CSV manifest in it. None is decoded.

    FileError: no such folder, no images, parts that cannot be told from classes, no classes in what is to be
    scored though training images have them.
    """
    root = Path(place).expanduser()
    if root.suffix.lower() == ".csv" and root.is_file():
        return _from_manifest(root, spec)
    return _Folder(root, spec).catalogue()


class _Folder:
    """A folder as it is listed: images by subfolder, the other findings on the way."""

    def __init__(self, root: Path, spec: DataSpec) -> None:
        self.root, self.spec, self.findings = root, spec, Findings()
        self.loose: list[FileEntry] = []
        self.children: dict[str, list[FileEntry]] = {}
        for path in pictures_in(root, self.findings):
            entry = FileEntry(readable_name(path.relative_to(root)), "", path)
            child, slash, _ = entry.name.partition("/")
            (self.children.setdefault(child, []) if slash else self.loose).append(entry)
        for name in sorted(child.name for child in subfolders(root)):
            if readable_name(Path(name)) not in self.children:
                self.findings.leave("folders without images", name)
        if not self.loose and not self.children:
            raise FileError(f"{root}: no images found in it", "expected CLASS/IMAGE, or images alone")
        if (root / "manifest.csv").is_file():
            self.findings.decide("files", f"manifest.csv is not used: folder:{root / 'manifest.csv'} does")

    def catalogue(self) -> Catalogue:
        """What the folder holds."""
        if not self.children:
            return self._unlabelled({"all": [*self.loose]}, "no subfolders")
        if self._are_parts():
            parts, labels = self._parts()
        else:
            parts, labels = {"all": self._classes()}, []
            labels = in_order({entry.label for entry in parts["all"]})
        if len(labels) == 1:
            return self._unlabelled(parts, f"one folder only ({labels[0]!r})")
        if not labels:
            return self._unlabelled(parts, "no folders of classes, no listings")
        if self.loose:
            self.findings.leave("images beside the folders", self.loose[0].name, len(self.loose))
        return Catalogue("folder", str(self.root), parts, labels, findings=self.findings)

    def _unlabelled(self, parts: dict[str, list[Entry]], why: str) -> Catalogue:
        self.findings.decide("classes", f"{why}: images without labels")
        bare = {
            part: [FileEntry(e.name, "", e.path) for e in entries if isinstance(e, FileEntry)]
            for part, entries in parts.items()
        }
        if "all" in bare and self.children:
            bare["all"] = [*self.loose, *bare["all"]]
        return Catalogue("folder", str(self.root), bare, (), findings=self.findings)

    def _nested(self, child: str) -> bool:
        """Whether a subfolder holds folders of images itself."""
        pieces = (entry.name.split("/") for entry in self.children[child])
        return any(len(piece) > 2 and piece[1] not in HEAPS for piece in pieces)

    def _are_parts(self) -> bool:
        """Whether the subfolders are parts; else they are classes."""
        by = self.spec.splitting.by
        if self.spec.parts or by == "folders":
            return True
        told = {name: part_of_folder(name) for name in self.children}
        known = {name: part for name, part in told.items() if part not in ("", UNUSED)}
        nested = any(map(self._nested, known))
        if by == "ratio" or nested:
            return nested
        if not known:
            return all(map(self._nested, self.children)) and all(map(part_of, self.children))
        if all(told.values()) or len(set(known.values())) > 1:
            return True
        for name in known:
            self.findings.decide("classes", f"folder {name!r} is taken for a class: it holds images directly")
        return False

    def _classes(self) -> list[Entry]:
        """Entries of folders that are classes."""
        self._refuse_wrapper()
        found: list[Entry] = []
        for name, entries in self.children.items():
            if name.lower() in NO_CLASSES and len(self.children) > 1:
                self.findings.leave("images in a folder that is no class", name, len(entries))
            else:
                found += _labelled(entries, 0)
        return found

    def _refuse_wrapper(self) -> None:
        """FileError for one subfolder that holds those of the classes or parts."""
        (only, *others) = self.children
        inside = {entry.name.split("/")[1] for entry in self.children[only] if entry.name.count("/") > 1}
        if not others and not self.loose and len(inside) > 1:
            raise FileError(
                f"{self.root}: one subfolder, {only!r}, which holds {len(inside)} folders itself",
                f"open that one: folder:{self.root / only}",
            )

    def _parts(self) -> tuple[dict[str, list[Entry]], list[str]]:
        """Entries by part, and the names of the classes."""
        heaps = {name for name in self.children if not self._nested(name)}
        named = {name: self._class_entries(name) for name in self.children if name not in heaps}
        labels = in_order({entry.label for entries in named.values() for entry in entries})
        listings = {name: listing_of(self.root, self.root / name) for name in sorted(heaps)}
        for name, path in listings.items():
            if path is not None:
                named[name] = in_classes(self.children[name], path, labels, self.findings)
            elif not labels and not any(listings.values()):
                named[name] = [*self.children[name]]
        labels = labels or in_order({e.label for entries in named.values() for e in entries if e.label})
        if not labels:
            named = {name: [*entries] for name, entries in self.children.items()}
        ordered = {name: named.get(name, [*self.children[name]]) for name in self.children}
        parts = divide(ordered, self.spec, str(self.root), self.findings, "folders")
        return self._without_bare(parts, [name for name in self.children if name not in named]), labels

    def _without_bare(self, parts: dict[str, list[Entry]], bare: list[str]) -> dict[str, list[Entry]]:
        """Parts without the images of folders that have no classes, such as ImageNet's test."""
        lacking = {id(entry) for name in bare for entry in self.children[name]}
        for entries in parts.values():
            for entry in entries:
                if id(entry) in lacking:
                    self.findings.leave("images without a class, in a part without a listing", entry.name)
        parts = {part: [e for e in entries if id(e) not in lacking] for part, entries in parts.items()}
        parts = {part: entries for part, entries in parts.items() if entries}
        if not parts.keys() - {"train"}:
            names = ", ".join(name.format(folder) for folder in bare for name in LISTINGS)
            raise FileError(
                f"{self.root}: no images with classes but for training", f"nor a listing: {names}"
            )
        return parts

    def _class_entries(self, part: str) -> list[Entry]:
        direct = [entry for entry in self.children[part] if entry.name.count("/") == 1]
        if direct:
            self.findings.leave("images beside the folders", direct[0].name, len(direct))
        return _labelled([entry for entry in self.children[part] if entry.name.count("/") > 1], 1)


def _labelled(entries: list[FileEntry], depth: int) -> list[Entry]:
    """Entries whose class is the folder at that depth of their path."""
    return [FileEntry(entry.name, class_name(entry.name.split("/")[depth]), entry.path) for entry in entries]


def _from_manifest(path: Path, spec: DataSpec) -> Catalogue:
    findings = Findings()
    rows = read_manifest(path, spec.columns, findings)
    if not rows:
        raise FileError(f"{path}: no images listed in it")
    labelled = any(row.label for row in rows)
    named: dict[str, list[Entry]] = {}
    for row in rows:
        entry: Entry = FileEntry(row.path, row.label, path.parent / row.path)
        if labelled and not row.label:
            entry = BrokenEntry(row.path, "", "no label")
        named.setdefault(row.split, []).append(entry)
    labels = in_order({row.label for row in rows if row.label})
    if len(labels) == 1:
        raise FileError(f"{path}: one class only ({labels[0]!r})", "expected two or more")
    if not labels:
        findings.decide("classes", "no labels in the manifest: images without labels")
    parts = divide(named, spec, str(path), findings, "splits")
    return Catalogue("folder", str(path), parts, labels, findings=findings)


def subfolders(folder: Path) -> list[Path]:
    """Subfolders, or links to them, in order of name; hidden ones left out."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that a user put there to be read."""
    return name.startswith(".") or name in HIDDEN


def pictures_in(folder: Path, findings: Findings | None = None) -> Iterator[Path]:
    """Files, and folders too, whose names end like an image's; see `files_in`."""
    for path in files_in(folder, findings):
        if path.suffix.lower() in suffixes():
            yield path


def files_in(folder: Path, findings: Findings | None = None) -> Iterator[Path]:
    """Files and folders below a folder, at any depth, in order of name. Links are followed.

    What is hidden, links that lead nowhere, and links that lead back or to one folder over and over are left
    out and recorded in `findings`. FileError for a folder that is not there or cannot be read.
    """
    findings = Findings() if findings is None else findings
    visits: dict[Place, int] = {}
    waiting = [(folder, _above(folder))]
    while waiting:
        here, above = waiting.pop()
        try:
            about = here.stat()
            children = sorted(os.scandir(here), key=lambda child: child.name)
        except OSError as error:
            raise _refused(here, error) from error
        place = (about.st_dev, about.st_ino)
        visits[place] = visits.get(place, 0) + 1
        if place in above or visits[place] > MOST_VISITS:
            again = f"more than {MOST_VISITS} links to one folder"
            reason = "links to a folder above" if place in above else again
            findings.leave(reason, readable_name(here.relative_to(folder)))
            continue
        inner = []
        for child in children:
            path = Path(child.path)
            reason = _unusable(child)
            if reason:
                findings.leave(reason, readable_name(path.relative_to(folder)))
                continue
            if _is_folder(child):
                inner.append((path, above | {place}))
            yield path
        waiting += reversed(inner)


Place = tuple[int, int]
"""Device and number of a folder, however it is reached."""


def _above(folder: Path) -> frozenset[Place]:
    """The folders that hold a folder: a link to one of them would lead back."""
    with suppress(OSError):
        stats = [parent.stat() for parent in folder.resolve().parents]
        return frozenset((about.st_dev, about.st_ino) for about in stats)
    return frozenset()


def _refused(folder: Path, error: OSError) -> FileError:
    known: dict[type[OSError], str] = {
        FileNotFoundError: "no such folder",
        NotADirectoryError: "a file, not a folder",
    }
    reason = known.get(type(error), f"cannot be read: {error.strerror or error}")
    return FileError(f"{folder}: {reason}", "expected a folder with one subfolder per class")


def _unusable(child: "os.DirEntry[str]") -> str:
    """Why something in a folder is left out; "" if it is not.

    A broken link that is named like an image is not: it is counted among the unreadable ones.
    """
    if is_hidden(child.name):
        return "hidden files and folders"
    announced = Path(child.name).suffix.lower() in suffixes()
    if child.is_symlink() and not announced and not Path(child.path).exists():
        return "links that lead nowhere"
    return ""


def _is_folder(child: "os.DirEntry[str]") -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link to itself
        return False


def readable_name(path: Path) -> str:
    """A path as text that any file can store: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
