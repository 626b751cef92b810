"""From a picture to the model's input: resize, crop, normalise, as torchvision's evaluation transforms do."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.model.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}
# A strip longer than this many times its width is cut to that first: resizing it whole could fill the memory.
LONGEST = 32


def picture_mode(channels: int) -> str:
    """Pillow's mode for a model of so many input channels; UsageError unless 1 or 3."""
    if channels not in MODES:
        raise UsageError(f"pictures have 1 or 3 channels, the model takes {channels}")
    return MODES[channels]


def preprocess(image: "Image", preprocessing: Preprocessing) -> Tensor:
    """An 8-bit grey or RGB picture -> (C, size, size) float32, normalised.

    See `Preprocessing`; resizing is antialiased.
    For ImageNet as published: resize 256, bilinear; crop 224; CLIP mean and standard deviation.
    """
    pixels = _framed(image, preprocessing, preprocessing.interpolation)
    channels = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    return normalise(channels.float().div(255)[None], preprocessing)[0]


def preprocess_target(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Classes or metres (H, W) -> (size, size), framed as `preprocess` frames a picture of the same size.

    Every value is the nearest one that was there.
    """
    from PIL import Image

    return _framed(Image.fromarray(values.astype(np.float32)), preprocessing, "nearest")


def _framed(image: "Image", preprocessing: Preprocessing, interpolation: str) -> NDArray[Any]:
    """Resized and cropped."""
    if preprocessing.crop == "none":
        return np.array(_resized(image, (preprocessing.size, preprocessing.size), interpolation))
    resized = _resize_shorter(_cut_strip(image), preprocessing.resize, interpolation)
    return np.array(_crop_centre(resized, preprocessing.size))


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(B, 1 or C, H, W) in [0, 1] -> (B, C, H, W): less the mean, divided by the standard deviation."""
    picture_mode(len(preprocessing.mean))
    mean, std = _statistics(images, preprocessing)
    return (images - mean) / std


def denormalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The inverse of `normalise`: (B, C, H, W) -> the same in [0, 1], for showing."""
    mean, std = _statistics(images, preprocessing)
    return (images * std + mean).clamp(0, 1)


def _statistics(images: Tensor, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    mean, std = images.new_tensor(preprocessing.mean), images.new_tensor(preprocessing.std)
    return mean[:, None, None], std[:, None, None]


def _cut_strip(image: "Image") -> "Image":
    width, height = image.size
    longest = LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _resize_shorter(image: "Image", shorter: int, interpolation: str) -> "Image":
    short = min(image.size)
    # The longer side is rounded down, as torchvision does.
    width, height = (int(shorter * side / short) for side in image.size)
    return _resized(image, (width, height), interpolation)


def _resized(image: "Image", size: tuple[int, int], interpolation: str) -> "Image":
    from PIL.Image import Resampling

    return image.resize(size, Resampling[interpolation.upper()])


def _crop_centre(image: "Image", size: int) -> "Image":
    # Half pixels are rounded to even, as torchvision does.
    left, top = (round((side - size) / 2.0) for side in image.size)
    return image.crop((left, top, left + size, top + size))
