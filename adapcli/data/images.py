"""Reading one picture of any kind, or saying in a few words why not. Nothing in a file is ever executed."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Encapsulated PostScript is a program: Pillow would start Ghostscript to run it.
NEVER = frozenset({"EPS"})


class UnreadableImageError(Exception):
    """Why a picture cannot be read, without its path."""


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """The formats that are read: all of Pillow's except those that execute."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - NEVER))


@lru_cache(maxsize=1)
def suffixes() -> frozenset[str]:
    """File name endings, lower case with the dot, that announce a picture."""
    readable = formats()
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in readable)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Pillow warns about damaged metadata and large pictures; one is harmless, the other refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_image(file: Path | bytes, mode: str) -> Image.Image:
    """The picture in a file, or in its content, in mode "L" or "RGB", 8 bits, upright; an animation's first.

    16-bit grey is scaled, not clipped; transparency is dropped, as the usual loaders do.
    Raises UnreadableImageError. Call it inside `no_warnings`.
    """
    with opened(file) as image:
        return upright(image, mode)


def check_image(file: Path | bytes, mode: str) -> str:
    """The reason why `read_image` would fail, or "". JPEG is decoded at reduced size, which is quicker."""
    try:
        with opened(file) as image:
            image.draft(mode, (32, 32))
            upright(image, mode)
    except UnreadableImageError as error:
        return str(error)
    return ""


def is_grey(file: Path | bytes) -> bool:
    """Whether a picture has no colour, by its mode alone. Raises UnreadableImageError."""
    with opened(file) as image:
        return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


@contextmanager
def opened(file: Path | bytes) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong until the block ends becomes UnreadableImageError."""
    try:
        with Image.open(_checked(file), formats=formats()) as image:
            _refuse_bomb(image)
            yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not a picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("too many pixels: decompression bomb?") from error
    except Exception as error:
        # Pillow's many decoders raise whatever they stumble over in a damaged file.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(_without_place(reason, file)) from error


def _checked(file: Path | bytes) -> Path | BytesIO:
    if isinstance(file, Path) and file.is_dir():
        raise UnreadableImageError("a folder, not a picture")
    if (len(file) if isinstance(file, bytes) else file.stat().st_size) == 0:
        raise UnreadableImageError("empty file")
    return BytesIO(file) if isinstance(file, bytes) else file


def _without_place(reason: str, file: Path | bytes) -> str:
    if isinstance(file, Path):
        return reason.replace(str(file), file.name)
    return re.sub(r"<_io\.BytesIO object at \w+>", "picture", reason)


def _refuse_bomb(image: Image.Image) -> None:
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        raise UnreadableImageError(f"{pixels:,} pixels, more than {limit:,}: decompression bomb?")


def upright(image: Image.Image, mode: str) -> Image.Image:
    """A picture of any mode as `read_image` gives it; UnreadableImageError for pixels out of range."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.mode in ("P", "PA", "RGBa"):
        # By way of RGBA: a palette's transparency may be a list that RGB cannot take.
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit whole numbers, or floating point in [0, 1], to 8-bit grey."""
    pixels, top = np.asarray(image, dtype=np.float64), 1 if image.mode == "F" else 65_535
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= top):
        raise UnreadableImageError(f"pixel values {low:g}..{high:g} lie outside 0..{top}")
    return Image.fromarray(np.rint(pixels * (255 / top)).astype(np.uint8))
