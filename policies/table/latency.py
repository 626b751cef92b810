"""The latency rows of a table: which configuration took how long, under which conditions.

A condition is a batch size on a device with a dtype, a number of threads, compiled or not. Rows of one
condition were measured together and are replaced together; a table may hold those of several machines.
"""

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from policies.errors import FileError
from policies.files import read_csv, write_csv
from policies.table.schema import Array

NAME = "latency.csv"
CONDITION = ("batch", "device", "dtype", "threads", "compiled")
TIMES = ("median_ms", "q25_ms", "q75_ms")
COLUMNS = ("configuration", *CONDITION, *TIMES, "samples_per_s", "peak_memory_bytes", "rounds")
TEXT = ("device", "dtype", "compiled")
WHOLE = ("configuration", "batch", "threads", "rounds")


@dataclass(frozen=True, order=True)
class Condition:
    """What a measurement depends on, apart from the configuration. threads: of the processor."""

    batch: int
    device: str
    dtype: str
    threads: int
    compiled: bool

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.machine}"

    @property
    def machine(self) -> str:
        """All but the batch size: "cpu: AMD EPYC, float32, 1 thread"."""
        threads = f"{self.threads} thread" + ("" if self.threads == 1 else "s")
        return f"{self.device}, {self.dtype}, {threads}" + ", compiled" * self.compiled

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """What was measured of one configuration."""

    median_ms: float
    q25_ms: float
    q75_ms: float
    samples_per_s: float
    peak_memory_bytes: float


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of one condition. index (n,): configurations, ascending; times in ms per batch, each (n,)."""

    condition: Condition
    index: Array
    median_ms: Array
    q25_ms: Array
    q75_ms: Array
    samples_per_s: Array
    peak_memory_bytes: Array

    def rows(self) -> Iterator[tuple[int, Cell]]:
        """Each configuration with its values."""
        columns = (self.median_ms, self.q25_ms, self.q75_ms, self.samples_per_s, self.peak_memory_bytes)
        for row, values in zip(
            self.index.tolist(), zip(*(c.tolist() for c in columns), strict=True), strict=True
        ):
            yield row, Cell(*values)

    def scattered(self, values: Array, n_configs: int) -> Array:
        """`values` (n,) at their configurations, infinite at those that were not measured: (C,)."""
        whole = np.full(n_configs, np.inf)
        whole[self.index] = values
        return whole


def check(latency: pd.DataFrame, n_configs: int, source: str) -> None:
    """FileError, naming the row or column, unless `latency` has every column with values that can be."""
    missing = [name for name in COLUMNS if name not in latency.columns]
    if missing:
        raise FileError(f"{source}: column {missing[0]} is missing", "measure again: adap bench --overwrite")
    for name in COLUMNS:
        if name in WHOLE:
            _check_numbers(latency[name], f"{source}: column {name}", whole=True)
        elif name not in TEXT:
            _check_numbers(latency[name], f"{source}: column {name}")
    _check_rows(latency["configuration"] < n_configs, f"{source}: no such configuration")
    _check_rows(latency["compiled"].isin([True, False]), f"{source}: compiled is neither True nor False")
    ordered = (latency["q25_ms"] <= latency["median_ms"]) & (latency["median_ms"] <= latency["q75_ms"])
    _check_rows(ordered, f"{source}: the median is not between the quartiles")
    again = latency.duplicated(["configuration", *CONDITION])
    _check_rows(~again, f"{source}: measured twice under one condition")


def conditions(latency: pd.DataFrame) -> list[Condition]:
    """The conditions there are, the latest measured last."""
    keys = latency[list(CONDITION)].drop_duplicates(keep="last")
    return [_condition(row) for row in keys.itertuples(index=False)]


def measured(latency: pd.DataFrame, condition: Condition) -> Measured:
    """The rows of one condition, by configuration."""
    same = np.ones(len(latency), bool)
    for name, value in zip(CONDITION, astuple(condition), strict=True):
        same &= (latency[name] == value).to_numpy()
    rows = latency[same].sort_values("configuration")
    values = (rows[name].to_numpy(np.float64) for name in (*TIMES, "samples_per_s", "peak_memory_bytes"))
    return Measured(condition, rows["configuration"].to_numpy(np.int64), *values)


def replaced(earlier: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """`earlier` without its rows of the conditions in `new`, then `new`."""
    new = new[list(COLUMNS)]
    if earlier is None or len(earlier) == 0:
        return new.reset_index(drop=True)
    now = set(conditions(new))
    keys = [_condition(row) for row in earlier[list(CONDITION)].itertuples(index=False)]
    kept = earlier[[key not in now for key in keys]]
    return pd.concat([kept[list(COLUMNS)], new], ignore_index=True) if len(kept) else new


def load(folder: str | Path, n_configs: int) -> pd.DataFrame | None:
    """The rows in a table's folder, None if there are none. FileError if they are damaged."""
    path = Path(folder) / NAME
    if not path.exists():
        return None
    latency = read_csv(path, text=("device", "dtype"))
    check(latency, n_configs, str(path))
    return latency


def save(folder: str | Path, new: pd.DataFrame, n_configs: int, *, overwrite: bool = False) -> pd.DataFrame:
    """Put `new` into the finished table in `folder`; rows of other conditions stay, unless `overwrite`.

    The one file is replaced atomically, so the folder is a whole table at every moment. Returns all rows.
    FileError if what is there is damaged; AdapError if it cannot be written.
    """
    check(new, n_configs, "latency")
    frame = replaced(None if overwrite else load(folder, n_configs), new)
    write_csv(Path(folder) / NAME, frame)
    return frame


def _condition(row: object) -> Condition:
    batch, device, dtype, threads, compiled = (getattr(row, name) for name in CONDITION)
    return Condition(int(batch), str(device), str(dtype), int(threads), bool(compiled))


def _check_numbers(column: "pd.Series[float]", source: str, *, whole: bool = False) -> None:
    if column.dtype.kind not in ("iu" if whole else "iuf"):
        raise FileError(f"{source}: not a column of {'whole ' * whole}numbers")
    least = 0 if column.name == "configuration" else np.nextafter(0, 1)
    _check_rows(np.isfinite(column) & (column >= least), f"{source}: a value that cannot be")


def _check_rows(good: ArrayLike, message: str) -> None:
    bad = np.flatnonzero(~np.asarray(good, bool))
    if len(bad):
        raise FileError(f"{message}, row {bad[0]}", "measure again: adap bench --overwrite")
