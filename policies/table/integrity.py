"""Checksums of a finished table: what was written is what is read, file by file and block by block of rows.

The contract of a table (`validation`) refuses what cannot be true; checksums refuse what could be true but is
not what was scored: two arrays swapped, rows reversed, an edited cost. `checksums.json` holds a CRC-32 of
every block of rows of every array, and of every other file but `latency.csv`, which grows later. They show
damage and mistakes, not malice: whoever can write the table can write its checksums.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.errors import FileError
from policies.files import ArrayFile, read_json, write_json

NAME = "checksums.json"
SCHEMA_VERSION = 1
ROWS = 1024


def seal(folder: Path, files: Sequence[str], arrays: Mapping[str, ArrayFile]) -> None:
    """Write the checksums of the table in `folder`; files: names of those that are checked as a whole."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "rows": ROWS,
        "files": {name: zlib.crc32((folder / name).read_bytes()) for name in files},
        "arrays": {name: [crc(file, rows) for rows in blocks(file)] for name, file in arrays.items()},
    }
    write_json(folder / NAME, content)


def check(folder: Path, files: Sequence[str], arrays: Mapping[str, ArrayFile], *, everything: bool) -> None:
    """FileError naming the first file, and its rows, that is not what was written.

    everything: all blocks of all arrays; otherwise the first, the middle and the last, which takes the same
    time at any size.
    """
    stored = _read(folder, files, arrays)
    for name in files:
        if zlib.crc32((folder / name).read_bytes()) != stored["files"][name]:
            raise _changed(folder / name)
    for name, file in arrays.items():
        pairs = list(zip(blocks(file), stored["arrays"][name], strict=True))
        if not everything:
            pairs = [pairs[place] for place in sorted({0, len(pairs) // 2, len(pairs) - 1})]
        for rows, expected in pairs:
            if crc(file, rows) != expected:
                raise _changed(file.path, f": rows {rows.start}..{rows.stop - 1}")


def blocks(file: ArrayFile) -> list[slice]:
    """Ranges of `ROWS` rows, in order, of which the last may be shorter."""
    n = file.shape[0]
    return [slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]


def crc(file: ArrayFile, rows: slice) -> int:
    """CRC-32 of some rows of an array."""
    return zlib.crc32(file[rows].tobytes())


def _read(folder: Path, files: Sequence[str], arrays: Mapping[str, ArrayFile]) -> dict[str, Any]:
    """`checksums.json`, of exactly these files and arrays. FileError otherwise."""
    path = folder / NAME
    if not path.exists():
        raise FileError(f"{folder}: a table without checksums, of an earlier version", "sweep again")
    stored = read_json(path)
    counts = {name: len(blocks(file)) for name, file in arrays.items()}
    if not (
        isinstance(stored, dict)
        and stored.get("schema_version") == SCHEMA_VERSION
        and stored.get("rows") == ROWS
        and _are_checksums(stored.get("files"))
        and isinstance(stored.get("arrays"), dict)
        and all(isinstance(crcs, list) for crcs in stored["arrays"].values())
        and all(type(value) is int for crcs in stored["arrays"].values() for value in crcs)
    ):
        raise FileError(f"{path}: not the checksums of an outcome table of version {SCHEMA_VERSION}")
    for name in sorted(set(stored["files"]) ^ set(files)) + sorted(set(stored["arrays"]) ^ set(counts)):
        raise FileError(f"{folder}: {name}: added or removed since the table was written", "sweep again")
    if any(len(crcs) != counts[name] for name, crcs in stored["arrays"].items()):
        raise FileError(f"{path}: not of as many rows as the table has")
    return stored


def _are_checksums(content: object) -> bool:
    return isinstance(content, dict) and all(type(value) is int for value in content.values())


def _changed(path: Path, rows: str = "") -> FileError:
    return FileError(f"{path}{rows}: changed or damaged since it was written", "sweep again with --overwrite")
