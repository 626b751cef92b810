"""How maps are judged against their targets, at all readouts of one pass (method: Training).

B batch, H height, W width, T latent tokens, D model width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapcli.evaluation.dense.losses import (
    Total,
    as_it_is,
    depth_loss,
    log_error,
    multiscale_gradient,
    scale_invariant,
    segmentation_loss,
)
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.perceiver import AdaPerceiver
from adapcli.training.schema import Loss

__all__ = [
    "Maps",
    "dense_losses",
    "depth_loss",
    "log_error",
    "multiscale_gradient",
    "scale_invariant",
    "segmentation_loss",
]


@dataclass(frozen=True)
class Maps:
    """A model's dense readouts of one pass: what is read from, and what the answers are judged against.

    total: see `Targets`; losses are of the whole batch, in every process that holds a part of it.
    """

    model: AdaPerceiver
    patches_BPD: Tensor
    targets: Tensor
    loss: Loss
    total: Total = as_it_is

    def judged(self, z_BTD: Tensor) -> Tensor:
        """The loss of one readout, a scalar in float32."""
        config, (height, width) = self.model.config, self.targets.shape[-2:]
        maps = self.model.write_dense(z_BTD, self.patches_BPD, size=(height, width)).maps
        assert maps is not None
        return dense_task(config, config.image_size).loss(maps, self.targets, self.loss, self.total)

    def weighted(self, readouts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum over (latents, weight) of the weighted losses; 0 for none."""
        total = self.patches_BPD.new_zeros((), dtype=torch.float32)
        for z_BTD, weight in readouts:
            total = total + weight * self.judged(z_BTD)
        return self.loss.labels * total


def dense_losses(
    maps: Maps,
    latents: Sequence[Tensor],
    tokens: Sequence[tuple[int, Tensor]],
    depth: Sequence[tuple[int, int, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Token loss and depth loss: of the last block's readouts, and of the earlier blocks'.

    latents: after every block, (B, T, D). tokens: (prefix, weight) of the last block's; depth: (block from 0,
    prefix, weight) of the others'.
    """
    return (
        maps.weighted((latents[-1][:, :t], weight) for t, weight in tokens),
        maps.weighted((latents[block][:, :t], weight) for block, t, weight in depth),
    )
