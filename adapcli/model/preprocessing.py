"""What happens to an image before the model sees it; travels with the checkpoint."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapcli.errors import FileError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
CROPS = ("centre", "none")
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}

# A stranger's checkpoint says what to resize images to: bounds on what that may cost.
MAX_PIXELS = 8192
MAX_STATISTIC = 1e6


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's input: resize, crop, subtract `mean`, divide by `std`.

    crop: "centre": the shorter side is resized to `resize` pixels, the central `size` x `size` are cut out;
    "none": the whole image is resized to `size` x `size`, whatever its aspect ratio, and `resize` is `size`.
    background: what transparent pixels are composited on: white, black or #RRGGBB.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop: str = "centre"
    background: str = "white"

    @classmethod
    def published(cls, size: int, channels: int) -> "Preprocessing":
        """As in the published ImageNet-1K evaluation (resize 256, crop 224, CLIP statistics), for `size`."""
        if channels != 3:
            return cls(size, size, (0.0,) * channels, (1.0,) * channels)
        return cls(size, round(size * 256 / 224), CLIP_MEAN, CLIP_STD)

    @property
    def text(self) -> str:
        """For people: what happens to an image, without the statistics."""
        cut = f"centre {self.size} px" if self.crop == "centre" else "no crop"
        return f"resize {self.resize} px ({self.interpolation}), {cut}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON. Fields newer than the format are left out where they are the default,
        so that what needs none of them can be read by older versions."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in values.items() if k not in _NEWER or v != _NEWER[k]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], channels: int) -> "Preprocessing":
        """Checked reading, for images of `channels` channels; FileError names what is wrong."""
        if not isinstance(values, Mapping):
            raise FileError("preprocessing: expected an object with fields")
        if set(values) - set(_NEWER) != set(_ALWAYS):
            raise FileError(f"preprocessing: expected the fields {', '.join(_ALWAYS)}")
        size, resize = _pixels("size", values["size"]), _pixels("resize", values["resize"])
        mean, std = (_statistics(name, values[name], channels) for name in ("mean", "std"))
        crop, background = (values.get(name, _NEWER[name]) for name in ("crop", "background"))
        if resize < size:
            raise FileError(f"preprocessing: resize {resize}: smaller than size {size}")
        if min(std) <= 0:
            raise FileError("preprocessing: std: expected positive numbers")
        for name, value, allowed in (
            ("interpolation", values["interpolation"], INTERPOLATIONS),
            ("crop", crop, CROPS),
        ):
            if value not in allowed:
                raise FileError(f"preprocessing: {name}: expected {', '.join(allowed[:-1])} or {allowed[-1]}")
        if crop == "none" and resize != size:
            raise FileError(f"preprocessing: crop none: resize {resize} is not size {size}")
        if not is_background(background):
            raise FileError("preprocessing: background: expected white, black or #RRGGBB")
        return cls(size, resize, mean, std, values["interpolation"], crop, background)


_ALWAYS = ("size", "resize", "mean", "std", "interpolation")
_NEWER = {"crop": "centre", "background": "white"}


def is_background(value: object) -> bool:
    """Whether a value is white, black or #RRGGBB."""
    return isinstance(value, str) and (
        value in BACKGROUNDS or bool(re.fullmatch("#[0-9a-fA-F]{6}", value, re.ASCII))
    )


def rgb(background: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of white, black or #RRGGBB."""
    if background in BACKGROUNDS:
        return BACKGROUNDS[background]
    red, green, blue = bytes.fromhex(background.removeprefix("#"))
    return red, green, blue


def _pixels(name: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_PIXELS:
        raise FileError(f"preprocessing: {name}: expected a number of pixels up to {MAX_PIXELS}")
    return value


def _statistics(name: str, values: object, channels: int) -> tuple[float, ...]:
    numbers = list(values) if isinstance(values, list | tuple) else []
    usable = all(type(v) in (int, float) and abs(v) <= MAX_STATISTIC for v in numbers)
    if len(numbers) != channels or not usable:
        raise FileError(f"preprocessing: {name}: expected {channels} finite numbers")
    return tuple(map(float, numbers))
