"""Files of masks and depth maps: what they hold, and what cannot be a picture's target."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapcli.data.dense import IGNORE, UNKNOWN_M
from adapcli.data.images import UnreadableImageError, opened
from adapcli.errors import FileError
from adapcli.model.config import Task


def read_mask(path: Path, *, first: int = 0, ignore: int = IGNORE) -> NDArray[np.int64]:
    """Classes (H, W) from 0, `IGNORE` where the file holds `ignore`; the value `first` is class 0.

    Palette pictures count by their indices, not their colours. UnreadableImageError for a file that cannot be
    read, or that holds colours instead of classes.
    """
    with opened(path) as image:
        if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
            raise UnreadableImageError(f"a mask holds one class per pixel, this has mode {image.mode}")
        values = np.asarray(image).astype(np.int64)
    ignored, classes = values == ignore, values - first
    scored = classes[~ignored]
    if (scored < 0).any():
        raise UnreadableImageError(f"value {scored.min() + first}: classes begin at {first}")
    if (scored == IGNORE).any():
        raise UnreadableImageError(f"value {IGNORE + first}: class {IGNORE} stands for what is not scored")
    return np.where(ignored, IGNORE, classes)


def read_depth(path: Path, *, scale: float) -> NDArray[np.float32]:
    """Metres (H, W), 0 where unknown: 16-bit values by `scale` per metre, or floating point as metres.

    UnreadableImageError for a file that cannot be read, of 8 bits or in colours.
    """
    with opened(path) as image:
        if image.mode == "F":
            metres = np.asarray(image, dtype=np.float32)
        elif image.mode == "I" or image.mode.startswith("I;16"):
            metres = (np.asarray(image).astype(np.float64) / scale).astype(np.float32)
        else:
            raise UnreadableImageError(f"depth needs 16 bits per pixel, this has mode {image.mode}")
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(UNKNOWN_M))


def check_target(
    path: Path, values: NDArray[Any], size: tuple[int, int], task: Task, classes: int | None
) -> None:
    """FileError, naming the file, for what can be no target of a picture of `size` (width, height).

    classes: a mask may hold 0..classes - 1, and `IGNORE`; None: any.
    """
    height, width = values.shape
    if (width, height) != size:
        raise FileError(f"{path}: {width} x {height} pixels, its picture has {size[0]} x {size[1]}")
    if task == "depth" and not (values > UNKNOWN_M).any():
        raise FileError(f"{path}: no pixel has a depth: all {values.size} are 0")
    if task == "segmentation" and classes is not None:
        beyond = values[(values != IGNORE) & (values >= classes)]
        if beyond.size:
            raise FileError(f"{path}: class {beyond.max()}, there are {classes} (0..{classes - 1})")
