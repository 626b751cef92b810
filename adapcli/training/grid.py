"""Accuracy of every configuration of a classifier, one pass per width: what a training run watches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from adapcli.data.dataset import Dataset
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.readout import FoldedReadout
from adapcli.space import ConfigSpace, Configuration

EVALUATION_BATCH = 256


@torch.no_grad()
def grid_accuracy(model: AdaPerceiver, data: Dataset) -> Tensor:
    """Top-1 accuracy in [0, 1] of every configuration: (widths, depths, tokens), axes in ascending order."""
    space, device = model.config.space, model.device
    hits = torch.zeros(len(space.widths), len(space.depths), len(space.tokens), dtype=torch.float64)
    for start in range(0, len(data), EVALUATION_BATCH):
        batch = data.batch(start, min(start + EVALUATION_BATCH, len(data)))
        target = batch.targets.to(device)
        for w, depth, logits in grid_logits(model, batch.images.to(device), space):
            hits[w, depth] += (logits.argmax(-1) == target[:, None]).sum(0).cpu()
    return hits / len(data)


def grid_logits(model: AdaPerceiver, images: Tensor, space: ConfigSpace) -> Iterator[tuple[int, int, Tensor]]:
    """(width index, depth index, logits (B, tokens, K)): one pass per width gives every depth and prefix."""
    z = model.read(model.embed(images), space.tokens[-1])
    readout = FoldedReadout.of(model, space.tokens[-1])
    for w, width in enumerate(space.widths):
        plan = model.plan(Configuration(space.tokens[-1], width, space.depths[-1]), len(images))
        for depth, latents in enumerate(model.states(z, plan)):
            yield w, depth, readout.logits(latents, space.tokens)


def summary(accuracy: Tensor) -> dict[str, float]:
    """The corners of the grid by name: where the axes matter shows in the differences."""
    picks = {"full": (-1, -1, -1), "cheapest": (0, 0, 0), "fewest_tokens": (-1, -1, 0)}
    picks |= {"shallowest": (-1, 0, -1), "narrowest": (0, -1, -1)}
    return {f"accuracy_{name}": float(accuracy[index]) for name, index in picks.items()}
