"""What makes confidences hold: per configuration a temperature, and a bias per class.

The probabilities of configuration c are softmax(logits / temperature[c] + bias[c]). They were fitted once, on
the fit split, and everything in a table comes from logits so changed: whoever decides by the table, and every
rival of it, sees the same. A policy keeps them with it, since it must see live what it saw in the table. They
cost nothing: scale and bias fold into the last linear layer of the model's head.

C configurations, K classes.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.errors import FileError
from policies.files import ArrayFile, read_json, write_bytes

NAME, FINGERPRINT = "recalibration.npy", "recalibration"
Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recalibration:
    """temperature (C,) above 0, bias (C, K); float32. FileError, naming the row, for other values."""

    temperature: Singles
    bias: Singles

    def __post_init__(self) -> None:
        for name in ("temperature", "bias"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float32))
        if self.bias.ndim != 2 or self.temperature.shape != self.bias.shape[:1] or not self.bias.size:
            raise FileError(
                f"recalibration: temperature {self.temperature.shape} and bias {self.bias.shape}: "
                "expected one temperature and one row of biases per configuration"
            )
        fine = np.isfinite(self.temperature) & (self.temperature > 0) & np.isfinite(self.bias).all(1)
        if not fine.all():
            raise FileError(f"recalibration, row {np.flatnonzero(~fine)[0]}: a value that cannot be")

    @classmethod
    def identity(cls, n_configs: int, n_classes: int) -> "Recalibration":
        """The one that changes nothing."""
        return cls(np.ones(n_configs, np.float32), np.zeros((n_configs, n_classes), np.float32))

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> "Recalibration":
        """From (C, 1 + K): temperatures first. FileError for another shape."""
        if array.ndim != 2:
            raise FileError(f"recalibration: {array.ndim}-D, expected a row per configuration")
        return cls(array[:, 0], array[:, 1:])

    def array(self) -> Singles:
        """(C, 1 + K) float32: temperatures first."""
        return np.concatenate([self.temperature[:, None], self.bias], axis=1)

    def __len__(self) -> int:
        return len(self.temperature)

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.bias.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 of shape and values."""
        array = self.array()
        return hashlib.sha256(f"{array.shape}".encode() + array.astype("<f4").tobytes()).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write `recalibration.npy` into `folder`, atomically. AdapError if that fails."""
        file = io.BytesIO()
        np.save(file, self.array().astype("<f4"), allow_pickle=False)
        write_bytes(Path(folder) / NAME, file.getvalue())


def load(
    folder: str | Path, fingerprints: Mapping[str, Any], n_configs: int, n_classes: int | None = None
) -> Recalibration | None:
    """What lies in `folder`, of which the fingerprints there tell; None if they tell of none.

    FileError if it is missing, damaged, of another table or policy, or does not fit.
    """
    path, digest = Path(folder) / NAME, fingerprints.get(FINGERPRINT)
    if digest is None:
        if path.exists():
            raise FileError(f"{path}: does not belong here: nothing beside it was made with a recalibration")
        return None
    file = ArrayFile.open(path)
    fitting = len(file.shape) == 2 and file.shape[0] == n_configs and file.shape[1] > 1
    if str(file.dtype) != "float32" or not fitting or n_classes not in (None, file.shape[1] - 1):
        expected = f"({n_configs}, 1 + {'classes' if n_classes is None else n_classes})"
        raise FileError(f"{path}: {file.dtype} of shape {file.shape}, expected float32 of {expected}")
    try:
        found = Recalibration.from_array(file[:])
    except FileError as error:
        raise FileError(f"{path}: {error.message}") from error
    if found.digest != digest:
        raise FileError(f"{path}: does not belong to what is beside it (its SHA-256 differs)")
    return found


def begun(folder: str | Path, partial: str | Path) -> tuple[bool, Recalibration | None]:
    """Whether a table is in `folder`, or one under way in `partial`, and the recalibration it has, if any.

    FileError if that is damaged.
    """
    for place, name in ((Path(partial), "ledger/plan.json"), (Path(folder), "meta.json")):
        if place.is_dir():
            content = read_json(place / name)
            meta = content.get("meta") if name.startswith("ledger") and isinstance(content, dict) else content
            return True, _of_meta(place, meta)
    return False, None


def _of_meta(place: Path, meta: Any) -> Recalibration | None:
    try:
        fingerprints, n_configs = meta.get("fingerprints", {}), int(meta["arrays"]["score"]["shape"][1])
        return load(place, fingerprints, n_configs)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise FileError(f"{place}: not an outcome table: {error}") from error


def stamped(meta: Mapping[str, Any], recalibration: Recalibration | None) -> dict[str, Any]:
    """`meta` with the recalibration among its fingerprints, or without one."""
    fingerprints = {k: v for k, v in dict(meta.get("fingerprints", {})).items() if k != FINGERPRINT}
    if recalibration is not None:
        fingerprints[FINGERPRINT] = recalibration.digest
    return {**meta, "fingerprints": fingerprints} if fingerprints or "fingerprints" in meta else dict(meta)
