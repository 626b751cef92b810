"""Fill an outcome table: every configuration on every sample, a chunk of samples at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from adapcli import __version__
from adapcli.data.features import feature_flops, feature_names
from adapcli.distributed.group import ALONE, Group
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.patches import check_side, pool_flops
from adapcli.evaluation.recalibration import Recalibrated
from adapcli.measure.device import describe
from adapcli.model.flops import both_conventions, executed_flops, increments, memory_bytes, readout_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import dtype_name
from adapcli.space import ConfigSpace, Configuration
from adapcli.sweep.fingerprints import checkpoint_fingerprint, refuse_other, refuse_other_recalibration
from adapcli.sweep.samples import Samples
from adapcli.sweep.tasks import Scoring, check_task, scoring_of
from policies.table import OutcomeTable, OutcomeTableWriter
from policies.table.recalibration import FINGERPRINT, Recalibration
from policies.table.writer import partial_folder

LARGEST_CHUNK = 512
CHUNK_FLOPS, CHUNK_BYTES = 2e13, 1 << 26
"""What a killed sweep loses at most, some minutes on two processors; and what waits in memory to be kept."""

Progress = Callable[[int, int], object]


def _silent(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Sweep:
    """A model that names classes or draws maps, the samples to score it on, and the configurations to score.

    The full configuration is always among them, since `agreement` is measured against it. `batch` samples run
    at once, fewer where maps need the memory; a table's bits depend on it, its values only in rounding.
    `dtype` is that of the run (bfloat16 by autocast); outcomes are stored in float32. `compiled` is only
    told: whether the model's blocks are.
    `patches`: also store the patch embeddings, averaged into this many along each side; 0: none.
    `recalibration`: everything is worked out from logits so changed, one row per configuration (see
    `sweep.recalibrating`); `recalibration_facts`: how it came about, JSON values. `workers`: processes that
    read samples ahead; the table is the same without.
    """

    model: AdaPerceiver
    samples: Samples
    space: ConfigSpace
    name: str = "model"
    batch: int = 64
    dtype: torch.dtype = torch.float32
    compiled: bool = False
    patches: int = 0
    recalibration: Recalibration | None = None
    recalibration_facts: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 0

    def __post_init__(self) -> None:
        check_task(self.model, self.name)
        _check_classes(self.model, self.samples, self.name)
        if self.batch < 1:
            raise UsageError(f"batch {self.batch}: expected 1 or more")
        if self.patches:
            check_side(self.model.config, self.patches, self.image_size)

    @cached_property
    def configurations(self) -> list[Configuration]:
        """The columns of the table: the space in its order, then the full configuration if that lacks it."""
        full = self.model.full_configuration
        grid = list(self.space)
        return grid if full in grid else [*grid, full]

    @cached_property
    def scoring(self) -> Scoring:
        """How answers become rows."""
        full = self.configurations.index(self.model.full_configuration)
        return scoring_of(self.model, self.configurations, full, self.batch)

    @property
    def grid(self) -> Any:
        """The model made ready to run them all."""
        return self.scoring.grid

    @property
    def flops_per_sample(self) -> int:
        """FLOPs of scoring one sample in every configuration."""
        return self.scoring.flops

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels."""
        return self.model.preprocessing.size

    @property
    def chunk(self) -> int:
        """Rows that are stored together."""
        held = len(self.configurations) * self.scoring.cell_bytes
        fitting = max(1, min(int(CHUNK_FLOPS / self.flops_per_sample), CHUNK_BYTES // held))
        return min(LARGEST_CHUNK, 1 << (fitting.bit_length() - 1))

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """What a table must have been begun with to be continued."""
        axes = {"tokens": self.space.tokens, "widths": self.space.widths, "depths": self.space.depths}
        found = {
            "checkpoint": checkpoint_fingerprint(self.model),
            "data": self.samples.fingerprints,
            "sizes": self.samples.sizes,
            "seed": self.samples.facts.get("seed"),
            "grid": {name: list(values) for name, values in axes.items()},
            "dtype": dtype_name(self.dtype),
            "device": self.model.device.type,
        }
        if self.recalibration is not None:
            found[FINGERPRINT] = self.recalibration.digest
        return found | ({"patches": self.patches} if self.patches else {})

    @cached_property
    def recalibrated(self) -> Recalibrated | None:
        """The recalibration on the model's device."""
        return None if self.recalibration is None else Recalibrated.of(self.recalibration, self.model.device)

    def run(
        self,
        folder: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        progress: Progress = _silent,
        warn: Callable[[str], object] = _silent,
        group: Group = ALONE,
    ) -> OutcomeTable:
        """Write the table to `folder`; progress(samples done, samples in all), warn(what was repaired).

        group: the processes that share the chunks; the table is the same, and the first one finishes it.

        resume: continue a table that was interrupted, start one if there is none, return a finished one.
        Raises UsageError if a table is there and neither resume nor overwrite is set, FileError if it was
        begun with other fingerprints or is damaged.
        """
        if resume:
            refuse_other_recalibration(folder, self.recalibration)
        if resume and folder.is_dir() and not partial_folder(folder).is_dir():
            return self._finished(folder)
        writer = self._shared(folder, group, resume=resume, overwrite=overwrite)
        for text in writer.repaired:
            warn(text)
        pending, count = writer.pending(), group.counter()
        before = len(self.samples) - sum(stop - start for start, stop in pending)
        group.barrier()
        pieces = (pending[piece] for piece in group.pieces(len(pending)))
        with self.samples.ahead(pieces, self.scoring.batch, self.workers) as mine:
            for start, stop in mine:
                parts = []
                for part in self.rows(start, stop):
                    parts.append(part)
                    progress(before + count(len(part["sample_ids"])), len(self.samples))
                writer.write(start, stop, **_joined(parts))
        group.barrier()
        if group.first:
            writer.finish()
        group.barrier()
        return OutcomeTable.load(folder, check=False)

    def rows(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Score rows start..stop-1: what the table's writer takes, a batch at a time."""
        how = {"dtype": self.dtype, "patches": self.patches, "recalibrated": self.recalibrated}
        for split, batch in self.samples.batches(start, stop, self.scoring.batch):
            rows = self.scoring(batch, **how)  # type: ignore[arg-type]
            yield {**rows, "sample_ids": batch.sample_ids, "splits": [split] * len(batch.sample_ids)}

    def configs(self) -> pd.DataFrame:
        """One row per configuration: what it is and what it costs, executed convention."""
        config, size = self.model.config, self.image_size
        return pd.DataFrame(
            [
                {
                    "model": self.name,
                    "tokens": c.tokens,
                    "width": c.width,
                    "depth": c.depth,
                    "cost_flops": executed_flops(config, c, size),
                    "readout_flops": readout_flops(config, c.tokens, size),
                    "memory_bytes": memory_bytes(config, c, size),
                }
                for c in self.configurations
            ]
        )

    def meta(self) -> dict[str, Any]:
        """How the table came about. JSON values only."""
        model, full = self.model, self.model.full_configuration
        return {
            "fingerprints": self.fingerprints,
            **self.scoring.facts,
            **({} if self.samples.labelled else {"labels": False}),
            "class_names": list(self.samples.class_names),
            "model": {"name": self.name, "config": model.config.to_dict()},
            "preprocessing": model.preprocessing.to_dict(),
            "data": {**self.samples.facts, "sizes": self.samples.sizes, "skipped": len(self.samples.skipped)},
            "seed": self.samples.facts.get("seed"),
            "conventions": {"flops": "2 per multiply-add", "readout": "folded", "attention": "block",
                            "image_size": self.image_size},
            "full_configuration": {"tokens": full.tokens, "width": full.width, "depth": full.depth,
                                   **both_conventions(model.config, full, self.image_size)},
            "patches": self._patches(),
            "batch": self.batch,
            "compiled": self.compiled,
            "device": describe(model.device),
            "versions": {"adap": __version__, "torch": str(torch.__version__)},
            **({"recalibration": dict(self.recalibration_facts)} if self.recalibration else {}),
        }  # fmt: skip

    def _patches(self) -> dict[str, int] | None:
        """What the stored patches are: a grid of side x side, and what averaging them costs a sample."""
        if not self.patches:
            return None
        flops = pool_flops(self.model.config, self.patches, self.image_size)
        return {"side": self.patches, "pool_flops": flops}

    def _shared(self, folder: Path, group: Group, *, resume: bool, overwrite: bool) -> OutcomeTableWriter:
        """The writer of each process: the first one begins or opens the table."""
        group.agree([self.fingerprints, self.batch, self.chunk], "sweep")
        writer = self._writer(folder, resume=resume, overwrite=overwrite) if group.first else None
        group.barrier()
        return writer or OutcomeTableWriter.attach(folder)

    def _writer(self, folder: Path, *, resume: bool, overwrite: bool) -> OutcomeTableWriter:
        if resume and partial_folder(folder).is_dir():
            meta = {"fingerprints": self.fingerprints}
            return OutcomeTableWriter.open(
                folder, meta=meta, n_samples=len(self.samples), configs=self.configs()
            )
        config = self.model.config
        return OutcomeTableWriter.create(
            folder,
            n_samples=len(self.samples),
            configs=self.configs(),
            increment_flops=increments(config, self.configurations, self.image_size),
            signal_names=self.scoring.signal_names,
            feature_names=feature_names(),
            feature_flops=feature_flops((self.image_size, self.image_size), config.in_channels),
            meta=self.meta(),
            chunk=self.chunk,
            patches_shape=(self.patches**2, config.embed_dim) if self.patches else None,
            **self.scoring.layout,
            recalibration=self.recalibration,
            overwrite=overwrite,
        )

    def _finished(self, folder: Path) -> OutcomeTable:
        table = OutcomeTable.load(folder)
        refuse_other(folder, table.meta.get("fingerprints", {}), self.fingerprints)
        return table


def _check_classes(model: AdaPerceiver, samples: Samples, name: str) -> None:
    known, given = list(model.class_names), samples.class_names
    if not samples.labelled or (model.config.is_dense and not given):
        return  # maps of amounts have no classes
    if len(given) != model.config.num_classes:
        raise FileError(f"{name} has {model.config.num_classes} classes, the data {len(given)}")
    if known and known != given:
        odd = next((a, b) for a, b in zip(known, given, strict=True) if a != b)
        raise FileError("{}: class {!r} of the checkpoint is {!r} in the data".format(name, *odd))


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
