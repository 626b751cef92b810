"""Which digits go where: the specification of a scene, and its draw from uniform numbers.

Legend: B scenes of a block, N slots of a scene. Present slots come first, by size; later means nearer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapcli.data.rendering import FAR_M, NEAR_M, PIECES, Paint
from adapcli.data.rules import RULES
from adapcli.data.scans import Scans
from adapcli.errors import UsageError

# Scenes are drawn by the block: the unit of the random stream.
BLOCK = 256
# Noise is cut from a long strip of normal numbers at a place that is drawn per scene.
NOISE_BANK = 1 << 20
# By how much the largest digit exceeds the next where a rule asks which is the largest.
SEPARATION = 1.2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SceneSpec:
    """How scenes are drawn. Lengths in pixels of the canvas.

    canvas: side of the image; min_digits..max_digits per scene, each in its own cell of a square grid;
    min_size..max_size: height of a digit; aspect: width / height varies by this share; jitter: largest shift
    from the cell's centre, in cells; clutter: at most this many fragments of scans lie behind the digits;
    noise: range of the noise's standard deviation; contrast: range of a digit's brightness;
    coupling: how often a factor of difficulty follows the scene's own hardness rather than chance;
    rule: what the label is (a key of `RULES`).
    """

    canvas: int = 32
    min_digits: int = 1
    max_digits: int = 4
    min_size: float = 10.0
    max_size: float = 16.0
    aspect: float = 0.15
    grid: int = 2
    jitter: float = 0.12
    clutter: int = 2
    noise: tuple[float, float] = (0.02, 0.12)
    contrast: tuple[float, float] = (0.5, 1.0)
    coupling: float = 0.5
    rule: str = "maximum"

    def __post_init__(self) -> None:
        apart = SEPARATION if self.rule in RULES and RULES[self.rule].apart else 1.0
        farthest = FAR_M / NEAR_M
        shares = (self.aspect, self.jitter, self.coupling)
        checks = (
            (self.rule in RULES, f"rule: one of {', '.join(RULES)}"),
            (8 <= self.canvas <= 512, "canvas: 8 to 512 pixels"),
            (1 <= self.min_digits <= self.max_digits, "digits: 1 <= min <= max"),
            (self.max_digits <= self.grid**2, "max_digits: at most one per cell of the grid"),
            (1 <= self.min_size <= self.max_size <= self.canvas, "size: 1 <= min <= max <= canvas"),
            (apart * self.min_size <= self.max_size, f"max_size: {apart:g} x min_size or more for this rule"),
            (self.max_size < self.min_size * farthest, f"max_size: below {farthest:g} x min_size"),
            (all(0 <= share <= 1 for share in shares), "aspect, jitter, coupling: 0 to 1"),
            (0 <= self.noise[0] <= self.noise[1] <= 1, "noise: 0 <= low <= high <= 1"),
            (0 < self.contrast[0] <= self.contrast[1] <= 1, "contrast: 0 < low <= high <= 1"),
            (self.clutter >= 0, "clutter: 0 or more"),
        )
        for good, text in checks:
            if not good:
                raise UsageError(f"scene specification: {text}")

    @property
    def num_classes(self) -> int:
        """Number of classes of the label."""
        return RULES[self.rule].classes(self.max_digits)

    @property
    def class_names(self) -> list[str]:
        """What each class stands for: the number that the rule gives."""
        first = RULES[self.rule].first
        return [str(number) for number in range(first, first + self.num_classes)]

    def at(self, canvas: int) -> "SceneSpec":
        """The same scenes on a canvas of another side."""
        scale = canvas / self.canvas
        return replace(self, canvas=canvas, min_size=self.min_size * scale, max_size=self.max_size * scale)

    def to_dict(self) -> dict[str, object]:
        """Plain values, as JSON stores them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SceneSpec":
        """The inverse of `to_dict`; UsageError for an unknown key or a value out of range."""
        try:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**given)
        except TypeError as error:
            raise UsageError(f"scene specification: {error}") from error


@dataclass(frozen=True)
class SceneTable:
    """The digits of a block of scenes: B scenes, N slots, present ones first and painted in order of size.

    values (B, N) 0..9; present (B, N); sizes (B, N) pixels; distance_m (B, N); digits, fragments: what to
    paint; sigma (B,) noise; offset (B,) place in the noise bank; hardness (B,) in [0, 1); label (B,).
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
    """Uniform draws that equal the scene's hardness with probability `coupling`; marginals stay uniform."""

    def __init__(self, rng: np.random.Generator, coupling: float) -> None:
        self.rng, self.coupling = rng, coupling
        self.hardness = rng.random(BLOCK)

    def __call__(self, *shape: int) -> Floats:
        free, follow = self.rng.random((2, BLOCK, *shape))
        hardness = self.hardness.reshape(BLOCK, *[1] * len(shape))
        return np.where(follow < self.coupling, hardness, free)


def draw_scenes(spec: SceneSpec, scans: Scans, rng: np.random.Generator) -> SceneTable:
    """Draw a block of scenes, from uniform numbers alone: that stream is the same in every numpy version."""
    rule, slots = RULES[spec.rule], spec.max_digits
    factor = _Factors(rng, spec.coupling)
    count = spec.min_digits + _whole(factor(), slots + 1 - spec.min_digits)
    present = np.arange(slots) < count[:, None]
    sizes = _draw_sizes(spec, factor(slots), present)
    values = rule.values(rng.random((BLOCK, slots + 2)), present)
    digits = _draw_digits(spec, scans, rng, values, present, sizes, factor)
    fragments = _draw_fragments(spec, scans, rng, _whole(factor(), spec.clutter + 1))
    return SceneTable(
        values=values,
        present=present,
        sizes=sizes,
        distance_m=NEAR_M * spec.max_size / sizes,
        digits=digits,
        fragments=fragments,
        sigma=_between(spec.noise, factor()),
        offset=_whole(rng.random(BLOCK), NOISE_BANK - spec.canvas**2),
        hardness=factor.hardness,
        label=rule.label(values, present),
    )


def _whole(uniform: Floats, below: int | Ints) -> Ints:
    """Uniform numbers in [0, 1) -> whole numbers 0..below - 1."""
    return (uniform * below).astype(np.int64)


def _between(limits: tuple[float, float], quantile: Floats) -> Floats:
    return limits[0] + quantile * (limits[1] - limits[0])


def _draw_sizes(spec: SceneSpec, quantile: Floats, present: NDArray[np.bool_]) -> Floats:
    """Heights, ascending over the present slots; absent slots get the smallest. Hard means small."""
    sizes = _between((spec.min_size, spec.max_size), 1 - quantile)
    sizes = np.sort(np.where(present, sizes, np.inf), axis=1)
    sizes = np.where(present, sizes, spec.min_size)
    if RULES[spec.rule].apart:
        rows, last = np.arange(len(sizes)), present.sum(1) - 1
        biggest = np.maximum(sizes[rows, last], SEPARATION * spec.min_size)
        sizes = np.minimum(sizes, biggest[:, None] / SEPARATION)
        sizes[rows, last] = biggest
    return sizes


def _draw_digits(
    spec: SceneSpec,
    scans: Scans,
    rng: np.random.Generator,
    values: Ints,
    present: NDArray[np.bool_],
    sizes: Floats,
    factor: _Factors,
) -> Paint:
    """Scans of the given values in distinct cells, jittered across borders but inside the canvas."""
    scan = scans.starts[values] + _whole(rng.random(values.shape), scans.counts[values])
    cells = np.argsort(rng.random((BLOCK, spec.grid**2)), axis=1)[:, : spec.max_digits]
    corner = np.stack(np.divmod(cells, spec.grid), axis=-1)
    shift = spec.jitter * (2 * rng.random((*values.shape, 2)) - 1)
    brightness = _between(spec.contrast, 1 - factor(spec.max_digits))
    glyph, extent = _draw_shapes(spec, scans, rng, scan, sizes)
    centre = (corner + 0.5 + shift) * (spec.canvas / spec.grid)
    centre = np.clip(centre, extent / 2, spec.canvas - extent / 2)
    return Paint(glyph, present, centre, extent, brightness, np.zeros_like(glyph))


def _draw_fragments(spec: SceneSpec, scans: Scans, rng: np.random.Generator, count: Ints) -> Paint:
    """Pieces of scans, anywhere on the canvas; they lie behind the digits and carry no label."""
    shape = (BLOCK, spec.clutter)
    scan = _whole(rng.random(shape), len(scans.glyphs))
    size, bright, piece = rng.random((3, *shape))
    centre = rng.random((*shape, 2)) * spec.canvas
    present = np.arange(spec.clutter) < count[:, None]
    glyph, extent = _draw_shapes(spec, scans, rng, scan, _between((spec.min_size, spec.max_size), size))
    return Paint(
        glyph, present, centre, extent, _between(spec.contrast, bright), 1 + _whole(piece, PIECES - 1)
    )


def _draw_shapes(
    spec: SceneSpec, scans: Scans, rng: np.random.Generator, scan: Ints, heights: Floats
) -> tuple[Ints, Floats]:
    """A copy of each scan, and (height, width): the width varies by the share `aspect`."""
    copies = scans.glyphs.shape[1]
    glyph = scan * copies + _whole(rng.random(scan.shape), copies)
    widths = heights * (1 + spec.aspect) ** (2 * rng.random(scan.shape) - 1)
    return glyph, np.stack([heights, np.minimum(widths, spec.canvas)], axis=-1)
