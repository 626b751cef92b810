"""Augmentation of pixels' values in [0, 1], with the meanings that Pillow gives them.

B batch, C channels (1 or 3), H height, W width. Factors are (B, 1, 1, 1); 1 changes nothing.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from adapcli.data.augment.geometry import per_image

LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601-2, as Pillow converts colours to grey."""
LEVELS = 256


def jitter(pixels: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation, in this order, by factors in [1 - strength, 1 + strength]."""
    for change in (brightness, contrast, saturation):
        factor = per_image(rng.uniform(1 - strength, 1 + strength, len(pixels)), pixels)
        pixels = change(pixels, factor)
    return pixels


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Towards black, or beyond."""
    return (pixels * factor).clamp(0, 1)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Towards each image's mean grey, or beyond."""
    return _blend(grey(pixels).mean((2, 3), keepdim=True), pixels, factor)


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """Towards grey, or beyond; grey images stay."""
    return pixels if pixels.shape[1] == 1 else _blend(grey(pixels), pixels, factor)


def sharpness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Towards a smoothed image, or beyond; the outermost pixels stay."""
    if min(pixels.shape[2:]) < 3:
        return pixels
    kernel = pixels.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    channels = pixels.shape[1]
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = conv2d(pixels, kernel.expand(channels, 1, 3, 3), groups=channels)
    return _blend(smooth, pixels, factor)


def posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (B, 1, 1, 1), 0 to 8, of each value's 8."""
    step = 2 ** (8 - bits)
    kept = torch.floor(_levels(pixels) / step) * step / (LEVELS - 1)
    return torch.where(bits >= 8, pixels, kept)


def solarize(pixels: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is brighter than `threshold` (B, 1, 1, 1)."""
    return torch.where(pixels > threshold, 1 - pixels, pixels)


def autocontrast(pixels: Tensor) -> Tensor:
    """Stretch each channel to all of [0, 1]; channels of one value stay."""
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (pixels - low) / spread.clamp(min=1e-6), pixels).clamp(0, 1)


def equalize(pixels: Tensor) -> Tensor:
    """Spread each channel's values evenly over all levels."""
    flat = _levels(pixels).long().flatten(0, 1).flatten(1)
    histogram = flat.new_zeros(len(flat), LEVELS).scatter_add_(1, flat, torch.ones_like(flat))
    # Pillow's: pixels but those of the brightest level that occurs, shared among the other levels.
    brightest = histogram.gather(1, flat.amax(1, keepdim=True))
    step = (flat.shape[1] - brightest) // (LEVELS - 1)
    below = histogram.cumsum(1) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, LEVELS - 1)
    equal = table.gather(1, flat).view_as(pixels).to(pixels.dtype) / (LEVELS - 1)
    return torch.where((step > 0).view(*pixels.shape[:2], 1, 1), equal, pixels)


def grey(pixels: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    if pixels.shape[1] == 1:
        return pixels
    return (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def _levels(pixels: Tensor) -> Tensor:
    return (pixels * (LEVELS - 1)).round()


def _blend(other: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    return (other + (pixels - other) * factor).clamp(0, 1)
