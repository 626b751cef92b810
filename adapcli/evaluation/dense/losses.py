"""Losses of maps against masks and depth maps (method: Training).

B batch, K classes, H height, W width. total: sums a value over all processes that share a batch.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapcli.data.dense import IGNORE, UNKNOWN_M

Total = Callable[[Tensor], Tensor]


class LossOptions(Protocol):
    """What a recipe may ask of the loss of maps."""

    @property
    def label_smoothing(self) -> float:
        """Of classes."""

    @property
    def gradients(self) -> float:
        """Weight of the gradient loss, of depth."""


def as_it_is(value: Tensor) -> Tensor:
    """The sum over one process."""
    return value


NEARLY_ZERO_M = 0.001
"""Added to metres before their logarithm, as published."""

MEAN_WEIGHT, SCALE = 0.15, 2.0
"""Of the squared mean of log errors beside their variance; of the scale-invariant loss. As published."""

STRIDES = (1, 2, 4, 6)
"""The multi-scale gradient loss looks at every pixel, at every second, fourth and sixth. As published."""

STEP = 2
"""Pixels between those whose errors are compared. As published."""


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
