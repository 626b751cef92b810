"""Which dense task a model is for: a task is added here, by its adapter."""

from adapcli.errors import UsageError
from adapcli.evaluation.dense.centres import Centres
from adapcli.evaluation.dense.depth import Depth
from adapcli.evaluation.dense.segmentation import Segmentation
from adapcli.evaluation.dense.task import DenseTask
from adapcli.model.config import ModelConfig

TASKS: dict[str, type[DenseTask]] = {
    "segmentation": Segmentation,
    "depth": Depth,
    "centres": Centres,
}


def dense_task(config: ModelConfig, image_size: int) -> DenseTask:
    """The task of a model on images of `image_size` pixels a side. UsageError if it draws no maps."""
    if config.task not in TASKS:
        raise UsageError(f"a {config.task} model draws no maps")
    return TASKS[config.task].of(config, image_size)
