"""`webdataset:PATH`: pictures in tar files, as webdataset lays them out, at any place at any time.

A sample is all members of a shard whose names agree up to the first dot: a picture (.jpg, .png ...) and its
class, in `.cls` (a number or a name) or in `.json` under "label", "cls" or "class". Nothing else in a shard
is ever read, and nothing is unpacked. PATH: one .tar, or a folder of them at any depth, whose names or
folders may say train, val and test; with val or test among them, those without such a name do not count.
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

from adapcli.data.entries import (
    LARGEST,
    BrokenEntry,
    Catalogue,
    ContentEntry,
    Entry,
    classes_of,
    content_key,
    known_labels,
)
from adapcli.data.images import UnreadableImageError, suffixes
from adapcli.data.listing import files_in, readable_name
from adapcli.data.parts import part_of, shared_out
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


def open_shards(place: str, by: str) -> Catalogue:
    """The pictures of one tar file or a folder of them. FileError if there are none."""
    root = Path(place).expanduser()
    named: dict[str, list[Entry]] = {}
    for shard in _shards(root):
        inside = shard.relative_to(root) if shard != root else Path(shard.name)
        named.setdefault(part_of(str(inside)), []).extend(_entries(shard, readable_name(inside)))
    every = [entry for entries in named.values() for entry in entries]
    if all(isinstance(entry, BrokenEntry) for entry in every):
        first = f"first: {every[0].name}: {every[0].mark()}" if every else ""
        raise FileError(f"{root}: no picture with a class in its shards", first)
    labels, numbered = classes_of(str(root), known_labels(named), _class_names(root))
    return Catalogue("webdataset", str(root), shared_out(named, by, str(root)), labels, numbered)


def _shards(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.exists():
        raise FileError(f"{root}: no such file or folder", "expected a .tar file, or a folder of them")
    found = [path for path in files_in(root) if path.suffix.lower() == ".tar"]
    if not found:
        packed = any(path.name.lower().endswith((".tar.gz", ".tgz")) for path in files_in(root))
        raise FileError(
            f"{root}: no .tar files in it",
            "compressed shards cannot be read at any place: unpack them with gunzip" if packed else "",
        )
    return found


def _entries(shard: Path, name: str) -> Iterator[Entry]:
    """A shard's samples; what is wrong with it, or with one of them, as an entry that cannot be read."""
    try:
        about = shard.stat()
        samples, reason = _samples(shard, about.st_size, about.st_mtime_ns)
    except OSError as error:
        samples, reason = {}, error.strerror or str(error)
    for key, members in samples.items():
        pictures = [ending for ending in members if f".{ending.rpartition('.')[2]}" in suffixes()]
        kinds = [ending for ending in LABELS if ending in members]
        if pictures or kinds:
            yield _entry(shard, f"{name}/{readable_name(Path(key))}", members, pictures, kinds)
    if reason:
        yield BrokenEntry(name, "", reason)


def _entry(
    shard: Path, name: str, members: dict[str, Member], pictures: list[str], kinds: list[str]
) -> Entry:
    if not pictures:
        return BrokenEntry(name, "", "no picture")
    if not kinds:
        return BrokenEntry(name, "", "no class: expected .cls or .json")
    try:
        label = _label(kinds[0], _read(shard, members[kinds[0]], LARGEST_LABEL))
    except (OSError, ValueError, RecursionError, UnreadableImageError) as error:
        return BrokenEntry(name, "", f".{kinds[0]}: {error}")
    return ShardEntry(f"{name}.{pictures[0]}", label, shard, members[pictures[0]])


def _label(kind: str, content: bytes) -> str:
    """The class that a .cls or .json says. ValueError if it says none."""
    said: object = content.decode("utf-8").strip()
    if kind == "json":
        found = json.loads(content)
        fields = found if isinstance(found, dict) else {}
        said = next((fields[field] for field in ("label", "cls", "class") if field in fields), None)
    if type(said) not in (int, str) or said == "" or str(said).startswith("-"):
        raise ValueError(f"no class: {str(said)[:40]!r}")
    text = str(said)
    return str(int(text)) if text.isascii() and text.isdecimal() and len(text) < 10 else text


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
