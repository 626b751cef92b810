"""What a training run of a dense task watches: its metrics at every configuration, one pass per width.

C configurations, K channels of a map.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from adapcli.data.dataset import Dataset
from adapcli.distributed.group import ALONE, Group
from adapcli.evaluation.dense.task import DenseTask
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration

EVALUATION_BATCH = 64


class MapScores:
    """Metrics of maps against targets. sums: of the task's metric columns, over all images seen."""

    def __init__(self, task: DenseTask) -> None:
        self.task, self.sums = task, torch.zeros(len(task.metric_columns), dtype=torch.float64)

    def add(self, maps: Tensor, targets: Tensor) -> None:
        """Maps (B, K, H, W) against the targets of the same images."""
        _, columns = self.task.score(self.task.answers(maps), targets)
        self.sums += columns.sum(0).cpu()

    def scores(self) -> dict[str, float]:
        """The metrics by name; see `DenseTask.summary`."""
        return self.task.summary(self.sums)


@torch.no_grad()
def dense_scores(
    model: AdaPerceiver, data: Dataset, configurations: list[Configuration], group: Group = ALONE
) -> list[dict[str, float]]:
    """The metrics of each configuration over all of the data, by name; processes share the batches."""
    task = dense_task(model.config, model.preprocessing.size)
    metrics = {configuration: MapScores(task) for configuration in configurations}
    starts = range(0, len(data), EVALUATION_BATCH)
    for start in starts[group.rank :: group.size]:
        batch = data.batch(start, min(start + EVALUATION_BATCH, len(data)))
        images, target = batch.images.to(model.device), batch.targets.to(model.device)
        for configuration, maps in all_maps(model, images, configurations):
            metrics[configuration].add(maps, target)
    for metric in metrics.values():
        group.sum(metric.sums)
    return [metrics[configuration].scores() for configuration in configurations]


def all_maps(
    model: AdaPerceiver, images: Tensor, configurations: list[Configuration]
) -> Iterator[tuple[Configuration, Tensor]]:
    """Each configuration with the maps of a batch of images, in any order; one run of the blocks per width.

    The model must have the prefix property, and the configurations be of its grid.
    """
    patches, size = model.embed(images), (images.shape[2], images.shape[3])
    tokens, depth = max(c.tokens for c in configurations), max(c.depth for c in configurations)
    read = model.read(patches, tokens)
    for width in sorted({c.width for c in configurations}):
        plan = model.plan(Configuration(tokens, width, depth), len(images))
        for block, z in enumerate(model.states(read, plan), start=1):
            for c in configurations:
                if (c.width, c.depth) == (width, block):
                    maps = model.write_dense(z[:, : c.tokens], patches, size=size).maps
                    assert maps is not None
                    yield c, maps
