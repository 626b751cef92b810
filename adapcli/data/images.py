"""Reading one image of any kind, or saying in a few words why not. Nothing in a file is ever executed.

One function, `converted`, decides how any mode becomes 8-bit grey or RGB, for files, bytes and arrays.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

# Encapsulated PostScript is a program: Pillow would start Ghostscript to run it.
NEVER = frozenset({"EPS"})
MAX_PIXELS = 89_478_485
"""Pixels of one image unless a user allows more; Pillow's own limit. At 3 bytes each: 256 MiB."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation, what turns the stored pixels upright."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
"""What the pixels of a PNG, their transparency and their orientation are made of."""
_MOST_STRIPPED = 1 << 28
"""Bytes of a PNG that is read into memory to leave out its metadata."""

T = TypeVar("T")


class UnreadableImageError(Exception):
    """Why an image cannot be read, without its path."""


@dataclass(frozen=True)
class Decoding:
    """What a user decides about reading. background: (R, G, B) behind transparent pixels, 0..255 each;
    max_pixels: an image of more is refused before it is decoded."""

    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = MAX_PIXELS


DECODING = Decoding()


class Decoded(NamedTuple):
    """An upright image of 8 bits in mode L or RGB. orientation: EXIF's, which it was turned by (1: not at
    all); transparent: whether pixels were composited on the background; frames: whether it has more of them.
    """

    image: Image.Image
    orientation: int = 1
    transparent: bool = False
    frames: bool = False


class Examined(NamedTuple):
    """reason: why an image cannot be read, or ""; transparent, frames: as of `Decoded`."""

    reason: str = ""
    transparent: bool = False
    frames: bool = False


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """The formats that are read: all of Pillow's except those that execute."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - NEVER))


@lru_cache(maxsize=1)
def suffixes() -> frozenset[str]:
    """File name endings, lower case with the dot, that announce an image."""
    readable = formats()
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in readable)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Pillow warns about damaged metadata and large images; one is harmless, the other refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_image(file: Path | bytes, mode: str, how: Decoding = DECODING) -> Image.Image:
    """The image in a file, or in its content, in mode "L" or "RGB", 8 bits, upright; of frames the first.

    `converted` says what becomes of other modes. Raises UnreadableImageError. Call it inside `no_warnings`.
    """
    return decode(file, mode, how).image


def decode(file: Path | bytes, mode: str, how: Decoding = DECODING) -> Decoded:
    """The same, with what was found on the way. Raises UnreadableImageError."""
    return use(file, lambda image: _decoded(image, mode, how), how.max_pixels)


def examine_image(file: Path | bytes, mode: str, how: Decoding = DECODING) -> Examined:
    """Whether `read_image` would fail, and why. JPEG is decoded at reduced size, which is quicker."""

    def quickly(image: Image.Image) -> Decoded:
        image.draft(mode, (32, 32))
        return _decoded(image, mode, how)

    try:
        found = use(file, quickly, how.max_pixels)
    except UnreadableImageError as error:
        return Examined(str(error))
    return Examined("", found.transparent, found.frames)


def check_image(file: Path | bytes, mode: str, how: Decoding = DECODING) -> str:
    """The reason why `read_image` would fail, or ""."""
    return examine_image(file, mode, how).reason


def is_grey(file: Path | bytes) -> bool:
    """Whether an image has no colour, by its mode alone. Raises UnreadableImageError."""
    with opened(file) as image:
        return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def use(file: Path | bytes, function: Callable[[Image.Image], T], max_pixels: int | None) -> T:
    """`function` of an opened image; again without its metadata if a PNG fails, since pixels may be fine.

    Texts and colour profiles of a PNG are never needed, but Pillow refuses the image when they are damaged or
    unpack to more than 1 MB. Raises UnreadableImageError.
    """
    try:
        with opened(file, max_pixels) as image:
            return function(image)
    except UnreadableImageError:
        stripped = _without_metadata(file)
        if stripped is None:
            raise
        with opened(stripped, max_pixels) as image:
            return function(image)


@contextmanager
def opened(file: Path | bytes, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong until the block ends becomes UnreadableImageError.

    max_pixels: refuse larger ones; None: any, for what looks at the header alone.
    """
    try:
        with _open(file, max_pixels) as image:
            if max_pixels is not None:
                _refuse_bomb(image, max_pixels)
            yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not a picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("too many pixels: decompression bomb? --max-pixels allows more") from error
    except Exception as error:
        # Pillow's many decoders raise whatever they stumble over in a damaged file.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(_without_place(reason, file)) from error


def _open(file: Path | bytes, max_pixels: int | None) -> Image.Image:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and (max_pixels or 0) > limit:
        # Formats ask Pillow's limit while they decode. It is this process's; ours is each call's.
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        return Image.open(_checked(file), formats=formats())
    except (ValueError, UnidentifiedImageError):  # of a PNG, texts before the pixels are read here
        stripped = _without_metadata(file)
        if stripped is None:
            raise
        return Image.open(BytesIO(stripped), formats=formats())


def _checked(file: Path | bytes) -> Path | BytesIO:
    if isinstance(file, Path) and file.is_dir():
        raise UnreadableImageError("a folder, not a picture")
    if (len(file) if isinstance(file, bytes) else file.stat().st_size) == 0:
        raise UnreadableImageError("empty file")
    return BytesIO(file) if isinstance(file, bytes) else file


def _without_metadata(file: Path | bytes) -> bytes | None:
    """A PNG's content without texts, profiles and the like, none unpacked; None if that changes nothing."""
    try:
        if isinstance(file, bytes):
            content = file
        elif file.is_file() and file.stat().st_size <= _MOST_STRIPPED:
            content = file.read_bytes()
        else:
            return None
    except OSError:
        return None
    if not content.startswith(_PNG):
        return None
    place, pieces, dropped = len(_PNG), [_PNG], False
    while place < len(content):
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        end = place + 12 + size
        if kind in _PNG_CHUNKS:
            pieces.append(content[place:end])
        else:
            dropped = True
        place = end
    return b"".join(pieces) if dropped else None


def _without_place(reason: str, file: Path | bytes) -> str:
    if isinstance(file, Path):
        return reason.replace(str(file), file.name)
    return re.sub(r"<_io\.BytesIO object at \w+>", "picture", reason)


def _refuse_bomb(image: Image.Image, limit: int) -> None:
    pixels = image.width * image.height
    if pixels > limit:
        raise UnreadableImageError(
            f"{pixels:,} pixels, more than {limit:,} (decompression bomb?): --max-pixels {pixels} allows it"
        )


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 without one, and where EXIF is damaged: no reason to refuse an image."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whatever a damaged block makes Pillow's parsers raise
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def turned(image: Image.Image, how: int) -> Image.Image:
    """Stored pixels, upright by an EXIF orientation."""
    return image.transpose(TURNS[how]) if how in TURNS else image


def upright(image: Image.Image) -> tuple[Image.Image, int]:
    """An opened image, loaded and turned by its EXIF orientation, and that orientation (1: none)."""
    found = orientation(image)
    image.load()
    # Newer versions of Pillow turn TIFF while they load it, and then say no orientation any more.
    return turned(image, orientation(image)), found


def _decoded(image: Image.Image, mode: str, how: Decoding) -> Decoded:
    frames = _has_frames(image)
    pixels, found = upright(image)
    result, transparent = converted(pixels, mode, how, *_scale(image))
    return Decoded(result, found, transparent, frames)


def _has_frames(image: Image.Image) -> bool:
    """Whether it is an animation or has several pages; a photo's preview (MPO) is neither."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame is not needed
        return False


def _scale(image: Image.Image) -> tuple[int, bool]:
    """The largest value of deep integer pixels, and whether 0 is white: what TIFF says beside the mode."""
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(258), tags.get(262)
    return (4095 if bits in (12, (12,)) else 65_535), photometric == 0


def converted(
    image: Image.Image, mode: str, how: Decoding = DECODING, top: int = 65_535, inverted: bool = False
) -> tuple[Image.Image, bool]:
    """An upright image of any mode in mode L or RGB of 8 bits, and whether any of its pixels is transparent.

    Whole numbers of more than 8 bits are scaled from 0..`top`, floating point from 0..1, never clipped;
    transparent pixels are composited on the background, premultiplied or not, by alpha channel, palette or a
    single transparent colour; CMYK, YCbCr, HSV and palettes as Pillow converts them, without their colour
    profile. inverted: deep pixels count down from white. UnreadableImageError for values out of range.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image, top, inverted)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _with_alpha(image)
        if image.getchannel("A").getextrema()[0] == 255:
            return image.convert(mode), False
        canvas = Image.new("RGBA", image.size, (*how.background, 255))
        return Image.alpha_composite(canvas, image).convert(mode), True
    return (image.convert("RGBA") if image.mode == "P" else image).convert(mode), False


def _with_alpha(image: Image.Image) -> Image.Image:
    """In mode RGBA."""
    colour = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(colour, tuple) and max(colour) > 255:
        # Of 16 bits per channel, of which Pillow keeps the upper 8.
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _eight_bits(image: Image.Image, top: int, inverted: bool) -> Image.Image:
    """Whole numbers, or floating point in [0, 1], to 8-bit grey; alpha where one value is transparent."""
    pixels, clear = np.asarray(image, dtype=np.float64), image.info.get("transparency")
    grey = Image.fromarray(scaled(pixels, 1 if image.mode == "F" else top, inverted=inverted))
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(pixels == clear, 0, 255).astype(np.uint8)))
    return grey


def scaled(pixels: np.ndarray, top: int, *, inverted: bool = False) -> np.ndarray:
    """Values in 0..`top` to 0..255 uint8; UnreadableImageError for values beyond."""
    values = pixels.astype(np.float64)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):
        raise UnreadableImageError(f"pixel values {low:g}..{high:g} lie outside 0..{top}")
    return np.rint((top - values if inverted else values) * (255 / top)).astype(np.uint8)
