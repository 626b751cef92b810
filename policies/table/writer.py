"""Write a table chunk by chunk, so that a killed job loses one chunk and its memory does not grow with N.

A table under way is the folder `<name>.partial`. A chunk is done when its marker exists; the marker is
written after the chunk's rows are on the disk and holds their checksums, so a torn chunk is computed again.
"""

import weakref
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from policies.errors import AdapError, FileError, UsageError
from policies.files import (
    ArrayFile,
    Lock,
    atomic_folder,
    install_folder,
    read_csv,
    read_json,
    remove,
    write_bytes,
    write_csv,
    write_json,
)
from policies.table import recalibration as kept_with
from policies.table import schema, storage, validation
from policies.table.outcome import OutcomeTable
from policies.table.recalibration import Recalibration
from policies.texts import count

LEDGER, PLAN = "ledger", "plan.json"


class OutcomeTableWriter:
    """Begun by `create` or `open`; `pending` says what to compute, `write` takes it, `finish` ends it.

    `repaired` tells, in words, what `open` found torn and will ask for again. One process at a time begins,
    opens and finishes a table: until `finish`, or until the writer is gone, others get a BusyError. Those
    that `attach` write chunks of the same table for it.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], lock: Lock | None = None) -> None:
        self.folder = folder
        self.partial = partial_folder(folder)
        self.plan = plan
        self.repaired: list[str] = []
        self._unlock = weakref.finalize(self, lock.release if lock else lambda: None)
        self._files = {
            name: ArrayFile.open(self.partial / f"{name}.npy", repair=True) for name in plan["meta"]["arrays"]
        }
        for name, file in self._files.items():
            found = {"dtype": str(file.dtype), "shape": list(file.shape)}
            if plan["meta"]["arrays"][name] != found or file.shape[0] != plan["n_samples"]:
                raise FileError(f"{file.path}: {file.dtype} of shape {file.shape} is not what was begun")

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        n_samples: int,
        configs: pd.DataFrame,
        increment_flops: ArrayLike,
        signal_names: Sequence[str],
        feature_names: Sequence[str],
        feature_flops: int,
        meta: Mapping[str, Any],
        chunk: int = 512,
        classes: bool = True,
        prediction_dtype: str = "int16",
        patches_shape: tuple[int, int] | None = None,
        latency: pd.DataFrame | None = None,
        recalibration: Recalibration | None = None,
        metrics_dtype: str = "float32",
        overwrite: bool = False,
    ) -> "OutcomeTableWriter":
        """Begin a table of `n_samples` rows at `folder`, in chunks of `chunk` rows.

        `classes` False leaves out prediction and nll, `labels: false` in `meta` nll alone; `recalibration`:
        of the outcomes, see OutcomeTable; metrics are kept if `meta` declares them, see
        policies.table.metrics.
        Nothing at `folder` changes before `finish`. Raises
        UsageError if a table, finished or not, is there and `overwrite` is not given, BusyError if another
        process writes one there, and FileError for bad configs or costs.
        """
        folder = Path(folder)
        _refuse_empty(n_samples, chunk)
        configs, increments = configs.reset_index(drop=True), np.asarray(increment_flops, np.float64)
        validation.check_configs(configs, str(folder))
        validation.check_increments(increments, len(configs), str(folder))
        validation.check_recalibration(recalibration, len(configs), meta, str(folder))
        for names, what in ((signal_names, "signals"), (feature_names, "features")):
            validation.check_names(names, what, str(folder))
        shapes = validation.expected_shapes(
            n_samples,
            len(configs),
            len(signal_names),
            len(feature_names),
            patches_shape,
            storage.metric_columns(meta, "metrics" in meta, str(folder)),
        )
        types = {name: schema.DTYPES[name][0] for name in shapes}
        types |= {"prediction": prediction_dtype, "metrics": metrics_dtype}
        left_out = ("prediction", "nll") if not classes else () if meta.get("labels", True) else ("nll",)
        with ExitStack() as stack:
            lock = stack.enter_context(Lock(folder))
            _refuse_existing(folder, overwrite)
            with atomic_folder(partial_folder(folder), overwrite=overwrite) as scratch:
                storage.write_frames(scratch, configs, increments, latency)
                kept = [name for name in schema.DTYPES if name in shapes and name not in left_out]
                files = {
                    name: ArrayFile.create(scratch / f"{name}.npy", shapes[name], types[name])
                    for name in kept
                }
                own = storage.own_meta(
                    configs, tuple(signal_names), tuple(feature_names), int(feature_flops), files
                )
                if recalibration is not None:
                    recalibration.save(scratch)
                content = storage.as_json(kept_with.stamped({**meta, **own}, recalibration))
                plan = {"n_samples": n_samples, "chunk": chunk, "meta": content}
                write_json(scratch / LEDGER / PLAN, plan)
            writer = cls(folder, read_json(partial_folder(folder) / LEDGER / PLAN), lock)
            stack.pop_all()
            return writer

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        meta: Mapping[str, Any] | None = None,
        n_samples: int | None = None,
        configs: pd.DataFrame | None = None,
    ) -> "OutcomeTableWriter":
        """Resume a table. What is given must equal what it was begun with.

        Raises FileError listing the fields that differ (as dotted names), or saying where a chunk other than
        the last ones is damaged. Torn last chunks become pending again and are told in `repaired`.
        """
        folder = Path(folder)
        with ExitStack() as stack:
            lock = stack.enter_context(Lock(folder))
            if not partial_folder(folder).is_dir():
                raise FileError(f"{folder}: no unfinished outcome table to resume")
            plan = _read_plan(partial_folder(folder) / LEDGER / PLAN)
            _refuse_other(plan, meta or {}, n_samples, folder)
            if configs is not None:
                _refuse_other_configs(partial_folder(folder), configs)
            kept_with.begun(folder, partial_folder(folder))  # refuses a damaged one
            writer = cls(folder, plan, lock)
            writer._verify()
            stack.pop_all()
            return writer

    @classmethod
    def attach(cls, folder: str | Path) -> "OutcomeTableWriter":
        """Write to a table that another process began or opened: chunks may come from several at once."""
        return cls(Path(folder), _read_plan(partial_folder(folder) / LEDGER / PLAN))

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.plan["n_samples"])

    def chunks(self) -> list[tuple[int, int]]:
        """All chunks as (start, stop) rows."""
        step = self.plan["chunk"]
        return [(start, min(start + step, self.n_samples)) for start in range(0, self.n_samples, step)]

    def pending(self) -> list[tuple[int, int]]:
        """The chunks still to be written, as (start, stop) rows."""
        return [(start, stop) for start, stop in self.chunks() if not self._marker(start).exists()]

    def write(
        self,
        start: int,
        stop: int,
        *,
        agreement: ArrayLike,
        signals: ArrayLike,
        features: ArrayLike,
        sample_ids: Sequence[str],
        targets: Sequence[Any] | schema.Array,
        splits: Sequence[str] | str,
        score: ArrayLike | None = None,
        prediction: ArrayLike | None = None,
        nll: ArrayLike | None = None,
        patches: ArrayLike | None = None,
        metrics: ArrayLike | None = None,
    ) -> None:
        """Store one whole chunk; it counts once this returns. FileError naming the bad row or column.

        score: may be left out of a table without labels, where it is the agreement; targets are -1 there.
        """
        if (start, stop) not in self.chunks():
            raise UsageError(f"rows {start}..{stop} are not a chunk of {self.plan['chunk']}")
        meta = self.plan["meta"]
        given: dict[str, Any] = {
            "score": agreement if score is None and meta.get("labels") is False else score,
            "agreement": agreement,
            "signals": signals,
            "features": features,
        }
        given |= {"prediction": prediction, "nll": nll, "patches": patches, "metrics": metrics}
        arrays = self._cast({name: value for name, value in given.items() if value is not None})
        shapes = {name: (stop - start, *file.shape[1:]) for name, file in self._files.items()}
        validation.check_layout(arrays, shapes, str(self.folder))
        validation.check_values(arrays, str(self.folder), first_row=start)
        samples = pd.DataFrame({"sample_id": list(map(str, sample_ids)), "target": targets, "split": splits})
        validation.check_samples(samples, stop - start, f"{self.folder}: rows {start}..{stop}")
        validation.check_labels(meta, arrays, samples, str(self.folder), first_row=start)
        for name, array in arrays.items():
            self._files[name].write(start, array)
        write_csv(self._piece(start), samples)
        write_json(self._marker(start), self._checksums(start, stop))

    def finish(self) -> OutcomeTable:
        """Join the pieces, rename the table into place, and open it. AdapError while chunks are pending."""
        if self.pending():
            raise AdapError(f"{self.folder}: {count(len(self.pending()), 'chunk')} still to be written")
        pieces = [self._piece(start).read_bytes().partition(b"\n") for start, _ in self.chunks()]
        write_bytes(
            self.partial / storage.SAMPLES, b"\n".join([pieces[0][0], b"".join(rows for *_, rows in pieces)])
        )
        samples = read_csv(self.partial / storage.SAMPLES, text=("sample_id", "split"))
        validation.check_samples(samples, self.n_samples, str(self.folder))
        write_json(self.partial / storage.META, self.plan["meta"])
        storage.seal(self.partial)
        install_folder(self.partial, self.folder)
        remove(self.folder / LEDGER)
        self._unlock()
        return OutcomeTable.load(self.folder, check=False)

    def close(self) -> None:
        """Let another process go on with the table, or begin it again."""
        self._unlock()

    def _cast(self, given: Mapping[str, ArrayLike]) -> dict[str, schema.Array]:
        """`given` in the files' types. FileError if an array is missing, unexpected, or would lose values."""
        for name in sorted(set(given) ^ set(self._files)):
            why = "missing" if name in self._files else "not in this table"
            raise FileError(f"{self.folder}: {name} is {why}")
        arrays = {name: np.asarray(value).astype(self._files[name].dtype) for name, value in given.items()}
        whole = [name for name, array in arrays.items() if array.dtype.kind in "iu"]
        for name in whole:
            if not np.array_equal(arrays[name], given[name]):
                raise FileError(f"{self.folder}: {name} does not fit in {arrays[name].dtype}")
        return arrays

    def _verify(self) -> None:
        """Compare done chunks with their markers: damaged last ones are forgotten, others refused."""
        done = [(start, stop) for start, stop in self.chunks() if self._marker(start).exists()]
        damaged = [chunk for chunk in done if self._damage(*chunk)]
        if damaged != done[len(done) - len(damaged) :]:
            start, stop = damaged[0]
            raise FileError(
                f"{self.partial}: rows {start}..{stop}: {self._damage(start, stop)} is damaged",
                "begin again with --overwrite",
            )
        for start, stop in damaged:
            self.repaired.append(
                f"rows {start}..{stop} were torn ({self._damage(start, stop)}) and will be redone"
            )
            remove(self._marker(start))

    def _damage(self, start: int, stop: int) -> str:
        """The first part of a done chunk that is not what was written, or ''."""
        try:
            told = read_json(self._marker(start))
            found = self._checksums(start, stop)
        except (FileError, OSError):
            return "ledger"
        return next(
            (name for name in found if not isinstance(told, dict) or told.get(name) != found[name]), ""
        )

    def _checksums(self, start: int, stop: int) -> dict[str, int]:
        sums = {name: zlib.crc32(file[start:stop].tobytes()) for name, file in self._files.items()}
        return sums | {"samples": zlib.crc32(self._piece(start).read_bytes())}

    def _marker(self, start: int) -> Path:
        return self.partial / LEDGER / f"{start:09d}.json"

    def _piece(self, start: int) -> Path:
        return self.partial / LEDGER / f"{start:09d}.csv"


def partial_folder(folder: str | Path) -> Path:
    """Where the table for `folder` lies while it is being written."""
    return Path(folder).with_name(Path(folder).name + ".partial")


def _read_plan(path: Path) -> dict[str, Any]:
    plan = read_json(path)
    try:
        counts = plan["n_samples"], plan["chunk"]
        names = set(plan["meta"]["arrays"])
    except (TypeError, KeyError) as error:
        raise FileError(f"{path}: not the plan of an outcome table: {error}") from error
    if not all(type(count) is int and count > 0 for count in counts) or not names <= set(schema.DTYPES):
        raise FileError(f"{path}: not the plan of an outcome table")
    return dict(plan)


def _refuse_existing(folder: Path, overwrite: bool) -> None:
    for path, hint in ((folder, "--overwrite"), (partial_folder(folder), "--resume or --overwrite")):
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists already", f"use {hint}")


def _refuse_empty(n_samples: int, chunk: int) -> None:
    if n_samples < 1 or chunk < 1:
        raise UsageError(f"a table needs 1 or more samples and rows per chunk, got {n_samples} and {chunk}")


def _refuse_other(plan: dict[str, Any], meta: Mapping[str, Any], n_samples: int | None, folder: Path) -> None:
    wanted, stored = storage.as_json(meta), plan["meta"]
    if n_samples is not None:
        wanted, stored = wanted | {"n_samples": n_samples}, stored | {"n_samples": plan["n_samples"]}
    told = differences(stored, wanted)
    if told:
        raise FileError(f"{folder}: begun with something else: {told}", "begin again with --overwrite")


def _refuse_other_configs(partial: Path, configs: pd.DataFrame) -> None:
    stored = read_csv(partial / storage.CONFIGS, text=("model",))
    axes = schema.id_columns(configs)
    if axes != schema.id_columns(stored) or not stored[axes].equals(configs[axes].reset_index(drop=True)):
        raise FileError(f"{partial}: begun with something else: configs", "begin again with --overwrite")


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The fields of `wanted` that differ in `stored`, by dotted names, as text; empty if none does."""
    there, here = _flat(stored), _flat(wanted)
    differing = [name for name, value in here.items() if name not in there or there[name] != value]
    return "; ".join(f"{name}: {there.get(name)} there, {here[name]} here" for name in differing)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, dict) and value
        leaves |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return leaves
