"""`webdataset:PATH`: images in tar files, as webdataset lays them out, at any place at any time.

A sample is all members of a shard whose names agree up to the first dot: an image (.jpg, .png ...; of
several, the one without a further dot, so .png and not .depth.png) and its class, in `.cls` (a number or a
name) or in `.json` under "label", "cls" or "class". Shards may be without classes altogether. Nothing else in
a shard is ever read, and nothing is unpacked. PATH: one .tar, or a folder of them at any depth, whose names
or folders may say train, val and test.
`classnames.txt` beside them: names of the numbers, a line each. The members' places are listed once; a shard
is then read where a picture lies, so any order costs the same.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from adapcli.data.classes import class_name, classes_of, known_labels
from adapcli.data.entries import (
    LARGEST,
    BrokenEntry,
    Catalogue,
    ContentEntry,
    Entry,
    content_key,
)
from adapcli.data.findings import Findings
from adapcli.data.images import UnreadableImageError, suffixes
from adapcli.data.listing import files_in, readable_name
from adapcli.data.parts import divide
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError

LABELS = ("cls", "json")
LARGEST_LABEL = 1 << 16
NAMES_FILES = ("classnames.txt", "class_names.txt")
BLOCK = 512


class Member(NamedTuple):
    """Where the bytes of a file in a shard are."""

    start: int
    size: int


@dataclass(frozen=True)
class ShardEntry(ContentEntry):
    """A picture in a tar file."""

    path: Path
    member: Member

    def content(self) -> bytes:
        """See ContentEntry."""
        if self.member.size > LARGEST:
            raise UnreadableImageError(f"{self.member.size:,} bytes, more than {LARGEST:,}")
        return _read(self.path, self.member)

    def key(self) -> str:
        """See Entry: that of the picture's file, were it unpacked."""
        return content_key(self.path, *self.member)

    def mark(self) -> str:
        """See Entry: size and place."""
        return f"{self.member.size} at {self.member.start}"


def open_shards(place: str, spec: DataSpec) -> Catalogue:
    """The images of one tar file or a folder of them. FileError if there are none."""
    root, findings = Path(place).expanduser(), Findings()
    samples: dict[str, list[Entry]] = {}
    for shard in _shards(root, findings):
        inside = readable_name(shard.relative_to(root) if shard != root else Path(shard.name))
        samples[inside] = list(_entries(shard, inside, findings))
    labelled = any(entry.label for entries in samples.values() for entry in entries)
    named = _with_labels(samples, findings) if labelled else samples
    every = [entry for entries in named.values() for entry in entries]
    if all(isinstance(entry, BrokenEntry) for entry in every):
        first = f"first: {every[0].name}: {every[0].mark()}" if every else ""
        raise FileError(f"{root}: no image with a class in its shards", first)
    if labelled:
        classes, numbered = classes_of(str(root), known_labels(named), _class_names(root))
    else:
        classes, numbered = [], False
        findings.decide("classes", "no .cls and no .json with a label: images without labels")
    parts = divide(named, spec, str(root), findings, "shards")
    return Catalogue("webdataset", str(root), parts, classes, numbered, findings)


def _with_labels(samples: dict[str, list[Entry]], findings: Findings) -> dict[str, list[Entry]]:
    """Samples that have a label. Whole shards without any are left out, single samples cannot be used."""
    found: dict[str, list[Entry]] = {}
    for shard, entries in samples.items():
        bare = [entry for entry in entries if not entry.label and not isinstance(entry, BrokenEntry)]
        if bare and not any(entry.label for entry in entries):
            findings.leave("images without labels", bare[0].name, len(bare))
            entries = [entry for entry in entries if isinstance(entry, BrokenEntry)]
            bare = []
        lacking = {entry.name for entry in bare}
        found[shard] = [
            BrokenEntry(entry.name, "", "no class: expected .cls or .json")
            if entry.name in lacking
            else entry
            for entry in entries
        ]
    return found


def _shards(root: Path, findings: Findings) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.exists():
        raise FileError(f"{root}: no such file or folder", "expected a .tar file, or a folder of them")
    found = [path for path in files_in(root, findings) if path.suffix.lower() == ".tar"]
    if not found:
        packed = any(path.name.lower().endswith((".tar.gz", ".tgz")) for path in files_in(root))
        raise FileError(
            f"{root}: no .tar files in it",
            "compressed shards cannot be read at any place: unpack them with gunzip" if packed else "",
        )
    return found


def _entries(shard: Path, name: str, findings: Findings) -> Iterator[Entry]:
    """A shard's samples; what is wrong with it, or with one of them, as an entry that cannot be read."""
    try:
        about = shard.stat()
        samples, reason = _samples(shard, about.st_size, about.st_mtime_ns)
    except OSError as error:
        samples, reason = {}, error.strerror or str(error)
    for key, members in samples.items():
        pictures = sorted(
            (ending for ending in members if f".{ending.rpartition('.')[2]}" in suffixes()),
            key=lambda ending: ending.count("."),
        )
        kinds = [ending for ending in LABELS if ending in members]
        if pictures or kinds:
            yield _entry(shard, f"{name}/{readable_name(Path(key))}", members, pictures, kinds)
        for ending in pictures[1:]:
            findings.leave(
                f"further images of a sample (.{ending})", f"{name}/{readable_name(Path(key))}.{ending}"
            )
    if reason:
        yield BrokenEntry(name, "", reason)


def _entry(
    shard: Path, name: str, members: dict[str, Member], pictures: list[str], kinds: list[str]
) -> Entry:
    """A sample by its image of the plainest ending: .png rather than .depth.png."""
    if not pictures:
        return BrokenEntry(name, "", "no picture")
    try:
        label = _label(kinds[0], _read(shard, members[kinds[0]], LARGEST_LABEL)) if kinds else ""
    except (OSError, ValueError, RecursionError, UnreadableImageError) as error:
        return BrokenEntry(name, "", f".{kinds[0]}: {error}")
    return ShardEntry(f"{name}.{pictures[0]}", label, shard, members[pictures[0]])


def _label(kind: str, content: bytes) -> str:
    """The class that a .cls or .json says, "" for JSON without one. ValueError for what cannot be a class."""
    said: object = content.decode("utf-8").strip()
    if kind == "json":
        found = json.loads(content)
        fields = found if isinstance(found, dict) else {}
        said = next((fields[field] for field in ("label", "cls", "class") if field in fields), None)
        if isinstance(found, dict) and said is None:
            return ""
    if type(said) not in (int, str) or said == "" or str(said).startswith("-"):
        raise ValueError(f"no class: {str(said)[:40]!r}")
    text = str(said)
    return str(int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else class_name(text)


def _read(path: Path, member: Member, most: int = LARGEST) -> bytes:
    with path.open("rb") as file:
        file.seek(member.start)
        content = file.read(min(member.size, most))
    if len(content) < member.size:
        raise UnreadableImageError("the shard is cut short" if member.size <= most else "too large")
    return content


@lru_cache(maxsize=4096)
def _samples(shard: Path, size: int, changed_ns: int) -> tuple[dict[str, dict[str, Member]], str]:
    """Members by sample and ending, in order, and why the shard ends early ("" if it does not).

    size, changed_ns: of the file, so that another one of the same name is listed anew.
    """
    samples: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for info in archive:
                if info.isreg() and not info.issparse():
                    key, ending = _parted(info.name)
                    samples.setdefault(key, {}).setdefault(ending, Member(info.offset_data, info.size))
            return samples, _unfinished(shard, archive.offset)
    except (tarfile.TarError, ValueError, EOFError) as error:
        return samples, f"not a whole tar file: {error}"


def _unfinished(shard: Path, place: int) -> str:
    """tarfile takes what is no header for the end: an end is empty, or two blocks of zeros."""
    with shard.open("rb") as file:
        file.seek(place)
        ending = file.read(BLOCK)
    return "" if not ending.strip(b"\0") else f"not a whole tar file: no header at byte {place}"


def _parted(name: str) -> tuple[str, str]:
    """A member's name up to the first dot of its last part, and what follows, in lower case."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem), ending.lower()


def _class_names(root: Path) -> list[str]:
    folder = root if root.is_dir() else root.parent
    for path in (folder / name for name in NAMES_FILES):
        if path.is_file():
            return [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    return []
