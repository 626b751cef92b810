"""What a training run of a dense task watches: its metrics at every configuration, one pass per width.

C configurations, K classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from adapcli.data.dataset import Dataset
from adapcli.data.dense import IGNORE
from adapcli.distributed.group import ALONE, Group
from adapcli.evaluation.dense.depth import depth_sums
from adapcli.evaluation.dense.segmentation import class_counts
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration

EVALUATION_BATCH = 64


class ClassScores:
    """Segmentation. sums: of each class, pixels that both call it, then those that either does; all pixels.

    miou: the mean over the classes that occur in targets or answers; pixel_accuracy; both in [0, 1].
    """

    def __init__(self, config: ModelConfig) -> None:
        assert config.num_classes is not None
        self.classes = config.num_classes
        self.sums = torch.zeros(2 * config.num_classes + 1, dtype=torch.float64)

    def add(self, maps: Tensor, target_BHW: Tensor) -> None:
        """Class logits (B, K, H, W) against classes."""
        both, either = class_counts(maps.argmax(1), target_BHW, self.classes)
        self.sums[:-1] += torch.cat([both, either], 1).sum(0).cpu()
        self.sums[-1] += float((target_BHW != IGNORE).sum())

    def scores(self) -> dict[str, float]:
        """The metrics by name."""
        both, either = self.sums[:-1].view(2, -1)
        seen = either > 0
        miou = float((both[seen] / either[seen]).mean())
        return {"miou": miou, "pixel_accuracy": float(both.sum() / self.sums[-1].clamp_min(1))}


class DepthScores:
    """Depth. sums: of `depth_sums`, over all known pixels.

    rmse in metres; abs_rel; delta_1: the share of pixels within a factor of 1.25.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.farthest, self.sums = config.max_depth, torch.zeros(4, dtype=torch.float64)

    def add(self, maps: Tensor, target_BHW: Tensor) -> None:
        """Metres (B, 1, H, W) against metres."""
        self.sums += depth_sums(maps[:, 0], target_BHW, self.farthest).sum(0).cpu()

    def scores(self) -> dict[str, float]:
        """The metrics by name."""
        known, close, squares, relative = self.sums.tolist()
        n = max(known, 1)
        return {"rmse": (squares / n) ** 0.5, "abs_rel": relative / n, "delta_1": close / n}


@torch.no_grad()
def dense_scores(
    model: AdaPerceiver, data: Dataset, configurations: list[Configuration], group: Group = ALONE
) -> list[dict[str, float]]:
    """The metrics of each configuration over all of the data, by name; processes share the batches."""
    kind = DepthScores if model.config.task == "depth" else ClassScores
    metrics = {configuration: kind(model.config) for configuration in configurations}
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
