"""What happens to an image before the model sees it; travels with the checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from adapcli.errors import FileError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


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
        """Checked reading; FileError names what is wrong."""
        try:
            p = cls(
                int(values["size"]),
                int(values["resize"]),
                tuple(map(float, values["mean"])),
                tuple(map(float, values["std"])),
                str(values["interpolation"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"preprocessing: {error!r}") from error
        sizes = 1 <= p.size <= p.resize <= 65_536
        statistics = len(p.mean) == len(p.std) == channels and all(map(isfinite, p.mean)) and min(p.std) > 0
        if not (sizes and statistics and p.interpolation in ("bilinear", "bicubic")):
            raise FileError(f"preprocessing: not usable: {p}")
        return p
