"""Patch embeddings as a policy may see them: averaged into a few, from the stage that every run begins with.

B batch, P patches, D model width.
"""

import math

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from adapcli.errors import UsageError
from adapcli.model.config import ModelConfig


def check_side(config: ModelConfig, side: int, image_size: int) -> None:
    """UsageError unless the model's patches can be averaged into side x side."""
    most = image_size // config.patch_size
    if not 1 <= side <= most:
        raise UsageError(f"patches {side}: expected 1 to {most}, the model has {most} x {most} patches")


def pooled(patches: Tensor, side: int) -> Tensor:
    """Patches (B, P, D) of a square image -> (B, side x side, D) float32, row by row."""
    across = math.isqrt(patches.shape[1])
    grid = patches.float().mT.reshape(len(patches), -1, across, across)
    return adaptive_avg_pool2d(grid, side).flatten(2).mT


def pool_flops(config: ModelConfig, side: int, image_size: int) -> int:
    """FLOPs of `pooled` for one image: one per value averaged; 0 if nothing is."""
    across = image_size // config.patch_size
    if across == side:
        return 0
    covered = sum(-(-(cell + 1) * across // side) - cell * across // side for cell in range(side))
    return covered * covered * config.embed_dim
