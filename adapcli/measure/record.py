"""bench.json: what was measured, on what, of which checkpoint. One entry per condition."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapcli.errors import FileError
from adapcli.measure.bench import Row
from policies.files import read_json, write_json
from policies.table.latency import Condition

SCHEMA_VERSION = 1
NAME = "bench.json"
NUMBERS = ("batch", "median_ms", "q25_ms", "q75_ms", "samples_per_s", "peak_memory_bytes", "rounds")


@dataclass(frozen=True)
class Measurement:
    """The rows of one condition. measured: when; device: `describe`; protocol: rounds and the like."""

    condition: Condition
    measured: str
    device: dict[str, Any]
    versions: dict[str, str]
    protocol: dict[str, Any]
    rows: tuple[Row, ...]

    def row(self, kind: str, name: str = "") -> Row | None:
        """The row of a kind (and of a name), if there is one."""
        found = (row for row in self.rows if row.kind == kind and name in ("", row.name))
        return next(found, None)


@dataclass(frozen=True)
class Record:
    """checkpoint: path and fingerprint; measurements: the latest last."""

    checkpoint: dict[str, str]
    measurements: tuple[Measurement, ...] = ()

    def of(self, condition: Condition) -> Measurement | None:
        """The measurement under a condition, if there is one."""
        return next((m for m in self.measurements if m.condition == condition), None)

    def adding(self, new: "list[Measurement]") -> "Record":
        """With `new` in place of what was measured under the same conditions."""
        now = {m.condition for m in new}
        return Record(self.checkpoint, (*(m for m in self.measurements if m.condition not in now), *new))

    def save(self, folder: str | Path) -> Path:
        """Write bench.json, atomically; returns its path."""
        write_json(Path(folder) / NAME, {"schema_version": SCHEMA_VERSION, **asdict(self)})
        return Path(folder) / NAME

    @classmethod
    def load(cls, folder: str | Path) -> "Record":
        """Read what `save` wrote. FileError naming the file and the reason."""
        path = Path(folder) / NAME
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise FileError(
                f"{path}: not a bench of version {SCHEMA_VERSION}", "measure again: adap bench --overwrite"
            )
        try:
            found = tuple(map(_measurement, content["measurements"]))
            return cls({name: str(content["checkpoint"][name]) for name in ("path", "fingerprint")}, found)
        except (KeyError, TypeError, AttributeError) as error:
            raise FileError(
                f"{path}: not a usable bench: {error}", "measure again: adap bench --overwrite"
            ) from error


def _measurement(content: Mapping[str, Any]) -> Measurement:
    try:
        found = TypeAdapter(Measurement).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise TypeError(f"{place} is no measurement: {first['msg']}") from error
    for row in found.rows:
        if not all(getattr(row, name) > 0 for name in NUMBERS):
            raise TypeError(f"row {row.name!r} holds what is no measurement")
    return found
