"""Named arrays in a safetensors file, which belongs to a description that tells its SHA-256."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from policies.errors import FileError
from policies.files import write_bytes


def write(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write them, atomically; returns the file's SHA-256. AdapError if that fails."""
    blob = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_bytes(path, blob)
    return hashlib.sha256(blob).hexdigest()


def read(path: Path, digest: object, description: str) -> dict[str, npt.NDArray[Any]]:
    """What `write` wrote. FileError if it is not there, damaged, or if the description tells of another."""
    try:
        blob = path.read_bytes()
        if hashlib.sha256(blob).hexdigest() != digest:
            raise FileError(f"{path}: does not belong to the {description} beside it (its SHA-256 differs)")
        return dict(load(blob))
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: not usable: {error}") from error


def refuse_file(path: Path, description: str) -> None:
    """FileError for a lone file where a folder with a description is expected."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    what = "an archive (Stable-Baselines3 keeps Python objects in such)" if archive else "a single file"
    raise FileError(
        f"{path}: {what}, not a policy folder; refused, nothing was run",
        f"a policy is a folder with {description}",
    )
