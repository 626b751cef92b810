"""The once-for-all loss: one forward pass trains every configuration (paper section 3.3; method: Training).

B batch, T latent tokens, L blocks, G token granularities, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.readout import FoldedReadout
from adapcli.space import Configuration


@dataclass(frozen=True)
class Draw:
    """What one step trains, drawn at random: FFN widths per sample, and the tokens of the depth readouts."""

    configuration: Configuration
    widths: tuple[int, ...] | None
    depth_tokens: int


@dataclass(frozen=True)
class Losses:
    """Scalars: what is minimised, and its parts."""

    total: Tensor
    token: Tensor
    depth: Tensor


def step_losses(
    model: AdaPerceiver,
    x: Tensor,
    target_B: Tensor,
    draw: Draw,
    *,
    tokens: Sequence[int],
    depth_weights_L: Tensor | None,
) -> Losses:
    """One forward pass; every readout comes from its latents by the folded form.

    tokens: granularities read out after the last block. depth_weights_L: weights of the readouts after each
    earlier block (summing to 1), or None for no depth loss.
    """
    plan = model.plan(draw.configuration, len(x), widths=draw.widths, attention="dense")
    latents = list(model.states(model.read(model.embed(x), draw.configuration.tokens), plan))
    readout = FoldedReadout.of(model, draw.configuration.tokens)
    token = _mean_cross_entropy(readout.logits(latents[-1], tokens), target_B).mean()
    if depth_weights_L is None or len(latents) == 1:
        return Losses(token, token, torch.zeros_like(token))
    stacked = torch.stack(latents[:-1], 1)
    logits = readout.logits(stacked.flatten(0, 1), (draw.depth_tokens,))
    per_block = _mean_cross_entropy(logits.view(len(x), len(latents) - 1, -1), target_B)
    depth = (per_block * depth_weights_L).sum()
    return Losses(token + depth, token, depth)


def _mean_cross_entropy(logits_BGK: Tensor, target_B: Tensor) -> Tensor:
    """Mean over the batch for every readout: (G,)."""
    repeated = target_B[:, None].expand(logits_BGK.shape[:2]).flatten()
    return (
        cross_entropy(logits_BGK.flatten(0, 1), repeated, reduction="none").view(logits_BGK.shape[:2]).mean(0)
    )


def depth_weights(depth: int, kind: Literal["linear", "uniform"]) -> Tensor:
    """Weights of the readouts after blocks 1..depth-1: l / L or equal; they sum to 1."""
    weights = (
        torch.arange(1, depth, dtype=torch.float32) if kind == "linear" else torch.ones(max(depth - 1, 0))
    )
    return weights / weights.sum()
