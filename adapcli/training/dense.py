"""How maps are judged against masks and depth maps, at all readouts of one pass (method: Training).

B batch, K classes, H height, W width, T latent tokens, D model width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapcli.data.dense import IGNORE, UNKNOWN_M
from adapcli.model.perceiver import AdaPerceiver
from adapcli.training.losses import Total, as_it_is
from adapcli.training.schema import Loss

NEARLY_ZERO_M = 0.001
"""Added to metres before their logarithm, as published."""

MEAN_WEIGHT, SCALE = 0.15, 2.0
"""Of the squared mean of log errors beside their variance; of the scale-invariant loss. As published."""

STRIDES = (1, 2, 4, 6)
"""The multi-scale gradient loss looks at every pixel, at every second, fourth and sixth. As published."""

STEP = 2
"""Pixels between those whose errors are compared. As published."""


@dataclass(frozen=True)
class Maps:
    """A model's dense readouts of one pass: what is read from, and what the answers are judged against.

    total: see `Targets`; losses are of the whole batch, in every process that holds a part of it.
    """

    model: AdaPerceiver
    patches_BPD: Tensor
    target_BHW: Tensor
    loss: Loss
    total: Total = as_it_is

    def judged(self, z_BTD: Tensor) -> Tensor:
        """The loss of one readout, a scalar in float32."""
        height, width = self.target_BHW.shape[1:]
        maps = self.model.write_dense(z_BTD, self.patches_BPD, size=(height, width)).maps
        assert maps is not None
        if self.model.config.task == "segmentation":
            return segmentation_loss(maps, self.target_BHW, self.loss.label_smoothing, self.total)
        farthest, gradients = self.model.config.max_depth, self.loss.gradients
        return depth_loss(maps[:, 0], self.target_BHW, farthest, gradients, self.total)

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


def segmentation_loss(
    logits_BKHW: Tensor, target_BHW: Tensor, smoothing: float = 0.0, total: Total = as_it_is
) -> Tensor:
    """Cross-entropy, the mean over all pixels of the batch that are not `IGNORE`; 0 if all are."""
    losses = cross_entropy(
        logits_BKHW.float(), target_BHW, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )
    return total(losses) / total((target_BHW != IGNORE).sum()).clamp_min(1)


def depth_loss(
    metres_BHW: Tensor, target_BHW: Tensor, farthest: float, gradients: float, total: Total = as_it_is
) -> Tensor:
    """`SCALE` x scale-invariant log loss + `gradients` x multi-scale gradient loss.

    Pixels count whose target is known and at most `farthest` metres.
    """
    known = (target_BHW > UNKNOWN_M) & (target_BHW <= farthest)
    error = log_error(metres_BHW.float(), target_BHW, known)
    loss = SCALE * scale_invariant(error, known, total)
    return loss + gradients * multiscale_gradient(error, known, total) if gradients else loss


def log_error(metres_BHW: Tensor, target_BHW: Tensor, known_BHW: Tensor) -> Tensor:
    """The difference of logarithms where the target is known, else 0."""
    target = torch.where(known_BHW, target_BHW, 1.0)
    error = (metres_BHW + NEARLY_ZERO_M).log() - (target + NEARLY_ZERO_M).log()
    return torch.where(known_BHW, error, 0.0)


def scale_invariant(error_BHW: Tensor, known_BHW: Tensor, total: Total = as_it_is) -> Tensor:
    """sqrt(variance + `MEAN_WEIGHT` x mean^2) of the known log errors of the batch (arXiv 1406.2283)."""
    count = total(known_BHW.sum())
    mean = total(error_BHW.sum()) / count.clamp_min(1)
    squares = total(torch.where(known_BHW, (error_BHW - mean).square(), 0.0).sum())
    # The root has no slope at 0, which a perfect or an empty map reaches.
    return (squares / (count - 1).clamp_min(1) + MEAN_WEIGHT * mean.square() + 1e-12).sqrt()


def multiscale_gradient(error_BHW: Tensor, known_BHW: Tensor, total: Total = as_it_is) -> Tensor:
    """How much log errors change over height and width at each scale, per known pixel (arXiv 1804.00607).

    The published code slices the axes of batch and channel instead.
    """
    loss = error_BHW.new_zeros(())
    for stride in STRIDES:
        error, known = error_BHW[:, ::stride, ::stride], known_BHW[:, ::stride, ::stride]
        down = (error[:, STEP:] - error[:, :-STEP]).abs() * (known[:, STEP:] & known[:, :-STEP])
        right = (error[..., STEP:] - error[..., :-STEP]).abs() * (known[..., STEP:] & known[..., :-STEP])
        loss = loss + total(down.sum() + right.sum()) / total(known.sum()).clamp_min(1)
    return loss
