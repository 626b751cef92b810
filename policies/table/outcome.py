"""The contract between what scores configurations and what decides.

Legend: N samples, C configurations, S signals, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from policies.errors import FileError, UsageError
from policies.table import schema, storage, validation
from policies.table.recalibration import Recalibration
from policies.table.schema import Array


@dataclass(frozen=True, eq=False)
class OutcomeTable:
    """What every configuration did on every sample. A policy answers with an index into `configs`.

    configs: C rows; id columns (model, tokens, width, depth, ...), cost_flops (up to and including one
        readout), readout_flops, memory_bytes.
    increment_flops: (C, C) float64; what going from row a (already read out) to column b (read out) executes;
        infinite means it cannot be done.
    score: (N, C) float32 in [0, 1].   agreement: (N, C) float32; same answer as the full configuration.
        Without labels (`meta["labels"]` is False, see `labelled`) the score is the agreement.
    prediction, nll: (N, C); None where the task has no classes, nll also where there are no labels.
    signals: (N, C, S) float32; functions of that configuration's own readout.
    features: (N, F) float32; known before running anything; `feature_flops` is what they cost, per sample.
    samples: N rows; sample_id (distinct), target (-1 without labels), split (fit, tune, calibration or test).
    patches: (N, P', E) float16 or None.   latency: rows per configuration, batch, device, ... or None.
    meta: schema version, names, fingerprints, conventions of cost, seed, versions; JSON values only.
    recalibration: with which all outcomes were made from logits; None: from logits as they are.
    metrics: (N, C, M) or None: what metrics of a whole data set sum up; see policies.table.metrics.
    """

    configs: pd.DataFrame
    increment_flops: Array
    score: Array
    agreement: Array
    prediction: Array | None
    nll: Array | None
    signals: Array
    signal_names: tuple[str, ...]
    features: Array
    feature_names: tuple[str, ...]
    feature_flops: int
    samples: pd.DataFrame
    patches: Array | None
    latency: pd.DataFrame | None
    meta: dict[str, Any]
    recalibration: Recalibration | None = None
    metrics: Array | None = None

    @classmethod
    def from_arrays(
        cls,
        *,
        configs: pd.DataFrame,
        score: ArrayLike | None = None,
        samples: pd.DataFrame,
        increment_flops: ArrayLike | None = None,
        agreement: ArrayLike | None = None,
        prediction: ArrayLike | None = None,
        nll: ArrayLike | None = None,
        signals: ArrayLike | None = None,
        signal_names: Sequence[str] | None = None,
        features: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
        feature_flops: int = 0,
        patches: ArrayLike | None = None,
        latency: pd.DataFrame | None = None,
        meta: Mapping[str, Any] | None = None,
        recalibration: Recalibration | None = None,
        metrics: ArrayLike | None = None,
    ) -> "OutcomeTable":
        """Build and validate a table in memory.

        Left out: `score` means that there are no labels: it is the agreement then (give `prediction` or
        `agreement`), and meta says `labels: false`; `increment_flops` means that no configuration can continue from another; `agreement` is
        equality of the predictions (or, without them, of the scores) with the full configuration's; `samples`
        may lack sample_id (row numbers) and target (-1). Raises FileError naming the row or column at fault.
        """
        configs = configs.reset_index(drop=True)
        validation.check_configs(configs, "outcome table")
        answers = None if prediction is None else _classes(prediction)
        agreement = _agreement_of(agreement, answers, score, configs)
        scores = agreement if score is None else _floats(score, 2, "score")
        cells = np.zeros((*scores.shape, 0)) if signals is None else signals
        signals_ = _floats(cells, 3, "signals")
        features_ = _floats(np.zeros((len(scores), 0)) if features is None else features, 2, "features")
        table = cls(
            configs=configs,
            increment_flops=_increments(increment_flops, len(configs)),
            score=scores,
            agreement=agreement,
            prediction=answers,
            nll=None if nll is None else _floats(nll, 2, "nll"),
            signals=signals_,
            signal_names=_names(signal_names, "signal", signals_.shape[2]),
            features=features_,
            feature_names=_names(feature_names, "feature", features_.shape[1]),
            feature_flops=int(feature_flops),
            samples=_samples(samples),
            patches=None if patches is None else np.asarray(patches, np.float16),
            latency=latency,
            meta={**(meta or {}), **({} if score is not None else {"labels": False})},
            recalibration=recalibration,
            metrics=None if metrics is None else np.asarray(metrics),
        )
        table.validate()
        return replace(table, meta=storage.meta_of(table))

    @classmethod
    def load(cls, folder: str | Path, *, check: bool = True) -> "OutcomeTable":
        """Open a table's folder; arrays are memory-mapped, read-only, and nothing in them is executed.

        `check` reads every value once, a block at a time. Raises FileError naming the file, row or column.
        """
        return cls(**storage.read(Path(folder), check=check))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write a folder that appears whole or not at all. FileError if it exists, unless `overwrite`."""
        storage.write(self, Path(folder), overwrite=overwrite)

    def validate(self, source: str = "outcome table") -> None:
        """Raise FileError, naming the row or the column, unless the table keeps the contract."""
        storage.check_frames(vars(self), source)
        shapes = validation.expected_shapes(
            len(self.score),
            len(self.configs),
            len(self.signal_names),
            len(self.feature_names),
            None if self.patches is None else self.patches.shape[1:],
            storage.metric_columns(self.meta, self.metrics is not None, source),
        )
        arrays = self.arrays()
        validation.check_layout(arrays, shapes, source)
        validation.check_values(arrays, source)
        validation.check_labels(self.meta, arrays, self.samples, source)

    def arrays(self) -> dict[str, Array]:
        """The arrays with one row per sample that this table has, by name."""
        present = {name: getattr(self, name) for name in schema.DTYPES}
        return {name: array for name, array in present.items() if array is not None}

    def take(self, rows: Array) -> "OutcomeTable":
        """The table of some samples, loaded into memory. `rows`: indices (n,) or a mask (N,)."""
        parts: dict[str, Any] = {name: np.asarray(array[rows]) for name, array in self.arrays().items()}
        samples = self.samples.loc[rows] if np.asarray(rows).dtype == bool else self.samples.iloc[rows]
        table = replace(self, samples=samples.reset_index(drop=True), **parts)
        return replace(table, meta=storage.meta_of(table))

    def rows(self, split: str) -> Array:
        """Rows of the samples in `split`, ascending; none if it is empty. UsageError if it is unknown."""
        if split not in schema.SPLITS:
            raise UsageError(f"split {split}: not known", f"allowed: {', '.join(schema.SPLITS)}")
        return np.flatnonzero(self.samples["split"].to_numpy() == split)

    def signal(self, name: str) -> Array:
        """One signal, (N, C). UsageError naming those there are."""
        if name not in self.signal_names:
            raise UsageError(f"signal {name}: not in the table", f"it has: {', '.join(self.signal_names)}")
        values: Array = self.signals[:, :, self.signal_names.index(name)]
        return values

    @property
    def labelled(self) -> bool:
        """Whether the score knows right from wrong; False: it is the agreement with the full configuration."""
        return self.meta.get("labels", True) is True

    @cached_property
    def cost_flops(self) -> Array:
        """What each configuration costs, (C,) float64."""
        return self.configs["cost_flops"].to_numpy(np.float64)

    @cached_property
    def full(self) -> int:
        """The index of the most expensive configuration; among equals the last in order of the id columns."""
        return _full(self.configs)

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.score.shape[0])

    @property
    def n_configs(self) -> int:
        """C."""
        return len(self.configs)


def _full(configs: pd.DataFrame) -> int:
    dearest = configs[configs["cost_flops"] == configs["cost_flops"].max()]
    return int(dearest.sort_values(schema.id_columns(configs)).index[-1])


def _agreement_of(
    given: ArrayLike | None, answers: Array | None, score: ArrayLike | None, configs: pd.DataFrame
) -> Array:
    if given is None and answers is None and score is None:
        raise FileError("outcome table: neither score nor prediction nor agreement is given")
    if given is None:
        assert answers is not None or score is not None
        given = _agreement(_floats(score, 2, "score") if answers is None else answers, configs)
    return _floats(given, 2, "agreement")


def _agreement(answers: Array, configs: pd.DataFrame) -> Array:
    if answers.ndim != 2 or answers.shape[1] != len(configs):
        raise FileError(f"outcome table: answers of shape {answers.shape} for {len(configs)} configurations")
    return np.asarray(answers == answers[:, [_full(configs)]])


def _floats(values: ArrayLike | None, dimensions: int, name: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim != dimensions:
        raise FileError(
            f"outcome table: {name} is {array.ndim}-D of {array.dtype}, expected {dimensions}-D numbers"
        )
    return np.asarray(array, np.float32)


def _classes(values: ArrayLike) -> Array:
    """Predicted classes as int16 where they fit, else int32."""
    array = np.asarray(values)
    if array.dtype.kind not in "biu":
        raise FileError(f"outcome table: prediction is {array.dtype}, expected whole numbers")
    small = array.size == 0 or (array.min() >= -(2**15) and array.max() < 2**15)
    return np.asarray(array, np.int16 if small else np.int32)


def _increments(values: ArrayLike | None, n_configs: int) -> Array:
    if values is not None:
        return np.asarray(values, np.float64)
    alone = np.full((n_configs, n_configs), np.inf)
    np.fill_diagonal(alone, 0.0)
    return alone


def _names(names: Sequence[str] | None, what: str, count: int) -> tuple[str, ...]:
    return tuple(f"{what}_{i}" for i in range(count)) if names is None else tuple(names)


def _samples(samples: pd.DataFrame) -> pd.DataFrame:
    samples = samples.reset_index(drop=True)
    if "sample_id" not in samples:
        samples["sample_id"] = [str(row) for row in range(len(samples))]
    if "target" not in samples:
        samples["target"] = -1
    return samples.astype({"sample_id": "str"})
