"""Augmentation of training images and their labels, in torch alone, a batch at a time.

Everything random is drawn from (seed, number of the batch): the same on every device, whatever came before.
B batch, C channels (1 or 3), H height, W width, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapcli.data.augment import colour, geometry, mixing, randaugment
from adapcli.data.transforms import picture_mode
from adapcli.model.preprocessing import Preprocessing

STREAM = 0xA06
"""Tells these draws from others that are made of the same seed and number."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to a batch, in this order; 0 (of crop: 1) leaves a part out.

    crop: smallest part of the area that a random crop keeps; aspect ratios in [3/4, 4/3]. flip: probability
    of a mirror image. colour: brightness, contrast and saturation by factors in [1 - colour, 1 + colour].
    randaugment: operations per image, of `magnitude` in [0, 30] (arXiv 1909.13719). erasing: probability that
    a rectangle becomes noise (arXiv 1708.04896). mixup, cutmix: alpha of the Beta distribution of each
    sample's share (arXiv 1710.09412, 1905.04899); with both, a coin's toss gives each sample one of them.
    """

    preprocessing: Preprocessing
    num_classes: int
    seed: int
    crop: float = 1.0
    flip: float = 0.0
    colour: float = 0.0
    randaugment: int = 0
    magnitude: float = 9.0
    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        picture_mode(len(self.preprocessing.mean))

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Normalised images (B, C, H, W) and labels (B,) of batch `number` -> the same, augmented.

        With mixup or cutmix, labels become shares of classes (B, K) that sum to 1. Labels that are maps
        (B, H, W), classes or metres, move with their pixels; for them, neither those two nor randaugment.
        """
        rng = np.random.default_rng([self.seed, number, STREAM])
        images, labels = self._moved(images, labels, rng)
        if self.colour or self.randaugment:
            images = self._in_pixels(images, rng)
        if self.erasing:
            images = mixing.erase(images, self.erasing, rng)
        if self.mixup or self.cutmix:
            return mixing.mix(images, labels, self.num_classes, self.mixup, self.cutmix, rng)
        return images, labels

    def _moved(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cropped and mirrored."""
        maps = labels.ndim == 3
        if self.crop < 1:
            rows = geometry.crops(len(images), self.crop, rng)
            images = geometry.warp(images, rows, padding="border")
            labels = geometry.cropped_maps(labels, rows) if maps else labels
        if self.flip:
            chosen = geometry.chosen_ones(len(images), self.flip, rng)
            images = geometry.mirrored(images, chosen)
            labels = geometry.mirrored(labels, chosen) if maps else labels
        return images, labels

    def _in_pixels(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Operations that are defined on pixels in [0, 1]."""
        mean, std = (
            images.new_tensor(values)[:, None, None]
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        pixels = (images * std + mean).clamp(0, 1)
        if self.colour:
            pixels = colour.jitter(pixels, self.colour, rng)
        for _ in range(self.randaugment):
            pixels = randaugment.one_each(pixels, self.magnitude, rng)
        return (pixels - mean) / std
