"""Files that are whole or absent: atomic writes, and reads that never execute what they read.

A temporary file in the same folder is written, flushed to disk and renamed over the target, so that a crash
leaves either the old content or the new, never half of one.
"""

import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from policies.errors import AdapError, FileError

MAX_JSON_BYTES = 64 * 1024 * 1024
# Texts of a table may be file names of any bytes; pyarrow, where it is installed, keeps UTF-8 alone.
pd.options.mode.string_storage = "python"
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a file to write to; it becomes `path`, an older one replaced, if the block ends without an error.

    It has the permissions that the user's umask asks for. FileError for a device or a pipe in its place,
    AdapError for an OSError in the block; after any error the old file, if any, is intact.
    """
    path = Path(path)
    _refuse_device(path)
    temporary = _beside(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        hint = "the old file, if any, is intact"
        raise AdapError(f"cannot write {path}: {error.strerror or error}", hint) from error
    finally:
        _remove(temporary)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(content)


def _refuse_device(path: Path) -> None:
    """Renaming something to /dev/null would, for a user who may, take it from every program."""
    with suppress(OSError):  # nothing there, or a name that cannot be: told when it is written
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return
        raise FileError(f"{path}: neither a file nor a folder, not replaced")


def _beside(path: Path, kind: str) -> Path:
    """A name that nothing has yet, in the same folder: only there is a rename atomic."""
    return path.parent / f".{path.name[:40]}.{secrets.token_hex(8)}.{kind}"


def _remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, content: str) -> None:
    """Write text as UTF-8, atomically. Bytes of file names that are no UTF-8 come out as they went in."""
    try:
        encoded = content.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of surrogate pairs that stand for no byte
        encoded = content.encode("utf-8", "backslashreplace")
    write_bytes(path, encoded)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically. ValueError for NaN and infinities: JSON has none.

    Halves of surrogate pairs, as in file names that are no UTF-8, are written as escapes and read back alike.
    """
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(path, _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text) + "\n")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]} is out of range")
    return value


def read_json(path: str | Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read strict JSON (no NaN, no infinities, bounded size and nesting).

    Raises FileError naming the file and the reason.
    """
    path = Path(path)
    try:
        text = _read_bounded(path, max_bytes).decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except RecursionError as error:
        raise FileError(f"{path}: not usable JSON: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not usable JSON: {error}") from error


def _read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file: a pipe would be waited on for ever, and a device never ends."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes >> 20} MB, not a configuration or metadata file")
    return content


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a scratch folder beside `path`; rename it into place when the block ends without an error.

    FileError if `path` exists and may not be overwritten, or is a device or a pipe; AdapError if the folder
    cannot be made.
    """
    path = Path(path)
    _refuse_device(path)
    if path.exists() and not overwrite:
        raise FileError(f"{path} exists already")
    scratch = _beside(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
    except OSError as error:
        raise AdapError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield scratch
        install_folder(scratch, path)
    finally:
        _remove(scratch)


def install_folder(scratch: Path, path: Path) -> None:
    """Rename `scratch` to `path`; an older folder there is moved aside first and deleted last.

    FileError for a device or a pipe there; AdapError if it fails otherwise; the older folder is then back in
    its place. (A crash between the two renames
    leaves it beside `path`, under a hidden name that ends in `.old`.)
    """
    _refuse_device(path)
    aside = _beside(path, "old")
    try:
        if path.exists():
            path.rename(aside)
        scratch.rename(path)
    except OSError as error:
        if os.path.lexists(aside):
            aside.rename(path)
        raise AdapError(
            f"cannot write {path}: {error.strerror or error}", "what was there is intact"
        ) from error
    _remove(aside)


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table without its index, atomically, as UTF-8 with newlines of one byte."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def read_csv(path: str | Path, *, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a csv. The columns in `text` stay text, "NA" included; elsewhere only an empty field is missing.

    Raises FileError naming the file and the reason.
    """
    path = Path(path)
    as_text: Any = dict.fromkeys(text, str)
    try:
        header = pd.read_csv(path, nrows=0, encoding_errors="surrogateescape").columns
        "".join(header).encode()  # values may be file names of any bytes; names of columns are text
        empty = {name: [""] for name in header if name not in text}
        return pd.read_csv(
            path, dtype=as_text, keep_default_na=False, na_values=empty, encoding_errors="surrogateescape"
        )
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not a usable csv: {str(error).strip()}") from error


@dataclass(frozen=True)
class ArrayFile:
    """A `.npy` file read and written by rows, so that no more than a block of it is ever in memory.

    Slicing reads from the file, not from a memory map: pages of a map count as the process's own memory.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @classmethod
    def create(cls, path: str | Path, shape: tuple[int, ...], dtype: Any) -> "ArrayFile":
        """Make a file of zeros. Not atomic: meant for a scratch folder. AdapError if it cannot be written."""
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": shape,
        }
        try:
            with Path(path).open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + math.prod(shape) * np.dtype(dtype).itemsize)
        except OSError as error:
            raise AdapError(f"cannot write {path}: {error.strerror or error}") from error
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, repair: bool = False) -> "ArrayFile":
        """Read the header only. `repair` extends a file that was cut short with zeros.

        Raises FileError if it is missing, is no `.npy`, holds Python objects, or is not as long as it says.
        """
        path = Path(path)
        try:
            shape, dtype, offset = _npy_header(path)
            expected, actual = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
            if repair and actual < expected:
                os.truncate(path, expected)
                actual = expected
        except FileNotFoundError as error:
            raise FileError(f"{path}: no such file") from error
        except Exception as error:  # a damaged header is parsed as Python literals and fails in many ways
            raise FileError(f"{path}: not a usable .npy file: {error}") from error
        if actual != expected:
            raise FileError(f"{path}: {actual} bytes, but its header says {expected}: damaged or cut short")
        return cls(path, shape, dtype, offset)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """The rows start..stop as an array of their own."""
        start, stop, _ = rows.indices(self.shape[0])
        count = max(stop - start, 0) * math.prod(self.shape[1:])
        values = np.fromfile(self.path, self.dtype, count, offset=self._position(start))
        return values.reshape(-1 if self._row_size() else max(stop - start, 0), *self.shape[1:])

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Put `rows` at row `start` and flush them to the disk. AdapError if that fails."""
        try:
            with self.path.open("r+b") as file:
                file.seek(self._position(start))
                file.write(np.ascontiguousarray(rows, self.dtype).data if rows.size else b"")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AdapError(f"cannot write {self.path}: {error.strerror or error}") from error

    def map(self) -> NDArray[Any]:
        """The whole array, read-only and mapped rather than loaded (an empty one is just empty)."""
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)

    def _row_size(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _position(self, row: int) -> int:
        return self.offset + row * self._row_size()


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and where the data start. ValueError unless a plain C-ordered array of numbers."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} is not known")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects; nothing was run")
        if dtype.kind not in "biuf":
            raise ValueError(f"{dtype} is not a type of number")
        if fortran and len(shape) > 1:
            raise ValueError("it is stored column by column")
        if min(shape, default=0) < 0:
            raise ValueError(f"shape {shape}")
        return shape, dtype, file.tell()
