"""What a dense task must say to be trained, swept, decided about and shown: an adapter, not a fork."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from adapcli.evaluation.dense.drawing import Map, Pixels
from adapcli.evaluation.dense.losses import LossOptions, Total, as_it_is
from adapcli.model.config import ModelConfig
from policies.table.metrics import DatasetMetric


class DenseTask(ABC):
    """From maps to losses, answers, scores, signals, files. n images, S signals, M summed columns.

    metric_columns, dataset_metrics, metrics_dtype: what a table keeps for the metrics of a whole data set.
    score_name: what the score per sample is; told: signals that a user is told of each map, the first of
    which tells how sure it is, as a share. headline, headline_unit: the one of `summary` that training is
    told by. targets_name: of what is learned from, in words; moves_with_pixels: whether targets stay true
    when a picture is cropped or mirrored and they with it. suffix: of the files that hold answers.
    """

    told: ClassVar[tuple[str, ...]]
    signal_names: tuple[str, ...]
    score_name: str
    metric_columns: tuple[str, ...]
    metrics_dtype: str
    dataset_metrics: tuple[DatasetMetric, ...]
    headline: ClassVar[str]
    headline_unit: ClassVar[str] = "%"
    targets_name: ClassVar[str]
    moves_with_pixels: ClassVar[bool] = True
    suffix: ClassVar[str] = ".png"

    @classmethod
    @abstractmethod
    def of(cls, config: ModelConfig, image_size: int) -> Self:
        """The task of a model on images of `image_size` pixels a side."""

    @abstractmethod
    def check(self, targets: Tensor) -> None:
        """FileError unless targets (n, ...) hold only what the model can be scored against."""

    @abstractmethod
    def check_loss(self, options: LossOptions) -> None:
        """UsageError for options that say nothing to the loss."""

    @abstractmethod
    def blank(self, images: int, size: int) -> Tensor:
        """Targets (images, ..., size, size) of which no pixel counts."""

    @abstractmethod
    def loss(self, maps: Tensor, targets: Tensor, options: LossOptions, total: Total = as_it_is) -> Tensor:
        """The loss of maps (B, K, H, W), a scalar in float32. total: over processes that share a batch."""

    @abstractmethod
    def answers(self, maps: Tensor) -> Tensor:
        """What a user gets of maps (n, K, H, W)."""

    @abstractmethod
    def signals(self, coarse: Tensor) -> Tensor:
        """What a readout says about itself: the head's coarse maps (n, K, r, c) -> (n, S) float32."""

    @abstractmethod
    def score(self, answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Scores in [0, 1], (n,), and the columns to sum, (n, M)."""

    @abstractmethod
    def agreement(self, answers: Tensor, full: Tensor) -> Tensor:
        """How far answers are the full configuration's, in [0, 1]: (n,)."""

    @abstractmethod
    def summary(self, sums: Tensor) -> dict[str, float]:
        """The metrics that training tells, by name, from columns summed over all images (M,) float64."""

    @abstractmethod
    def file_facts(self, class_names: Sequence[str]) -> dict[str, Any]:
        """How to read a file of `encoded`, for JSON."""

    @abstractmethod
    def encoded(self, answer: Map) -> bytes:
        """One answer as a file that other programs read."""

    @abstractmethod
    def coloured(self, answer: Map, target: Map) -> Pixels:
        """One answer, or the target itself, as a picture (H, W, 3) to be seen beside the target's."""
