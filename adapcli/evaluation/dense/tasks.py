"""Which dense task a model is for."""

from adapcli.errors import UsageError
from adapcli.evaluation.dense.depth import Depth
from adapcli.evaluation.dense.segmentation import Segmentation
from adapcli.evaluation.dense.task import DenseTask
from adapcli.model.config import ModelConfig


def dense_task(config: ModelConfig, image_size: int) -> DenseTask:
    """The task of a model on images of `image_size` pixels a side. UsageError if it draws no maps."""
    if config.task == "segmentation":
        assert config.num_classes is not None
        return Segmentation(config.num_classes, image_size**2)
    if config.task == "depth":
        return Depth(config.min_depth, config.max_depth)
    raise UsageError(f"a {config.task} model draws no maps")
