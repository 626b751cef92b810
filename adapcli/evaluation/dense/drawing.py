"""Maps as files that others read, and as pictures: masks by palette, depth as 16 bits with a scale."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

LEVELS = 2**16 - 1
MILLIMETRE_M = 0.001
GREY = (150, 150, 150)

Map = NDArray[Any]
Pixels = NDArray[np.uint8]


def palette(classes: int) -> NDArray[np.uint8]:
    """Colours (classes, 3) that tell neighbours apart; class 0 is black (the PASCAL VOC colour map)."""
    found = np.zeros((classes, 3), np.uint8)
    for index in range(classes):
        for bit in range(8):
            for channel in range(3):
                found[index, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return found


def mask_png(mask: Map, classes: int) -> bytes:
    """Classes (H, W) as a PNG whose pixel values are the classes: with a palette, or 16-bit beyond 256."""
    if classes > 256:
        return png(Image.fromarray(mask.astype(np.uint16)), {"content": "class"})
    image = Image.fromarray(mask.astype(np.uint8), "L")
    image.putpalette(palette(256).tobytes())
    return png(image, {"content": "class"})


def depth_png(metres: Map, unit_m: float) -> bytes:
    """Metres (H, W) as a 16-bit PNG: value x unit_m is metres, as a text in it says; 0: unknown."""
    values = np.rint(np.clip(metres / unit_m, 1, LEVELS)).astype(np.uint16)
    return png(Image.fromarray(values), {"content": "depth", "metres_per_unit": repr(unit_m)})


def depth_unit_m(farthest: float) -> float:
    """Metres that a step of a depth PNG stands for: a millimetre if that reaches `farthest`, else more."""
    return MILLIMETRE_M if farthest <= MILLIMETRE_M * LEVELS else farthest / LEVELS


def png(image: Image.Image, told: dict[str, str]) -> bytes:
    """An image as PNG, with texts in it."""
    info, buffer = PngInfo(), io.BytesIO()
    for name, value in told.items():
        info.add_text(name, value)
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def shaded(metres: NDArray[Any], low: float, high: float, known: NDArray[np.bool_]) -> Pixels:
    """Levels (H, W, 3) of metres: bright is near; grey where unknown."""
    from adapcli.plotting import colormaps

    share = np.clip((metres - low) / max(high - low, 1e-6), 0, 1)
    levels = np.rint(255 * colormaps["viridis"](1 - share)[..., :3]).astype(np.uint8)
    return np.where(known[..., None], levels, np.array(GREY, np.uint8))
