"""Files that are whole or absent, written by one process at a time; reads that never execute what is read.

Content is written to scratch on the same file system, flushed to disk and moved into place in one step, so
that a crash leaves either the old content or the new, never half of one. This is the only module that
renames, replaces or removes results.

A folder that holds `.adap` (a run) keeps scratch and locks of everything below it there; elsewhere they lie,
hidden, beside the target. Every piece of scratch is locked by the process that made it (`flock`, which ends
with the process), so the next writer recognises and removes what a killed one left.
"""

import ctypes
import errno
import fcntl
import json
import math
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from policies.errors import AdapError, BusyError, FileError

if TYPE_CHECKING:
    import pandas as pd

MAX_JSON_BYTES = 64 * 1024 * 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


# Scratch and locks

WORKPLACE = ".adap"
UNFINISHED = ".partial"
"""What the name of a folder ends with in which a long job collects its results."""
_SCRATCH = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


def workplace(path: Path) -> Path | None:
    """The `.adap` of the nearest folder above `path` that has one, if it is on the same file system."""
    parents = path.absolute().parents
    found = next((parent / WORKPLACE for parent in parents if (parent / WORKPLACE).is_dir()), None)
    there = next((parent for parent in parents if parent.is_dir()), None)
    if found is None or there is None:
        return None
    return found if found.stat().st_dev == there.stat().st_dev else None


@contextmanager
def _scratch(path: Path, *, folder: bool) -> Iterator[Path]:
    """A new file or folder to fill, removed at the end if still there; abandoned ones are removed first.

    OSError if it cannot be made: a parent that is scratch and was removed is not made again.
    """
    place, owner = workplace(path), None
    if place is None:
        place, owner = path.parent, f".{path.name[:40]}."
    scratch = place / f".{path.name[:40]}.{secrets.token_hex(8)}.tmp"
    _remove_abandoned(place, owner)
    with _locked(place, fcntl.LOCK_SH):  # nobody takes it for abandoned before it is locked
        if folder:
            scratch.mkdir()
        else:
            scratch.touch(exist_ok=False)
        held = os.open(scratch, _FOLDER if folder else os.O_RDONLY)
        _flock(held, fcntl.LOCK_SH)
    try:
        yield scratch
    finally:
        os.close(held)
        remove(scratch)


def _make_parents(path: Path) -> None:
    """Make the folders above `path`; but scratch and unfinished results that were removed stay so.

    FileNotFoundError for these: another process finished or replaced them.
    """
    for parent in path.absolute().parents:
        if _SCRATCH.fullmatch(parent.name) or parent.name.endswith(UNFINISHED):
            if not parent.is_dir():
                raise FileNotFoundError(
                    errno.ENOENT, "it was finished or removed by another process", str(parent)
                )
            break
    path.parent.mkdir(parents=True, exist_ok=True)


def _remove_abandoned(place: Path, owner: str | None) -> None:
    """Remove scratch whose process has ended; owner: only what begins so."""
    with suppress(OSError):
        names = [path.name for path in place.iterdir() if _SCRATCH.fullmatch(path.name)]
        names = [name for name in names if owner is None or name.startswith(owner)]
        if not names:
            return
        with _locked(place, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for name in names:
                with suppress(OSError), _locked(place / name, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    remove(place / name)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold an advisory lock on a file or a folder. BlockingIOError if another process holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int, how: int) -> None:
    """A lock, where the file system knows locks."""
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


_held: dict[Path, tuple[int, int]] = {}  # lock file -> how often this process took it, descriptor
_guard = threading.RLock()


class Lock:
    """The right to write what is at `path`: one process has it at a time, and loses it when it ends.

    Threads of a process share it: taken twice, it is given back at the second `release`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _lock_file(self.path)
        self._taken = 0

    def acquire(self) -> "Lock":
        """Take it. BusyError naming the process that has it; AdapError if the lock cannot be made."""
        with _guard:
            try:
                count, descriptor = _held.get(self._file) or (0, _open_lock(self._file))
            except BlockingIOError as error:
                raise BusyError(f"{self.path}: {_owner(self._file)}", "wait for it, or stop it") from error
            except OSError as error:
                raise AdapError(f"cannot write {self.path}: {error.strerror or error}") from error
            _held[self._file] = count + 1, descriptor
            self._taken += 1
        return self

    def release(self) -> None:
        """Give it back, once for each `acquire`; without effect where it was not taken."""
        with _guard:
            if not self._taken or self._file not in _held:  # not in it: in a forked child
                return
            self._taken -= 1
            count, descriptor = _held[self._file]
            if count > 1:
                _held[self._file] = count - 1, descriptor
                return
            del _held[self._file]
            with suppress(OSError):
                self._file.unlink()  # while it is held, so that whoever opened it meanwhile sees it gone
            os.close(descriptor)

    def __enter__(self) -> "Lock":
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock_file(path: Path) -> Path:
    path = path.absolute()
    place = workplace(path)
    if place is None:
        return path.with_name(f".{path.name[:40]}.lock")
    return place / ("+".join(path.relative_to(place.parent).parts)[-200:] + ".lock")


def _open_lock(path: Path) -> int:
    """The descriptor that holds the lock. BlockingIOError if another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                about = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command()}
                about["since"] = datetime.now(UTC).isoformat(timespec="seconds")
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(about).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed by its holder meanwhile


def _command() -> str:
    """The command line of this process, without the password of a storage URL."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else ["python"]
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]*@", r"\1***@", shlex.join(words))[:300]


def _owner(path: Path) -> str:
    try:
        about = json.loads(path.read_bytes()[:4096])
        who = f"process {int(about['pid'])} on {about['host']} since {about['since']} ({about['command']})"
    except (OSError, ValueError, TypeError, KeyError):
        who = "another process"
    return f"being written by {who}"


def _forget_locks() -> None:
    """A forked child holds none of its parent's locks, although it inherits the open files."""
    for _, descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_locks)


# Files


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a file to write to; it becomes `path`, an older one replaced, if the block ends without an error.

    It has the permissions that the user's umask asks for. FileError for a device or a pipe in its place,
    AdapError for an OSError in the block; after any error the old file, if any, is intact.
    """
    path = Path(path)
    _refuse_device(path)
    try:
        _make_parents(path)
        with _scratch(path, folder=False) as temporary:
            with temporary.open("r+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        hint = "the old file, if any, is intact"
        raise AdapError(f"cannot write {path}: {error.strerror or error}", hint) from error


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(content)


def _refuse_device(path: Path) -> None:
    """Renaming something to /dev/null would, for a user who may, take it from every program."""
    with suppress(OSError):  # nothing there, or a name that cannot be: reported when it is written
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return
        raise FileError(f"{path}: neither a file nor a folder, not replaced")


def remove(path: Path) -> None:
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's fields. Readers differ in which of two equal keys counts, so neither does."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {twice[:80]!r} is given twice")
    return found


def read_json(path: str | Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read strict JSON (no NaN, no infinities, no key twice, bounded size and nesting).

    Raises FileError naming the file and the reason.
    """
    path = Path(path)
    try:
        text = _read_bounded(path, max_bytes).decode("utf-8")
        return json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique
        )
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
    """Give a scratch folder; it becomes `path`, an older one replaced, if the block ends without an error.

    FileError if `path` exists and may not be overwritten, or is a device or a pipe; AdapError if the folder
    cannot be made.
    """
    path = Path(path)
    _refuse_device(path)
    if recovered(path).exists() and not overwrite:
        raise FileError(f"{path} exists already")
    scratch = _scratch(path, folder=True)
    try:
        _make_parents(path)
        folder = scratch.__enter__()
    except OSError as error:
        raise AdapError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield folder
        install_folder(folder, path)
    finally:
        scratch.__exit__(None, None, None)


def install_folder(scratch: Path, path: Path) -> None:
    """Put `scratch` in the place of `path` in one step, and delete what was there.

    Where the system cannot exchange two names, the older folder is first moved aside, under a name from
    which `recovered` brings it back after a crash. FileError for a device or a pipe there; AdapError if it
    fails otherwise; the older folder is then in its place.
    """
    _refuse_device(path)
    aside = _aside(path)
    try:
        if not os.path.lexists(path):
            scratch.rename(path)
        elif _exchange(scratch, path):
            remove(scratch)
        else:
            path.rename(aside)
            scratch.rename(path)
            remove(aside)
    except OSError as error:
        raise AdapError(
            f"cannot write {path}: {error.strerror or error}", "what was there is intact"
        ) from error
    finally:
        recovered(path)


def recovered(path: Path) -> Path:
    """`path`, brought back if its replacement was interrupted after the older folder was moved aside."""
    aside = _aside(path)
    with suppress(OSError):
        if os.path.lexists(aside) and not os.path.lexists(path):
            aside.rename(path)
    return path


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name[:40]}.replaced") if path.name else path


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    at_cwd, exchange = -100, 2
    if rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def write_csv(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a table without its index, atomically, as UTF-8 with newlines of one byte."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def read_csv(path: str | Path, *, text: tuple[str, ...] = ()) -> "pd.DataFrame":
    """Read a csv. The columns in `text` stay text, "NA" included; elsewhere only an empty field is missing.

    Raises FileError naming the file and the reason.
    """
    import pandas as pd  # half a second that whoever reads no table is spared

    pd.options.mode.string_storage = "python"  # as in policies/table/schema.py
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
