"""Files that are whole or absent: atomic writes, and reads that never execute what they read.

A temporary file in the same folder is written, flushed to disk and renamed over the target, so that a crash leaves
either the old content or the new, never half of one.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policies.errors import AdapError, FileError

MAX_JSON_BYTES = 64 * 1024 * 1024


def _permissions() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically, with the permissions that the user's umask asks for."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise AdapError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_permissions())
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise AdapError(f"cannot write {path}: {error.strerror or error}", "the old file, if any, is intact") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | Path, content: str) -> None:
    """Write text as UTF-8, atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically. NaN and infinities are refused: JSON has none."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]} is out of range")
    return value


def read_json(path: str | Path) -> Any:
    """Read strict JSON (no NaN, no infinities, bounded size and nesting).

    Raises FileError naming the file and the reason.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FileError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MB, not a configuration or metadata file")
        return json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except RecursionError as error:
        raise FileError(f"{path}: not usable JSON: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not usable JSON: {error}") from error


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a scratch folder beside `path`; rename it into place when the block ends without an error."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        scratch.chmod(0o777 & ~_umask())
        yield scratch
        install_folder(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    return 0o666 & ~_permissions()


def install_folder(scratch: Path, path: Path) -> None:
    """Rename `scratch` to `path`; an older folder there is moved aside first and deleted last."""
    if not path.exists():
        scratch.rename(path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
    path.rename(aside / path.name)
    scratch.rename(path)
    shutil.rmtree(aside, ignore_errors=True)
