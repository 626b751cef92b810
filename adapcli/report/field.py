"""The field of policies, as `adap train-policy --algo all` left it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapcli.errors import FileError
from adapcli.run import Run
from policies.files import read_json
from policies.statistics import Interval
from policies.table import OutcomeTable

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Standing:
    """One entrant, or an oracle (not attainable). gap: None where there is none to close.

    drops: in score; saving_full, saving_static: at each of them; worst, best: gap over seeds, if several.
    """

    name: str
    attainable: bool
    gap: Interval | None
    drops: tuple[float, ...]
    saving_full: tuple[Interval, ...]
    saving_static: tuple[Interval, ...]
    worst: float | None
    best: float | None
    seconds: float | None


@dataclass(frozen=True)
class FieldFound:
    """standings: as trained, oracles last. recommended: a name; reason: sentences; skipped: name -> why."""

    n: int
    n_tune: int
    standings: Sequence[Standing]
    recommended: str
    reason: Sequence[str]
    skipped: Mapping[str, str]


def read_field(run: Run, table: OutcomeTable, warnings: list[str]) -> FieldFound | None:
    """What field.json holds; None without it, or if it is of another table, which `warnings` then say.

    FileError if it is damaged.
    """
    path = run.field / "field.json"
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise FileError(f"{path}: not a field of version {SCHEMA_VERSION}")
    try:
        found, full = _found(content), float(content["full_score"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: not usable: {type(error).__name__} {error}") from error
    rows = table.rows("test")
    own = float(table.score[rows, table.full].mean(dtype="float64"))
    if found.n != len(rows) or abs(full - own) > 1e-6:
        warnings.append("The field of policies is of another table: run adap train-policy --algo all again.")
        return None
    return found


def _found(content: Mapping[str, Any]) -> FieldFound:
    advice = content["recommendation"]
    return FieldFound(
        n=int(content["n"]),
        n_tune=int(content["n_tune"]),
        standings=[
            *(_standing(entry, attainable=True) for entry in content["entries"]),
            *(_standing(oracle, attainable=False) for oracle in content["oracles"]),
        ],
        recommended=str(advice["name"]),
        reason=[*map(str, advice["reason"]), str(advice["on_test"])],
        skipped={str(left["name"]): str(left["reason"]) for left in content["skipped"]},
    )


def _standing(entry: Mapping[str, Any], *, attainable: bool) -> Standing:
    spread = (entry.get("spread") or {}).get("gap") or {}
    return Standing(
        name=str(entry["name"]),
        attainable=attainable,
        gap=None if entry["gap"] is None else _interval(entry["gap"]),
        drops=tuple(float(saving["drop"]) for saving in entry["savings"]),
        saving_full=tuple(_interval(saving["saving_full"]) for saving in entry["savings"]),
        saving_static=tuple(_interval(saving["saving_static"]) for saving in entry["savings"]),
        worst=_number(spread.get("worst")),
        best=_number(spread.get("best")),
        seconds=_number(entry.get("seconds")),
    )


def _interval(told: Mapping[str, Any]) -> Interval:
    return Interval(float(told["mean"]), float(told["low"]), float(told["high"]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
