"""From placed digits to pixels: bilinear, two small matrix products per digit, painted from far to near.

Legend: B scenes, N objects of a scene, S side of the canvas, G scans. Pixel centres lie at + 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Depth in metres: a digit of the largest size is NEAR_M away, one of half that size twice as far;
# the background is a wall at FAR_M, behind them all.
NEAR_M = 2.0
FAR_M = 10.0
# Ink from which a pixel belongs to a digit in masks and depth maps.
INK = 0.4
PIECES = 9


@dataclass(frozen=True)
class Paint:
    """Objects to paint, slot 0 first.

    glyph (B, N): index into the glyphs; present (B, N); centre, extent (B, N, 2): row and column;
    brightness (B, N); piece (B, N): 0 the whole scan, 1..8 a half or a quarter of it.
    """

    glyph: NDArray[np.int64]
    present: NDArray[np.bool_]
    centre: NDArray[np.float64]
    extent: NDArray[np.float64]
    brightness: NDArray[np.float64]
    piece: NDArray[np.int64]


@dataclass(frozen=True)
class Picture:
    """image (B, S, S) float32 in [0, 1]; mask (B, S, S) int64; depth (B, 1, S, S) float32 metres;
    centres (B, 2, S, S) float32: offsets to them, NaN where there is no digit."""

    image: Tensor
    mask: Tensor | None
    depth: Tensor | None
    centres: Tensor | None


def piece_masks() -> Tensor:
    """(9, 8, 8): the whole scan, its four halves (top, bottom, left, right), its four quarters."""
    masks = torch.zeros(PIECES, 8, 8)
    low, high, every = slice(0, 4), slice(4, 8), slice(0, 8)
    areas = [(every, every), (low, every), (high, every), (every, low), (every, high)]
    areas += [(low, low), (low, high), (high, low), (high, high)]
    for index, (rows, columns) in enumerate(areas):
        masks[index, rows, columns] = 1
    return masks


def interpolation(centre: Tensor, extent: Tensor, side: int) -> Tensor:
    """(...,) centres and extents -> (..., side, 8): the weights of a scan's 8 samples at every pixel."""
    pixel = torch.arange(side, device=centre.device) + 0.5
    place = (pixel - (centre - extent / 2)[..., None]) * (8 / extent)[..., None] - 0.5
    apart = place[..., None] - torch.arange(8, device=centre.device)
    return apart.abs_().neg_().add_(1).relu_()


class _Brush:
    """The alpha and the brightness of one slot in every scene."""

    def __init__(self, paint: Paint, glyphs: Tensor, side: int) -> None:
        device = glyphs.device
        self.present = paint.present
        shown = torch.from_numpy(paint.present).to(device)[..., None, None]
        ink = piece_masks().to(device)[torch.from_numpy(paint.piece).to(device)]
        self.ink = glyphs[torch.from_numpy(paint.glyph).to(device)] * ink * shown
        centre = torch.from_numpy(paint.centre).float().to(device)
        extent = torch.from_numpy(paint.extent).float().to(device)
        self.rows = interpolation(centre[..., 0], extent[..., 0], side)
        self.columns = interpolation(centre[..., 1], extent[..., 1], side)
        self.brightness = torch.from_numpy(paint.brightness).float().to(device)[..., None, None]

    def slots(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.present.any(0))

    def alpha(self, slot: int) -> Tensor:
        """(B, S, S): the ink of one slot's object."""
        return self.rows[:, slot] @ self.ink[:, slot] @ self.columns[:, slot].mT


def render(
    digits: Paint,
    fragments: Paint,
    glyphs: Tensor,
    side: int,
    values: NDArray[np.int64],
    distance_m: NDArray[np.float64],
    targets: Sequence[str],
) -> Picture:
    """Paint fragments, then digits: out = out + ink * (brightness - out), slot by slot.

    glyphs (G, 8, 8) in [0, 1]; values and distance_m (B, N) of the digits feed the targets "mask"
    and "depth", their centres "centres": each pixel shows the nearest digit whose ink there exceeds `INK`.
    """
    size = (len(values), side, side)
    image = torch.zeros(size, device=glyphs.device)
    mask = torch.zeros(size, dtype=torch.int64, device=glyphs.device) if "mask" in targets else None
    depth = torch.full(size, FAR_M, device=glyphs.device) if "depth" in targets else None
    centres: Sequence[Tensor | None] = (None, None)
    if "centres" in targets:
        centres = torch.full((2, *size), torch.nan, device=glyphs.device).unbind()
    brush = _Brush(fragments, glyphs, side)
    for slot in brush.slots():
        image.lerp_(brush.brightness[:, slot].expand(size), brush.alpha(slot))
    brush = _Brush(digits, glyphs, side)
    for slot in brush.slots():
        alpha = brush.alpha(slot)
        image.lerp_(brush.brightness[:, slot].expand(size), alpha)
        _label(mask, alpha, torch.from_numpy(values[:, slot] + 1))
        _label(depth, alpha, torch.from_numpy(distance_m[:, slot]).float())
        for axis, target in enumerate(centres):
            _label(target, alpha, torch.from_numpy(digits.centre[:, slot, axis]).float())
    return Picture(image, mask, None if depth is None else depth[:, None], _offsets(*centres))


def _offsets(rows: Tensor | None, columns: Tensor | None) -> Tensor | None:
    """From each pixel's middle to the row and the column that it is labelled with, each (B, S, S)."""
    if rows is None or columns is None:
        return None
    pixel = torch.arange(rows.shape[-1], device=rows.device) + 0.5
    return torch.stack((rows - pixel[:, None], columns - pixel), 1)


def _label(target: Tensor | None, alpha: Tensor, value: Tensor) -> None:
    """Write each scene's `value` (B,) where its object has ink."""
    if target is not None:
        torch.where(alpha > INK, value.to(alpha.device)[:, None, None], target, out=target)
