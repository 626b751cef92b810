"""Augmentation that moves pixels, and with them values of maps: masks (int64) and metres (floating point).

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
    return mirrored(images, chosen_ones(len(images), probability, rng))


def chosen_ones(batch: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """(B,) booleans, each true with `probability`."""
    return rng.random(batch) < probability


def mirrored(values: Tensor, chosen: np.ndarray) -> Tensor:
    """Images (B, C, H, W) or maps (B, H, W), the chosen ones mirrored."""
    column = per_image(chosen, values).view(-1, *[1] * (values.ndim - 1))
    return torch.where(column, values.flip(-1), values)


def resized_crop(images: Tensor, smallest: float, rng: np.random.Generator) -> Tensor:
    """A random part of each image, of `smallest` to all of its area, resized to the whole."""
    return warp(images, crops(len(images), smallest, rng), padding="border")


def crops(batch: int, smallest: float, rng: np.random.Generator) -> np.ndarray:
    """Random parts, of `smallest` to all of the area, as maps (B, 2, 3) for `warp`."""
    area = rng.uniform(smallest, 1, batch)
    # A crop of this area fits if its aspect ratio is within [area, 1 / area].
    longest = np.minimum(math.log(RATIO), -np.log(area))
    ratio = np.exp(rng.uniform(-1, 1, batch) * longest)
    width, height = np.sqrt(area * ratio), np.sqrt(area / ratio)
    x, y = ((1 - side) * rng.uniform(-1, 1, batch) for side in (width, height))
    zero = np.zeros(batch)
    return np.stack([np.stack([width, zero, x], -1), np.stack([zero, height, y], -1)], 1)


def cropped_maps(maps: Tensor, rows: np.ndarray) -> Tensor:
    """Maps (B, H, W) cropped as images are by `rows`: of each pixel the nearest value.

    What is seen larger is nearer: metres are divided by the zoom (arXiv 1406.2283).
    """
    values = maps[:, None].to(torch.float32)  # exact for classes
    moved = warp(values, rows, padding="border", mode="nearest")[:, 0]
    if maps.is_floating_point():
        zoom = per_image(1 / np.sqrt(rows[:, 0, 0] * rows[:, 1, 1]), moved)
        return moved / zoom[:, 0]
    return moved.to(maps.dtype)


def warp(images: Tensor, rows: np.ndarray, *, padding: str = "zeros", mode: str = "bilinear") -> Tensor:
    """Each image seen through its own affine map.

    rows: (B, 2, 3), from places in the result to places in the image, both from -1 to 1 between the edges.
    """
    theta = torch.from_numpy(rows.astype(np.float32)).to(images)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def per_image(values: np.ndarray, images: Tensor) -> Tensor:
    """One value per image as (B, 1, 1, 1), where the images are; numbers in the images' dtype."""
    column = torch.from_numpy(np.ascontiguousarray(values)).to(images.device)[:, None, None, None]
    return column if column.dtype == torch.bool else column.to(images.dtype)
