"""A verdict with its numbers, and diagnosis.json, which keeps all verdicts on a checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapcli.errors import FileError
from policies.files import read_json, write_json

SCHEMA_VERSION = 1
NAME = "diagnosis.json"


@dataclass(frozen=True)
class Check:
    """One failure signature looked for.

    verdict: one line with the numbers; limit: from where on it is a warning, and why there; numbers: JSON
    values by name.
    """

    name: str
    warning: bool
    verdict: str
    limit: str
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Diagnosis:
    """All checks of a checkpoint. checkpoint: path and fingerprint; data: on what, JSON values."""

    checkpoint: dict[str, str]
    data: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def warnings(self) -> list[Check]:
        """The checks that warn."""
        return [check for check in self.checks if check.warning]

    def save(self, folder: str | Path) -> Path:
        """Write diagnosis.json into `folder`, atomically; returns its path."""
        write_json(Path(folder) / NAME, {"schema_version": SCHEMA_VERSION, **asdict(self)})
        return Path(folder) / NAME

    @classmethod
    def load(cls, folder: str | Path) -> "Diagnosis":
        """Read what `save` wrote. FileError naming the file and the reason."""
        path, again = Path(folder) / NAME, "diagnose again: adap diagnose"
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise FileError(f"{path}: not a diagnosis of version {SCHEMA_VERSION}", again)
        try:
            checkpoint = {name: str(content["checkpoint"][name]) for name in ("path", "fingerprint")}
            return cls(checkpoint, dict(content["data"]), tuple(map(_check, content["checks"])))
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: not a usable diagnosis: {error}", again) from error


def _check(content: Mapping[str, Any]) -> Check:
    check = Check(**content)
    texts = (check.name, check.verdict, check.limit)
    if not (all(isinstance(t, str) for t in texts) and isinstance(check.warning, bool)):
        raise TypeError("a check without name, verdict, limit or warning")
    if not isinstance(check.numbers, dict):
        raise TypeError(f"check {check.name}: numbers are no object")
    return check


def percent(share: float, digits: int = 1) -> str:
    """A share as verdicts show it."""
    return f"{100 * share:.{digits}f} %"
