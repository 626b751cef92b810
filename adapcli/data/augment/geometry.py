"""Augmentation that moves pixels.

B batch, C channels, H height, W width. Values between pixels are bilinear; pixels from outside are black (0).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

RATIO = 4 / 3
"""The most elongated crop; as published for ImageNet (arXiv 1409.4842)."""


def flip(images: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Mirror images (B, C, H, W), each with `probability`."""
    chosen = rng.random(len(images)) < probability
    return torch.where(per_image(chosen, images), images.flip(-1), images)


def resized_crop(images: Tensor, smallest: float, rng: np.random.Generator) -> Tensor:
    """A random part of each image, of `smallest` to all of its area, resized to the whole."""
    batch = len(images)
    area = rng.uniform(smallest, 1, batch)
    # A crop of this area fits if its aspect ratio is within [area, 1 / area].
    longest = np.minimum(math.log(RATIO), -np.log(area))
    ratio = np.exp(rng.uniform(-1, 1, batch) * longest)
    width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
    x, y = ((1 - side) * rng.uniform(-1, 1, batch) for side in (width, height))
    zero = np.zeros(batch)
    rows = np.stack([np.stack([width, zero, x], -1), np.stack([zero, height, y], -1)], 1)
    return warp(images, rows, padding="border")


def warp(images: Tensor, rows: np.ndarray, *, padding: str = "zeros") -> Tensor:
    """Each image seen through its own affine map.

    rows: (B, 2, 3), from places in the result to places in the image, both from -1 to 1 between the edges.
    """
    theta = torch.from_numpy(rows.astype(np.float32)).to(images)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def per_image(values: np.ndarray, images: Tensor) -> Tensor:
    """One value per image as (B, 1, 1, 1), where the images are; numbers in the images' dtype."""
    column = torch.from_numpy(np.ascontiguousarray(values)).to(images.device)[:, None, None, None]
    return column if column.dtype == torch.bool else column.to(images.dtype)
