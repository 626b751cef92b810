"""What a dense task must say for a sweep to score it and a policy to run it: an adapter, not a fork."""

from abc import ABC, abstractmethod

from torch import Tensor

from policies.table.metrics import DatasetMetric


class DenseTask(ABC):
    """From maps to answers, scores, signals and metrics. n images, S signals, M summed columns.

    metric_columns, dataset_metrics, metrics_dtype: what a table keeps for the metrics of a whole data set.
    score_name: what the score per sample is; told: signals that a user is told of each map, the first of
    which tells how sure it is.
    """

    told: tuple[str, ...]
    signal_names: tuple[str, ...]
    score_name: str
    metric_columns: tuple[str, ...]
    metrics_dtype: str
    dataset_metrics: tuple[DatasetMetric, ...]

    @abstractmethod
    def check(self, targets: Tensor) -> None:
        """FileError unless targets (n, ...) hold only what the model can be scored against."""

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
