"""Scenes composed of real handwritten digits: endless, deterministic, of varied difficulty, and no download.

Scene i of (specification, split, seed) depends on nothing else: scenes are drawn in blocks of `BLOCK` from a
counter-based generator, and whole blocks are rendered, so that any range gives the same bits.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.rendering import FAR_M, NEAR_M, Paint, render
from adapcli.data.rules import RULES
from adapcli.data.scans import Scans, load_scans
from adapcli.errors import UsageError

BLOCK = 256
NOISE_BANK = 1 << 20
SEPARATION = 1.2
# split -> (pool of scans, stream of random numbers)
SPLITS = {"train": ("train", 0), "fit": ("tune", 1), "tune": ("tune", 2), "calibration": ("calibration", 3)}
SPLITS["test"] = ("test", 4)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SceneSpec:
    """How scenes are drawn. Lengths in pixels of the canvas.

    canvas: side of the image; min_digits..max_digits per scene, each in its own cell of a grid x grid lattice;
    min_size..max_size: height of a digit; aspect: width / height varies by this share; jitter: shift from the
    cell's centre, in cells; clutter: at most this many fragments of scans lie behind the digits;
    noise: range of the noise's standard deviation; contrast: range of a digit's brightness;
    coupling: how often a factor of difficulty follows the scene's own hardness rather than chance;
    rule: what the label is (a key of `RULES`).
    """

    canvas: int = 48
    min_digits: int = 1
    max_digits: int = 6
    min_size: float = 9.0
    max_size: float = 18.0
    aspect: float = 0.15
    grid: int = 3
    jitter: float = 0.25
    clutter: int = 4
    noise: tuple[float, float] = (0.02, 0.2)
    contrast: tuple[float, float] = (0.4, 1.0)
    coupling: float = 0.5
    rule: str = "maximum"

    def __post_init__(self) -> None:
        checks = (
            (8 <= self.canvas <= 512, "canvas: 8 to 512 pixels"),
            (
                1 <= self.min_digits <= self.max_digits <= self.grid**2,
                "digits: 1 <= min <= max <= grid x grid",
            ),
            (4 <= self.min_size <= self.max_size <= self.canvas, "size: 4 <= min <= max <= canvas"),
            (
                self.max_size < self.min_size * FAR_M / NEAR_M,
                f"max_size: below {FAR_M / NEAR_M:g} x min_size",
            ),
            (0 <= self.aspect < 1 and 0 <= self.jitter <= 1 and 0 <= self.coupling <= 1, "shares: 0 to 1"),
            (0 <= self.noise[0] <= self.noise[1] <= 1, "noise: 0 <= low <= high <= 1"),
            (0 < self.contrast[0] <= self.contrast[1] <= 1, "contrast: 0 < low <= high <= 1"),
            (self.clutter >= 0, "clutter: 0 or more"),
            (self.rule in RULES, f"rule: one of {', '.join(RULES)}"),
        )
        for good, text in checks:
            if not good:
                raise UsageError(f"scene specification: {text}")

    @property
    def num_classes(self) -> int:
        """Number of classes of the label."""
        return RULES[self.rule].classes(self.max_digits)

    def at(self, canvas: int) -> "SceneSpec":
        """The same scenes on a canvas of another side."""
        scale = canvas / self.canvas
        return replace(self, canvas=canvas, min_size=self.min_size * scale, max_size=self.max_size * scale)

    def to_dict(self) -> dict[str, object]:
        """Plain values, as JSON stores them."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class SceneTable:
    """The digits of a block of scenes: B scenes, N slots, present ones first and painted in order of size.

    values (B, N) 0..9; present (B, N); sizes (B, N) pixels; distance_m (B, N); digits and fragments: what to paint;
    sigma (B,) noise; offset (B,) place in the noise bank; hardness (B,) in [0, 1); label (B,).
    """

    values: Ints
    present: NDArray[np.bool_]
    sizes: Floats
    distance_m: Floats
    digits: Paint
    fragments: Paint
    sigma: Floats
    offset: Ints
    hardness: Floats
    label: Ints

    def difficulty(self) -> dict[str, Floats]:
        """What makes each scene hard, by name; every array (B,)."""
        count = self.present.sum(1)
        contrast = np.where(self.present, self.digits.brightness, np.inf)
        return {
            "digits": count.astype(np.float64),
            "mean_size": (self.sizes * self.present).sum(1) / count,
            "smallest_size": np.where(self.present, self.sizes, np.inf).min(1),
            "faintest_contrast": contrast.min(1),
            "fragments": self.fragments.present.sum(1).astype(np.float64),
            "noise_sigma": self.sigma,
            "hardness": self.hardness,
        }


class _Factors:
    """Uniform draws that follow the scene's hardness with probability `coupling`; their marginals stay uniform."""

    def __init__(self, rng: np.random.Generator, coupling: float) -> None:
        self.rng, self.coupling = rng, coupling
        self.hardness = rng.random(BLOCK)

    def __call__(self, *shape: int) -> Floats:
        free, follow = self.rng.random((2, BLOCK, *shape))
        hardness = self.hardness.reshape(BLOCK, *[1] * len(shape))
        return np.where(follow < self.coupling, hardness, free)


def draw_scenes(spec: SceneSpec, scans: Scans, rng: np.random.Generator) -> SceneTable:
    """Draw a block of scenes from uniform numbers alone, so that the stream is stable across numpy versions."""
    factor, slots = _Factors(rng, spec.coupling), spec.max_digits
    count = spec.min_digits + (factor() * (slots + 1 - spec.min_digits)).astype(np.int64)
    present = np.arange(slots) < count[:, None]
    sizes = _draw_sizes(spec, factor(slots), present)
    values = RULES[spec.rule].values(rng.random((BLOCK, slots + 2)), present)
    chosen = scans.starts[values] + (rng.random(values.shape) * scans.counts[values]).astype(np.int64)
    centres = _cell_centres(spec, rng.random((BLOCK, spec.grid**2)), rng.random((BLOCK, slots, 2)))
    faint = spec.contrast[1] - factor(slots) * (spec.contrast[1] - spec.contrast[0])
    digits = _paint(spec, scans, rng, chosen, present, sizes, centres, faint, inside=True)
    fragments = _draw_fragments(spec, scans, rng, (factor() * (spec.clutter + 1)).astype(np.int64))
    sigma = spec.noise[0] + factor() * (spec.noise[1] - spec.noise[0])
    offset = (rng.random(BLOCK) * (NOISE_BANK - spec.canvas**2)).astype(np.int64)
    distance = NEAR_M * spec.max_size / sizes
    label = RULES[spec.rule].label(values, present)
    return SceneTable(
        values, present, sizes, distance, digits, fragments, sigma, offset, factor.hardness, label
    )


def _draw_sizes(spec: SceneSpec, quantile: Floats, present: NDArray[np.bool_]) -> Floats:
    """Present slots first, ascending: larger means nearer, and nearer is painted later. Hard means small."""
    sizes = spec.max_size - quantile * (spec.max_size - spec.min_size)
    sizes = np.sort(np.where(present, sizes, np.inf), axis=1)
    sizes = np.where(present, sizes, spec.min_size)
    if RULES[spec.rule].apart:
        last = present.sum(1) - 1
        rows = np.arange(len(sizes))
        biggest = np.maximum(sizes[rows, last], min(SEPARATION * spec.min_size, spec.max_size))
        sizes = np.minimum(sizes, biggest[:, None] / SEPARATION)
        sizes[rows, last] = biggest
    return sizes


def _cell_centres(spec: SceneSpec, order: Floats, shift: Floats) -> Floats:
    """(B, N, 2) centres (row, column) in pixels: distinct cells, jittered across their borders."""
    cells = np.argsort(order, axis=1)[:, : spec.max_digits]
    corner = np.stack(np.divmod(cells, spec.grid), axis=-1)
    centres: Floats = (corner + 0.5 + spec.jitter * (2 * shift - 1)) * (spec.canvas / spec.grid)
    return centres


def _paint(
    spec: SceneSpec,
    scans: Scans,
    rng: np.random.Generator,
    chosen: Ints,
    present: NDArray[np.bool_],
    sizes: Floats,
    centres: Floats,
    brightness: Floats,
    *,
    inside: bool,
) -> Paint:
    copies = scans.glyphs.shape[1]
    copy = (rng.random(chosen.shape) * copies).astype(np.int64)
    stretch = (1 + spec.aspect) ** (2 * rng.random(chosen.shape) - 1)
    extent = np.stack([sizes, np.minimum(sizes * stretch, spec.canvas)], axis=-1)
    if inside:
        centres = np.clip(centres, extent / 2, spec.canvas - extent / 2)
    return Paint(chosen * copies + copy, present, centres, extent, brightness, np.zeros_like(chosen))


def _draw_fragments(spec: SceneSpec, scans: Scans, rng: np.random.Generator, count: Ints) -> Paint:
    """Pieces of scans, anywhere on the canvas; they lie behind the digits and carry no label."""
    shape = (BLOCK, spec.clutter)
    chosen = (rng.random(shape) * len(scans.glyphs)).astype(np.int64)
    size, bright, piece = rng.random((3, *shape))
    sizes = spec.min_size + size * (spec.max_size - spec.min_size)
    brightness = spec.contrast[0] + bright * (spec.contrast[1] - spec.contrast[0])
    centres = rng.random((*shape, 2)) * spec.canvas
    present = np.arange(spec.clutter) < count[:, None]
    paint = _paint(spec, scans, rng, chosen, present, sizes, centres, brightness, inside=False)
    return replace(paint, piece=1 + (piece * 8).astype(np.int64))


@dataclass(frozen=True)
class Rendered:
    """Scenes as tensors: images (B, 1, H, W) float32 in [0, 1]; labels (B,) int64;
    mask (B, H, W) int64, 0 background, digit + 1; depth (B, 1, H, W) float32 metres. None where not asked for."""

    images: Tensor
    labels: Tensor
    mask: Tensor | None = None
    depth: Tensor | None = None


class Scenes:
    """An endless sequence of scenes: `scenes.batch(start, stop)`.

    split: train, fit, tune, calibration or test; augment: also distorted copies of scans (default: train only);
    device: where to render (torch). Equal bits for equal scenes on one machine and device.
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
        """Scenes start..stop - 1; targets: class, mask, depth."""
        if not 0 <= start < stop:
            raise UsageError(f"scenes {start}..{stop}: expected 0 <= start < stop")
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        parts = [self._block(block, tuple(targets)) for block in blocks]
        first = start - blocks[0] * BLOCK
        kept = slice(first, first + stop - start)
        columns = [[getattr(part, name) for part in parts] for name in ("images", "labels", "mask", "depth")]
        return Rendered(*(None if column[0] is None else torch.cat(column)[kept] for column in columns))

    def difficulty(self, start: int, stop: int) -> dict[str, Floats]:
        """`SceneTable.difficulty` of scenes start..stop - 1; every array (stop - start,)."""
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        parts = [self.table(block).difficulty() for block in blocks]
        first = start - blocks[0] * BLOCK
        return {
            name: np.concatenate([p[name] for p in parts])[first : first + stop - start] for name in parts[0]
        }

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
        return Rendered(images[:, None], labels, picture.mask, picture.depth)
