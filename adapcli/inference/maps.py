"""Maps as files that other programs read: masks as PNG with a palette, depth as 16-bit PNG with a scale."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adapcli.errors import UsageError
from adapcli.model.perceiver import AdaPerceiver
from policies.files import write_bytes, write_json

FACTS = "maps.json"
LEVELS = 2**16 - 1
MILLIMETRE_M = 0.001

Map = NDArray[Any]


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
        return _png(Image.fromarray(mask.astype(np.uint16)), {"content": "class"})
    image = Image.fromarray(mask.astype(np.uint8), "L")
    image.putpalette(palette(256).tobytes())
    return _png(image, {"content": "class"})


def depth_png(metres: Map, unit_m: float) -> bytes:
    """Metres (H, W) as a 16-bit PNG: value x unit_m is metres, as a text in it says; 0: unknown."""
    values = np.rint(np.clip(metres / unit_m, 1, LEVELS)).astype(np.uint16)
    return _png(Image.fromarray(values), {"content": "depth", "metres_per_unit": repr(unit_m)})


def depth_unit_m(farthest: float) -> float:
    """Metres that a step of a depth PNG stands for: a millimetre if that reaches `farthest`, else more."""
    return MILLIMETRE_M if farthest <= MILLIMETRE_M * LEVELS else farthest / LEVELS


def _png(image: Image.Image, told: dict[str, str]) -> bytes:
    info, buffer = PngInfo(), io.BytesIO()
    for name, value in told.items():
        info.add_text(name, value)
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@dataclass
class MapFolder:
    """A folder that fills up with maps, one file per picture; `maps.json` in it says how to read them."""

    folder: Path
    model: AdaPerceiver
    last: Path | None = None
    _taken: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What pixel values mean, and which part of a picture they cover."""
        config = self.model.config
        seen = {"preprocessing": self.model.preprocessing.to_dict(), "task": config.task}
        if config.task == "depth":
            return {**seen, "metres_per_unit": depth_unit_m(config.max_depth)}
        names = list(self.model.class_names) or [str(k) for k in range(config.num_classes or 0)]
        colours = palette(len(names)).tolist() if len(names) <= 256 else None
        return {**seen, "classes": names, "colours": colours}

    def write(self, path: str, drawn: Map) -> Path:
        """Keep the map of a picture under its name; of equal names the later ones get a number.

        The first one also writes `maps.json`. AdapError if the folder cannot be written.
        """
        if self.last is None:
            write_json(self.folder / FACTS, self.facts())
        config, file = self.model.config, self.folder / self._name(path)
        if config.task == "depth":
            write_bytes(file, depth_png(drawn, depth_unit_m(config.max_depth)))
        else:
            write_bytes(file, mask_png(drawn, config.num_classes or 0))
        self.last = file
        return file

    def _name(self, path: str) -> str:
        stem = "".join(c if c.isprintable() else "_" for c in Path(path).stem) or "picture"
        while stem in self._taken:
            self._taken[stem] += 1
            stem = f"{stem}-{self._taken[stem]}"
        self._taken[stem] = 1
        return f"{stem}.png"


def check_folder(folder: Path, pictures: Sequence[str], *, overwrite: bool) -> None:
    """UsageError if maps would be written over something, or among the pictures that they are of."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: not a folder", "choose another name with --maps")
    place = folder.resolve()
    if any(Path(path).absolute().parent.resolve() == place for path in pictures):
        raise UsageError(f"{folder} holds the pictures themselves", "choose another folder with --maps")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{folder} is not empty", "--overwrite writes into it all the same")
