"""Augmentation that replaces pixels by others' or by noise, and labels by shares.

B batch, C channels, H height, W width, K classes.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from adapcli.data.augment.geometry import per_image

ERASED, ERASED_RATIO = (0.02, 1 / 3), 3.3
"""Area and most elongated aspect ratio of an erased rectangle, as published."""


def erase(images: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """A rectangle of normal noise in each normalised image, with `probability`."""
    batch, channels, height, width = images.shape
    chosen = rng.random(batch) < probability
    area = rng.uniform(*ERASED, batch) * chosen
    ratio = np.exp(rng.uniform(-1, 1, batch) * math.log(ERASED_RATIO))
    sides = np.stack([np.sqrt(area * ratio) * height, np.sqrt(area / ratio) * width], -1)
    top_left = rng.random((batch, 2)) * np.maximum((height, width) - sides, 0)
    inside = rectangles(top_left, top_left + sides, images)
    noise = rng.standard_normal((int(chosen.sum()), channels, height, width), dtype=np.float32)
    filled = images.clone()
    filled[torch.from_numpy(chosen).to(images.device)] = torch.from_numpy(noise).to(images)
    return torch.where(inside, filled, images)


def mix(
    images: Tensor, labels: Tensor, classes: int, mixup: float, cutmix: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each sample with another one of the batch: images, and shares of classes (B, K).

    mixup: a weighted mean. cutmix: a rectangle of the other, whose share is exactly its part of the area.
    """
    batch, _, height, width = images.shape
    other = torch.from_numpy(rng.permutation(batch)).to(images.device)
    pasting = rng.random(batch) < (0.5 if mixup and cutmix else float(cutmix > 0))
    share = np.where(pasting, _beta(cutmix, batch, rng), _beta(mixup, batch, rng))
    side = np.sqrt(1 - share)[:, None] * (height, width) * pasting[:, None]
    centre = rng.random((batch, 2)) * (height, width)
    inside = rectangles(centre - side / 2, centre + side / 2, images)
    weight = per_image(np.where(pasting, 1, share), images)
    mixed = torch.where(inside, images[other], images * weight + images[other] * (1 - weight))
    # What is kept of a sample: all of it by its weight, or the pixels that nothing is pasted on.
    kept = weight[:, :, 0, 0] * (1 - inside.flatten(1).to(images.dtype).mean(1, keepdim=True))
    hot = one_hot(labels, classes).to(images.dtype)
    return mixed, hot * kept + hot[other] * (1 - kept)


def rectangles(top_left: np.ndarray, bottom_right: np.ndarray, images: Tensor) -> Tensor:
    """(B, 1, H, W): the pixels between corners (B, 2) of (rows, columns), rounded and cut at the edges."""
    sizes = images.shape[2:]
    starts, ends = (np.clip(np.rint(corner), 0, sizes) for corner in (top_left, bottom_right))
    inside = []
    for axis, size in enumerate(sizes):
        places = np.arange(size)
        inside.append((places >= starts[:, axis, None]) & (places < ends[:, axis, None]))
    mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.from_numpy(mask).to(images.device)


def _beta(alpha: float, batch: int, rng: np.random.Generator) -> np.ndarray:
    return rng.beta(alpha, alpha, batch) if alpha else np.ones(batch)
