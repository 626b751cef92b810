"""Accuracy of every configuration of a classifier, one pass per width: what a training run watches."""

import torch
from torch import Tensor

from adapcli.data.dataset import Dataset
from adapcli.distributed.group import ALONE, Group
from adapcli.evaluation.passes import GridPass
from adapcli.model.perceiver import AdaPerceiver

EVALUATION_BATCH = 256


@torch.no_grad()
def grid_accuracy(model: AdaPerceiver, data: Dataset, group: Group = ALONE) -> Tensor:
    """Top-1 accuracy in [0, 1] of every configuration: (tokens, widths, depths), axes in ascending order.

    Several processes share the batches, and all of them get the answer, which is that of one.
    """
    space = model.config.space
    grid, hits = GridPass(model, list(space)), torch.zeros(len(space), dtype=torch.float64)
    starts = range(0, len(data), EVALUATION_BATCH)
    for start in starts[group.rank :: group.size]:
        batch = data.batch(start, min(start + EVALUATION_BATCH, len(data)))
        target = batch.targets.to(model.device)
        for columns, logits in grid.outputs(batch.images.to(model.device)):
            hits[list(columns)] += (logits.argmax(-1) == target[:, None]).sum(0).cpu()
    return (group.sum(hits) / len(data)).view(len(space.tokens), len(space.widths), len(space.depths))


def summary(accuracy: Tensor) -> dict[str, float]:
    """The corners of the grid by name: where the axes matter shows in the differences."""
    corners = {"full": (-1, -1, -1), "cheapest": (0, 0, 0), "fewest_tokens": (0, -1, -1)}
    corners |= {"shallowest": (-1, -1, 0), "narrowest": (-1, 0, -1)}
    return {f"accuracy_{name}": float(accuracy[corner]) for name, corner in corners.items()}
