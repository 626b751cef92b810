"""RandAugment: operations drawn alike, all of one magnitude (Cubuk et al., arXiv 1909.13719).

The fourteen operations and their ranges are the published ones, as torchvision has them; the strength grows
linearly with the magnitude from 0 to 30, and signs are drawn. B batch.
"""

import math

import numpy as np
import torch
from torch import Tensor

from adapcli.data.augment import colour
from adapcli.data.augment.geometry import per_image, warp

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
GEOMETRIC = OPERATIONS[1:6]
FACTORS = {
    "brightness": colour.brightness,
    "saturation": colour.saturation,
    "contrast": colour.contrast,
    "sharpness": colour.sharpness,
}
LARGEST = 30
SHEAR, SHIFT, DEGREES, CHANGE, BITS = 0.3, 150 / 331, 30.0, 0.9, 4
"""At the largest magnitude: shear, shift as a part of the side, turn, change of a factor, bits dropped."""


def one_each(pixels: Tensor, magnitude: float, rng: np.random.Generator) -> Tensor:
    """One operation on each of the images (B, C, H, W) in [0, 1]."""
    drawn = rng.integers(len(OPERATIONS), size=len(pixels))
    signs = rng.choice([-1.0, 1.0], size=len(pixels))
    strength = magnitude / LARGEST
    out = pixels.clone()
    moved = np.flatnonzero((drawn >= 1) & (drawn <= len(GEOMETRIC)))
    if len(moved):
        rows = np.stack([place(OPERATIONS[drawn[i]], signs[i] * strength, pixels) for i in moved])
        out[_index(moved, pixels)] = warp(pixels[_index(moved, pixels)], rows)
    for number, name in enumerate(OPERATIONS):
        chosen = np.flatnonzero(drawn == number)
        if len(chosen) and name not in GEOMETRIC:
            index = _index(chosen, pixels)
            out[index] = apply(name, pixels[index], signs[chosen], strength)
    return out


def apply(name: str, pixels: Tensor, signs: np.ndarray, strength: float) -> Tensor:
    """One operation that moves no pixel, on all images; strength in [0, 1], signs (B,)."""
    if name in FACTORS:
        return FACTORS[name](pixels, per_image(1 + CHANGE * strength * signs, pixels))
    everywhere = np.ones(len(pixels))
    if name == "posterize":
        return colour.posterize(pixels, per_image((8 - round(BITS * strength)) * everywhere, pixels))
    if name == "solarize":
        return colour.solarize(pixels, per_image((1 - strength) * everywhere, pixels))
    if name == "autocontrast":
        return colour.autocontrast(pixels)
    return colour.equalize(pixels) if name == "equalize" else pixels


def place(name: str, signed: float, pixels: Tensor) -> np.ndarray:
    """Where each pixel of the result comes from: (2, 3), see geometry.warp."""
    aspect = pixels.shape[3] / pixels.shape[2]
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    if name == "shear_x":
        rows[0, 1] = SHEAR * signed / aspect
    elif name == "shear_y":
        rows[1, 0] = SHEAR * signed * aspect
    elif name == "translate_x":
        rows[0, 2] = 2 * SHIFT * signed
    elif name == "translate_y":
        rows[1, 2] = 2 * SHIFT * signed
    else:
        turn = math.radians(DEGREES * signed)
        sine, cosine = math.sin(turn), math.cos(turn)
        rows[:, :2] = [[cosine, -sine / aspect], [sine * aspect, cosine]]
    return rows


def _index(chosen: np.ndarray, pixels: Tensor) -> Tensor:
    return torch.from_numpy(chosen).to(pixels.device)
