"""Files of masks and depth maps: what they hold, and what cannot be an image's target.

A file that is damaged raises UnreadableImageError, and is skipped; one that is whole but cannot be the target
of its image raises FileError.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adapcli.data.dense import IGNORE, UNKNOWN_M
from adapcli.data.images import MAX_PIXELS, Decoded, UnreadableImageError, upright, use
from adapcli.errors import FileError
from adapcli.model.config import Task

DESCRIPTION = "dataset.json"
DEPTH_SCALE = 1000.0
LOSSY = ("JPEG", "MPO", "JPEG2000")


Values = tuple[tuple[int, int], ...]
Colours = tuple[tuple[tuple[int, int, int], int], ...]


@dataclass(frozen=True)
class Coding:
    """How values of the files become targets.

    first: the value of class 0; ignore: the value that is not scored; scale: values per metre. values,
    colours: the class of each value or colour, `IGNORE` for those that are not scored, in place of first and
    ignore.
    orientation: "stored" or "upright": which pixels a target was made on whose image EXIF turns, where sizes
    do not tell.
    """

    first: int = 0
    ignore: int = IGNORE
    scale: float = DEPTH_SCALE
    values: Values = ()
    colours: Colours = ()
    orientation: str = "stored"

    @property
    def text(self) -> str:
        """For fingerprints; unchanged by fields that are newer and not used."""
        newer = {"values": self.values, "colours": self.colours, "orientation": self.orientation}
        plain = Coding()
        used = "".join(
            f", {name}={value!r}" for name, value in newer.items() if value != getattr(plain, name)
        )
        return f"Coding(first={self.first}, ignore={self.ignore}, scale={self.scale}{used})"


class Target(NamedTuple):
    """Values (H, W) of a target. orientation: its own of EXIF, by which it was turned (1: none)."""

    values: NDArray[Any]
    orientation: int = 1


class _Stored(NamedTuple):
    """Pixels as they are: (H, W), or (H, W, 3) of colours."""

    pixels: NDArray[Any]
    mode: str
    format: str
    orientation: int


def read_mask(path: Path, coding: Coding | None = None, max_pixels: int = MAX_PIXELS) -> Target:
    """Classes (H, W) int64 from 0, `IGNORE` where none is scored.

    Palette pictures count by their indices, unless the coding is one of colours. UnreadableImageError for a
    file that cannot be read; FileError for one that is lossy, holds colours, or values without a meaning.
    """
    coding = coding or Coding()
    stored = _stored(path, max_pixels, colours=bool(coding.colours))
    if coding.colours:
        red, green, blue = np.moveaxis(stored.pixels.astype(np.int64), -1, 0)
        known = tuple((r << 16 | g << 8 | b, c) for (r, g, b), c in coding.colours)
        codes = red << 16 | green << 8 | blue
        return Target(_by_value(path, codes, known, "colours"), stored.orientation)
    values = _indices(path, stored)
    if coding.values:
        return Target(_by_value(path, values, coding.values, "values"), stored.orientation)
    ignored, classes = values == coding.ignore, values - coding.first
    scored = classes[~ignored]
    if (scored < 0).any():
        low = scored.min() + coding.first
        raise FileError(f"{path}: value {low}: classes begin at {coding.first}", _say(low))
    if (scored == IGNORE).any():
        high = IGNORE + coding.first
        raise FileError(f"{path}: value {high}: class {IGNORE} stands for what is not scored", _say(high))
    return Target(np.where(ignored, IGNORE, classes), stored.orientation)


def stored_values(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.int64]:
    """What a mask holds, whatever it means. Raises as `read_mask`."""
    return _indices(path, _stored(path, max_pixels))


def read_depth(path: Path, coding: Coding | None = None, max_pixels: int = MAX_PIXELS) -> Target:
    """Metres (H, W) float32, 0 where unknown: 16-bit values by the coding's scale, or floating point.

    UnreadableImageError for a file that cannot be read, FileError for one of 8 bits or in colours.
    """
    stored = _stored(path, max_pixels)
    if stored.mode == "F":
        metres = stored.pixels.astype(np.float32)
    elif stored.mode == "I" or stored.mode.startswith("I;16"):
        metres = (stored.pixels.astype(np.float64) / (coding or Coding()).scale).astype(np.float32)
    else:
        raise FileError(f"{path}: depth needs 16 bits per pixel, this has mode {stored.mode}")
    known = np.isfinite(metres) & (metres > 0)
    return Target(np.where(known, metres, np.float32(UNKNOWN_M)), stored.orientation)


def _stored(path: Path, max_pixels: int, *, colours: bool = False) -> _Stored:
    def read(image: Image.Image) -> _Stored:
        mode, form = image.mode, str(image.format)
        pixels, turn = upright(image)
        if colours:
            pixels = pixels.convert("RGB")
        elif mode in ("LA", "PA"):
            pixels = pixels.getchannel(0)
        elif mode == "RGBA":
            pixels = pixels.convert("RGB")
        return _Stored(np.asarray(pixels), mode, form, turn)

    return use(path, read, max_pixels)


def _indices(path: Path, stored: _Stored) -> NDArray[np.int64]:
    if stored.format in LOSSY:
        raise FileError(f"{path}: {stored.format} is lossy: its values are not classes", "save masks as PNG")
    pixels = stored.pixels
    if pixels.ndim == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]  # grey, saved in three channels
    if pixels.ndim != 2 or stored.mode == "F":
        raise FileError(
            f"{path}: a mask holds one class per pixel, this has mode {stored.mode}",
            f'"colours": {{"#FF0000": 1, ...}} in {DESCRIPTION} says which class each colour is',
        )
    return pixels.astype(np.int64)


def _by_value(path: Path, values: NDArray[np.int64], known: Any, field: str) -> NDArray[np.int64]:
    keys, classes = np.array(known, dtype=np.int64).T
    order = np.argsort(keys)
    places = np.searchsorted(keys, values, sorter=order).clip(max=len(keys) - 1)
    places = order[places]
    strange = values[keys[places] != values]
    if strange.size:
        shown = f"#{strange[0]:06X}" if field == "colours" else str(strange[0])
        raise FileError(
            f"{path}: {shown} is not among the {field} of {DESCRIPTION}",
            f'"{shown}": a class, or null where nothing is scored',
        )
    found: NDArray[np.int64] = classes[places]
    return found


def _say(value: int) -> str:
    return f'in {DESCRIPTION}, "ignore": {value} if it is not scored, or "first": the value of class 0'


_TURNED: dict[int, Any] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 3),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, 1),
}
"""As `images.TURNS`, of arrays (H, W)."""


def side_of(size: tuple[int, int], stored: tuple[int, int], turn: int) -> str:
    """Which pixels a target of `size` was made on, if its image is stored with size `stored` and turned.

    "stored", "upright", "unclear" if both have this size, "" if neither has.
    """
    upright = (stored[1], stored[0]) if turn >= 5 else stored
    if size not in (stored, upright):
        return ""
    return "unclear" if stored == upright else "stored" if size == stored else "upright"


def aligned(target: Target, image: Decoded, coding: Coding) -> NDArray[Any]:
    """The values as its upright image lies: turned with it, if they were made on the stored pixels.

    A target with an orientation of its own is upright already. Otherwise its size says it, or, where both
    sizes are the same, the coding.
    """
    turn = image.orientation
    if turn == 1 or target.orientation != 1:
        return target.values
    side = side_of(target.values.shape[::-1], stored_size(image), turn)
    if side == "stored" or (side == "unclear" and coding.orientation == "stored"):
        return np.ascontiguousarray(_TURNED[turn](target.values))
    return target.values


def stored_size(image: Decoded) -> tuple[int, int]:
    """Width and height of an image before it was turned."""
    width, height = image.image.size
    return (height, width) if image.orientation >= 5 else (width, height)


def check_target(path: Path, values: NDArray[Any], image: Decoded, task: Task, classes: int | None) -> None:
    """FileError, naming the file, for what can be no target of an image.

    classes: a mask may hold 0..classes - 1, and `IGNORE`; None: any.
    """
    height, width = values.shape
    if (width, height) != image.image.size:
        size = "{} x {}".format(*image.image.size)
        exif = ""
        if image.orientation != 1:
            exif = ", upright by EXIF orientation {}; {} x {} stored".format(
                image.orientation, *stored_size(image)
            )
        raise FileError(f"{path}: {width} x {height} pixels, its picture has {size}{exif}")
    if task == "depth" and not (values > UNKNOWN_M).any():
        raise FileError(f"{path}: no pixel has a depth: all {values.size} are 0")
    if task == "segmentation" and classes is not None:
        beyond = values[(values != IGNORE) & (values >= classes)]
        if beyond.size:
            raise FileError(
                f"{path}: class {beyond.max()}, there are {classes} (0..{classes - 1})",
                "values between classes come from smoothing: resize masks by nearest, and save them as PNG",
            )


def read_target(path: Path, task: Task, coding: Coding, max_pixels: int = MAX_PIXELS) -> Target:
    """Classes or metres of a target's file. UnreadableImageError and FileError, both naming the file."""
    read = read_depth if task == "depth" else read_mask
    try:
        return read(path, coding, max_pixels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{path.name}: {error}") from error
