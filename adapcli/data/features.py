"""What a policy may see before any model runs: a small thumbnail and a few statistics, and what they cost.

They are taken from the model's own input (normalised), averaged over its channels.
"""

from math import floor

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

CELLS = 8
STATISTICS = ("mean", "std", "peak", "cell_std", "edge_horizontal", "edge_vertical", "detail")


def feature_names() -> list[str]:
    """The names of the features, in order: 64 cells of the thumbnail, row by row, then the statistics."""
    cells = [f"cell_{row}_{column}" for row in range(CELLS) for column in range(CELLS)]
    return cells + list(STATISTICS)


def image_features(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, F) float32, named by `feature_names`; H, W >= 2.

    cell: mean of one of 8 x 8 cells; mean, std, peak: of all pixels; cell_std: of the cells;
    edge_horizontal, edge_vertical: mean |difference| of neighbours in a row, in a column;
    detail: mean |second difference| across both, large in noise and small on smooth ground.
    """
    grey = images.mean(1) if images.shape[1] > 1 else images[:, 0]
    cells = adaptive_avg_pool2d(grey, CELLS).flatten(1)
    across, down = grey.diff(dim=2), grey.diff(dim=1)
    statistics = [
        grey.mean((1, 2)),
        grey.std((1, 2), correction=0),
        grey.amax((1, 2)),
        cells.std(1, correction=0),
        across.abs().mean((1, 2)),
        down.abs().mean((1, 2)),
        across.diff(dim=1).abs().mean((1, 2)),
    ]
    return torch.cat([cells, torch.stack(statistics, dim=1)], dim=1).float()


def feature_flops(image_size: tuple[int, int], channels: int) -> int:
    """FLOPs of `image_features` for one image of (height, width).

    Counted: every addition, subtraction, multiplication, division, comparison, absolute value and square
    root is 1; indexing is free. The mean over n numbers is n (n - 1 additions, 1 division), so a standard
    deviation from a known mean is 3 n + 1.
    """
    height, width = image_size
    pixels, cells = height * width, CELLS * CELLS
    grey = channels * pixels if channels > 1 else 0
    pooled = _covered(height) * _covered(width)
    moments = pixels + (3 * pixels + 1) + (pixels - 1) + cells + (3 * cells + 1)
    across, down = height * (width - 1), (height - 1) * width
    # Each edge statistic: a difference, an absolute value and the mean.
    edges = 3 * (across + down + (height - 1) * (width - 1))
    return grey + pooled + moments + edges


def _covered(side: int) -> int:
    """Pixels along one side that the cells cover; more than `side` where cells overlap."""
    return sum(-(-(cell + 1) * side // CELLS) - floor(cell * side / CELLS) for cell in range(CELLS))
