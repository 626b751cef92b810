"""What happens to an image before the model sees it; travels with the checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from adapcli.errors import FileError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
INTERPOLATIONS = ("bilinear", "bicubic")

# A stranger's checkpoint says what to resize images to: bounds on what that may cost.
MAX_PIXELS = 8192
MAX_STATISTIC = 1e6


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to `resize`, crop the central `size`, subtract `mean`, divide by `std`."""

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    @classmethod
    def published(cls, size: int, channels: int) -> "Preprocessing":
        """As in the published ImageNet-1K evaluation (resize 256, crop 224, CLIP statistics), for `size`."""
        if channels != 3:
            return cls(size, size, (0.0,) * channels, (1.0,) * channels)
        return cls(size, round(size * 256 / 224), CLIP_MEAN, CLIP_STD)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], channels: int) -> "Preprocessing":
        """Checked reading, for images of `channels` channels; FileError names what is wrong."""
        if not isinstance(values, Mapping):
            raise FileError("preprocessing: expected an object with fields")
        names = [field.name for field in fields(cls)]
        if set(values) != set(names):
            raise FileError(f"preprocessing: expected the fields {', '.join(names)}")
        size, resize = _pixels("size", values["size"]), _pixels("resize", values["resize"])
        mean, std = (_statistics(name, values[name], channels) for name in ("mean", "std"))
        if resize < size:
            raise FileError(f"preprocessing: resize {resize}: smaller than size {size}")
        if min(std) <= 0:
            raise FileError("preprocessing: std: expected positive numbers")
        if values["interpolation"] not in INTERPOLATIONS:
            raise FileError(f"preprocessing: interpolation: expected {' or '.join(INTERPOLATIONS)}")
        return cls(size, resize, mean, std, values["interpolation"])


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
