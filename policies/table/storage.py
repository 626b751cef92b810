"""An outcome table as a folder: one `.npy` per array, csv for rows people read, `meta.json` for the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from policies.errors import FileError
from policies.files import ArrayFile, atomic_folder, read_csv, read_json, write_csv, write_json
from policies.table import metrics, recalibration, schema, validation

if TYPE_CHECKING:
    from policies.table.outcome import OutcomeTable

CONFIGS, SAMPLES, LATENCY = "configs.csv", "samples.csv", "latency.csv"
INCREMENTS, META = "increment_flops.npy", "meta.json"


def own_meta(
    configs: pd.DataFrame,
    signal_names: tuple[str, ...],
    feature_names: tuple[str, ...],
    feature_flops: int,
    arrays: Mapping[str, validation.Rows],
) -> dict[str, Any]:
    """The part of `meta` that the table itself is responsible for."""
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "id_columns": schema.id_columns(configs),
        "signal_names": list(signal_names),
        "feature_names": list(feature_names),
        "feature_flops": feature_flops,
        "arrays": {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in arrays.items()},
    }


def meta_of(table: "OutcomeTable") -> dict[str, Any]:
    """The table's `meta` with its own part brought up to date. FileError if the rest is not JSON."""
    own = own_meta(
        table.configs, table.signal_names, table.feature_names, table.feature_flops, table.arrays()
    )
    return as_json(recalibration.stamped({**table.meta, **own}, table.recalibration))


def as_json(meta: Mapping[str, Any]) -> dict[str, Any]:
    """`meta` as it will read back from a file: tuples become lists. FileError for what JSON cannot say."""
    try:
        content: dict[str, Any] = json.loads(json.dumps(dict(meta), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise FileError(f"outcome table: meta is not JSON: {error}") from error
    return content


def write_frames(
    folder: Path, configs: pd.DataFrame, increment_flops: schema.Array, latency: pd.DataFrame | None
) -> None:
    """Write the parts whose size does not depend on the number of samples."""
    write_csv(folder / CONFIGS, configs)
    ArrayFile.create(folder / INCREMENTS, increment_flops.shape, np.float64).write(0, increment_flops)
    if latency is not None:
        write_csv(folder / LATENCY, latency)


def write(table: "OutcomeTable", folder: Path, *, overwrite: bool) -> None:
    """Validate and write `table` to `folder`, a block at a time, renamed into place at the end."""
    table.validate()
    with atomic_folder(folder, overwrite=overwrite) as scratch:
        write_frames(scratch, table.configs, table.increment_flops, table.latency)
        if table.recalibration is not None:
            table.recalibration.save(scratch)
        write_csv(scratch / SAMPLES, table.samples)
        for name, array in table.arrays().items():
            file = ArrayFile.create(scratch / f"{name}.npy", array.shape, array.dtype)
            for start, block in validation.blocks(array):
                file.write(start, block)
        write_json(scratch / META, meta_of(table))


def read(folder: Path, *, check: bool) -> dict[str, Any]:
    """The fields of the table in `folder`, arrays memory-mapped. FileError naming file, row or column."""
    if not folder.is_dir():
        raise FileError(f"{folder}: no such outcome table", "make one with: adap sweep")
    meta = _read_meta(folder / META)
    files = {name: ArrayFile.open(path) for name, path in array_paths(folder).items()}
    fields: dict[str, Any] = {
        "configs": read_csv(folder / CONFIGS, text=("model",)),
        "increment_flops": ArrayFile.open(folder / INCREMENTS).map(),
        "samples": read_csv(folder / SAMPLES, text=("sample_id", "split")),
        "latency": read_csv(folder / LATENCY) if (folder / LATENCY).exists() else None,
        "signal_names": tuple(meta["signal_names"]),
        "feature_names": tuple(meta["feature_names"]),
        "feature_flops": meta["feature_flops"],
        "meta": meta,
    }
    kept = recalibration.load(folder, meta.get("fingerprints", {}), len(fields["configs"]))
    fields["recalibration"] = kept
    missing = [name for name in meta["id_columns"] if name not in fields["configs"].columns]
    if missing:
        raise FileError(f"{folder}: configs: column {missing[0]} is missing")
    check_frames(fields | {"score": files["score"]}, str(folder))
    _check_files(files, fields, str(folder), values=check)
    return fields | {name: files[name].map() if name in files else None for name in schema.DTYPES}


def array_paths(folder: Path) -> dict[str, Path]:
    """The arrays with one row per sample in `folder`. FileError if one that every table has is missing."""
    paths = {name: folder / f"{name}.npy" for name in schema.DTYPES}
    return {name: path for name, path in paths.items() if name in schema.REQUIRED or path.exists()}


def check_frames(fields: Mapping[str, Any], source: str) -> None:
    """FileError unless the parts other than the per-sample arrays keep the contract."""
    validation.check_configs(fields["configs"], source)
    validation.check_increments(fields["increment_flops"], len(fields["configs"]), source)
    validation.check_samples(fields["samples"], fields["score"].shape[0], source)
    for what in ("signal", "feature"):
        validation.check_names(fields[f"{what}_names"], f"{what}s", source)
    if not fields["feature_flops"] >= 0:
        raise FileError(f"{source}: feature_flops: {fields['feature_flops']} is not a cost")
    validation.check_recalibration(fields["recalibration"], len(fields["configs"]), fields["meta"], source)


def _check_files(files: dict[str, ArrayFile], fields: dict[str, Any], source: str, *, values: bool) -> None:
    signals, features = fields["signal_names"], fields["feature_names"]
    patches = files["patches"].shape[1:] if "patches" in files else None
    n_samples, n_configs = files["score"].shape[0], len(fields["configs"])
    columns = metric_columns(fields["meta"], "metrics" in files, source)
    shapes = validation.expected_shapes(n_samples, n_configs, len(signals), len(features), patches, columns)
    validation.check_layout(files, shapes, source)
    if values:
        validation.check_values(files, source)
    validation.check_labels(fields["meta"], files, fields["samples"], source, values=values)


def metric_columns(meta: Mapping[str, Any], kept: bool, source: str) -> int | None:
    """How many columns of metrics `meta` declares, None if there are none. FileError if it does not fit."""
    metrics.declared(meta, source)
    if kept != ("metrics" in meta):
        raise FileError(f"{source}: metrics are {'not declared' if kept else 'declared, but missing'}")
    return len(meta["metrics"]["columns"]) if kept else None


def _read_meta(path: Path) -> dict[str, Any]:
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise FileError(f"{path}: expected an object")
    version = meta.get("schema_version")
    if version != schema.SCHEMA_VERSION:
        raise FileError(f"{path}: schema_version {version!r}, this version reads {schema.SCHEMA_VERSION}")
    for name in (*("id_columns", "signal_names", "feature_names"), *({"class_names"} & set(meta))):
        if not (isinstance(meta.get(name), list) and all(isinstance(value, str) for value in meta[name])):
            raise FileError(f"{path}: {name}: expected a list of names")
    for name in ("fingerprints", "full_configuration"):
        if not isinstance(meta.get(name, {}), dict):
            raise FileError(f"{path}: {name}: expected an object")
    if type(meta.get("feature_flops")) is not int:
        raise FileError(f"{path}: feature_flops: expected a whole number")
    return meta
