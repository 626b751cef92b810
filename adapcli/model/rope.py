"""Rotary position embedding of latent tokens.

B batch, T tokens, H heads, C channels per head.
"""

import torch
from torch import Tensor


def rotation(
    tokens: int, head_dim: int, *, theta: float, trained_tokens: int, device: torch.device
) -> Tensor:
    """Cosines and sines for positions 0..tokens-1: (2, T, C/2), float32.

    Runs longer than `trained_tokens` divide every frequency by tokens / trained_tokens (position
    interpolation), so the length of the run changes the rotation of *all* its tokens.
    """
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    frequencies = 1.0 / theta**exponents
    if tokens > trained_tokens:
        frequencies = frequencies / (tokens / trained_tokens)
    angles = torch.outer(torch.arange(tokens, device=device, dtype=torch.float32), frequencies)
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x_BHTC: Tensor, rotation_2TC: Tensor) -> Tensor:
    """Turn each (even, odd) pair of channels by its token's angle; in float32, returned in x's dtype."""
    cos, sin = rotation_2TC
    even, odd = x_BHTC.float().view(*x_BHTC.shape[:-1], x_BHTC.shape[-1] // 2, 2).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).type_as(x_BHTC)


def rotate_back(x_HC: Tensor, rotation_2TC: Tensor) -> Tensor:
    """The inverse rotation of one vector for every position: (H, C) -> (H, T, C)."""
    cos, sin = rotation_2TC
    return rotate(x_HC[:, None].float(), torch.stack((cos, -sin)))
