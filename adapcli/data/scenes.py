"""Scenes composed of real handwritten digits: endless, deterministic, of varied difficulty, and no download.

Scene i of (specification, split, seed) depends on nothing else: scenes are drawn in blocks of `BLOCK` from a
counter-based generator, and whole blocks are rendered, so that any range gives the same bits.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.placement import BLOCK, NOISE_BANK, SceneSpec, SceneTable, draw_scenes
from adapcli.data.rendering import render
from adapcli.data.scans import load_scans
from adapcli.errors import UsageError

__all__ = ["BLOCK", "SPLITS", "Rendered", "SceneSpec", "SceneTable", "Scenes"]

# split -> (pool of scans, stream of random numbers)
SPLITS = {
    "train": ("train", 0),
    "fit": ("tune", 1),
    "tune": ("tune", 2),
    "calibration": ("calibration", 3),
    "test": ("test", 4),
}
TARGETS = ("class", "mask", "depth", "centres")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rendered:
    """Scenes as tensors: images (B, 1, H, W) float32 in [0, 1]; labels (B,) int64;
    mask (B, H, W) int64, 0 background, digit + 1; depth (B, 1, H, W) float32, 2 to 10 metres, the background
    at 10; centres (B, 2, H, W) float32, pixels down and right from a pixel to the centre of the scan it
    belongs to, NaN in the background. None where not asked for."""

    images: Tensor
    labels: Tensor
    mask: Tensor | None = None
    depth: Tensor | None = None
    centres: Tensor | None = None


class Scenes:
    """An endless sequence of scenes: `scenes.batch(start, stop)`.

    split: train, fit, tune, calibration or test; augment: distorted copies of the scans too (default: in
    train only); device: where to render (torch). Equal bits for equal scenes on one machine and device.
    """

    def __init__(
        self,
        spec: SceneSpec | None = None,
        *,
        split: str,
        seed: int = 0,
        augment: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if split not in SPLITS:
            raise UsageError(f"split {split!r}: not known", f"one of {', '.join(SPLITS)}")
        if seed < 0:
            raise UsageError(f"seed {seed}: expected 0 or more")
        self.spec = spec or SceneSpec()
        pool, self.stream = SPLITS[split]
        self.split, self.seed, self.device = split, seed, torch.device(device)
        self.scans = load_scans(pool, augment=split == "train" if augment is None else augment)
        self.glyphs = torch.from_numpy(self.scans.glyphs).reshape(-1, 8, 8).to(self.device)
        noise = np.random.default_rng([seed, self.stream]).standard_normal(NOISE_BANK, dtype=np.float32)
        self.noise = torch.from_numpy(noise).to(self.device)
        self._recent: OrderedDict[tuple[int, tuple[str, ...]], Rendered] = OrderedDict()

    def table(self, block: int) -> SceneTable:
        """The scenes block * BLOCK and following, as numbers."""
        rng = np.random.default_rng([self.seed, self.stream, block + 1])
        return draw_scenes(self.spec, self.scans, rng)

    def batch(self, start: int, stop: int, targets: Sequence[str] = ("class",)) -> Rendered:
        """Scenes start..stop - 1; targets: class, mask, depth, centres."""
        for target in targets:
            if target not in TARGETS:
                raise UsageError(f"target {target!r}: not known", f"one of {', '.join(TARGETS)}")
        blocks, kept = _blocks(start, stop)
        parts = [self._block(block, tuple(targets)) for block in blocks]
        fields = {name: [getattr(part, name) for part in parts] for name in Rendered.__dataclass_fields__}
        return Rendered(**{k: torch.cat(v)[kept] for k, v in fields.items() if v[0] is not None})

    def difficulty(self, start: int, stop: int) -> dict[str, Floats]:
        """`SceneTable.difficulty` of scenes start..stop - 1; every array (stop - start,)."""
        blocks, kept = _blocks(start, stop)
        parts = [self.table(block).difficulty() for block in blocks]
        return {name: np.concatenate([part[name] for part in parts])[kept] for name in parts[0]}

    def _block(self, block: int, targets: tuple[str, ...]) -> Rendered:
        """Render a whole block; keep the last two, because batches need not end where blocks do."""
        key = (block, targets)
        if key not in self._recent:
            self._recent[key] = self._render(self.table(block), targets)
            if len(self._recent) > 2:
                self._recent.popitem(last=False)
        return self._recent[key]

    def _render(self, table: SceneTable, targets: tuple[str, ...]) -> Rendered:
        canvas = self.spec.canvas
        picture = render(
            table.digits, table.fragments, self.glyphs, canvas, table.values, table.distance_m, targets
        )
        rows = self.noise.as_strided((NOISE_BANK - canvas**2, canvas**2), (1, 1))
        noise = rows[torch.from_numpy(table.offset).to(self.device)].view(-1, canvas, canvas)
        sigma = torch.from_numpy(table.sigma).float().to(self.device)
        images = picture.image.addcmul_(noise, sigma[:, None, None]).clamp_(0, 1)
        labels = torch.from_numpy(table.label).to(self.device)
        return Rendered(images[:, None], labels, picture.mask, picture.depth, picture.centres)


def _blocks(start: int, stop: int) -> tuple[range, slice]:
    """The blocks that hold scenes start..stop - 1, and where those lie in the blocks' concatenation."""
    if not 0 <= start < stop:
        raise UsageError(f"scenes {start}..{stop}: expected 0 <= start < stop")
    blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
    first = start - blocks[0] * BLOCK
    return blocks, slice(first, first + stop - start)
