"""What a sweep does differently for models that name a class and for models that draw a map.

B batch, C configurations, S signals, M columns that metrics of the data set sum up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from adapcli.data.dataset import Batch
from adapcli.data.features import image_features
from adapcli.errors import FileError
from adapcli.evaluation.dense.passes import DenseGridPass, fitting_batch, grid_flops
from adapcli.evaluation.dense.task import DenseTask
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.evaluation.outcomes import SIGNAL_NAMES
from adapcli.evaluation.passes import GridPass, pass_flops
from adapcli.evaluation.patches import pooled
from adapcli.evaluation.recalibration import Recalibrated
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast
from adapcli.space import Configuration
from adapcli.sweep.scoring import Rows, score_batch
from policies.table import metrics


class Scoring(Protocol):
    """How a model's answers become rows of a table.

    grid: the model made ready; flops: of scoring one image in every configuration; batch: images at once;
    cell_bytes: stored per sample and configuration; facts: what the table's meta says; layout: what its
    writer is told.
    """

    grid: Any
    signal_names: tuple[str, ...]
    flops: int
    batch: int
    cell_bytes: int
    facts: dict[str, Any]
    layout: dict[str, Any]

    def __call__(
        self, batch: Batch, *, dtype: torch.dtype, patches: int, recalibrated: Recalibrated | None
    ) -> Rows:
        """The table's arrays by name, B rows each; see `scoring.score_batch`."""


def check_task(model: AdaPerceiver, name: str) -> None:
    """FileError for a model that neither names classes nor draws maps."""
    if not (model.config.classifies or model.config.is_dense):
        told = f"{name}: this checkpoint is for {model.config.task}"
        raise FileError(told, "a sweep scores classes and maps")


def scoring_of(
    model: AdaPerceiver, configurations: Sequence[Configuration], full: int, batch: int
) -> Scoring:
    """How to score a model. full: the column that others are compared with; batch: at most so many images."""
    kind = ClassScoring if model.config.classifies else MapScoring
    return kind(model, configurations, full, batch)


class ClassScoring:
    """One class per image."""

    signal_names: tuple[str, ...] = SIGNAL_NAMES

    def __init__(
        self, model: AdaPerceiver, configurations: Sequence[Configuration], full: int, batch: int
    ) -> None:
        self.grid, self.full, self.batch = GridPass(model, configurations), full, batch
        self.flops = pass_flops(model.config, self.grid.passes, model.preprocessing.size)
        small = (model.config.num_classes or 0) <= 2**15
        self.cell_bytes = 4 * (3 + len(SIGNAL_NAMES)) + (2 if small else 4)
        self.facts: dict[str, Any] = {"task": "classification"}
        self.layout: dict[str, Any] = {"prediction_dtype": "int16" if small else "int32"}

    def __call__(
        self, batch: Batch, *, dtype: torch.dtype, patches: int, recalibrated: Recalibrated | None
    ) -> Rows:
        """See Scoring."""
        given = {"dtype": dtype, "patches": patches, "recalibrated": recalibrated}
        rows = score_batch(self.grid, batch, full=self.full, **given)  # type: ignore[arg-type]
        # Rows wait until their chunk is complete: a view would keep a worker's shared memory, and its file
        # descriptor, open for every batch of it.
        return rows | {"targets": batch.targets.numpy().copy()}


@dataclass(frozen=True)
class _Kept:
    """Arrays of a batch that fill up as maps are drawn: (B, C), (B, C, S), (B, C, M)."""

    score: torch.Tensor
    agreement: torch.Tensor
    signals: torch.Tensor
    metrics: torch.Tensor

    @classmethod
    def empty(cls, samples: int, configurations: int, task: DenseTask, device: torch.device) -> "_Kept":
        shape, exact = (samples, configurations), torch.float64
        return cls(
            torch.empty(shape, device=device),
            torch.empty(shape, device=device),
            torch.empty((*shape, len(task.signal_names)), device=device),
            torch.empty((*shape, len(task.metric_columns)), device=device, dtype=exact),
        )


class MapScoring:
    """A map per image, scored pixel by pixel; a few maps are held at a time."""

    def __init__(
        self, model: AdaPerceiver, configurations: Sequence[Configuration], full: int, batch: int
    ) -> None:
        self.model, size = model, model.preprocessing.size
        self.grid = DenseGridPass(model, configurations, full)
        self.task = dense_task(model.config, size)
        self.signal_names = self.task.signal_names
        self.flops = grid_flops(model.config, self.grid.passes, size)
        self.batch = fitting_batch(model.config, self.grid.passes, size, batch)
        columns = len(self.task.metric_columns)
        self.cell_bytes = 4 * (2 + len(self.signal_names)) + columns * self._metrics_type.itemsize
        self.facts: dict[str, Any] = {
            "task": model.config.task,
            "score_name": self.task.score_name,
            "metrics": metrics.described(self.task.metric_columns, self.task.dataset_metrics),
        }
        self.layout: dict[str, Any] = {"classes": False, "metrics_dtype": self.task.metrics_dtype}

    @cached_property
    def _metrics_type(self) -> np.dtype[Any]:
        return np.dtype(self.task.metrics_dtype)

    def __call__(
        self, batch: Batch, *, dtype: torch.dtype, patches: int, recalibrated: Recalibrated | None
    ) -> Rows:
        """See Scoring. FileError for targets that the model cannot be scored against."""
        device = self.model.device
        self.task.check(batch.targets)
        with torch.inference_mode(), autocast(device, dtype):
            images = batch.images.to(device)
            embedded = self.model.embed(images)
            found = self._drawn(images, embedded, batch.targets.to(device))
            kept = {"patches": pooled(embedded, patches).half()} if patches else {}
        rows: Rows = {name: values.cpu().numpy() for name, values in (vars(found) | kept).items()}
        rows["metrics"] = rows["metrics"].astype(self._metrics_type)
        rows["features"] = image_features(batch.images).numpy()
        return rows | {"targets": np.full(len(images), -1)}

    def _drawn(self, images: torch.Tensor, embedded: torch.Tensor, targets: torch.Tensor) -> _Kept:
        found = _Kept.empty(len(images), self.grid.n_configs, self.task, images.device)
        full: list[torch.Tensor] = []  # answered first
        reference = torch.empty(0)
        for column, start, stop, output in self.grid.outputs(images, embedded):
            assert output.maps is not None
            assert output.coarse is not None
            answers, at = self.task.answers(output.maps), slice(start, stop)
            if column == self.grid.full:
                full.append(answers)
                reference = torch.cat(full)
            found.score[at, column], found.metrics[at, column] = self.task.score(answers, targets[at])
            found.agreement[at, column] = self.task.agreement(answers, reference[at])
            found.signals[at, column] = self.task.signals(output.coarse)
        return found
