"""Loose pictures, named one by one or by their folder: found in order, and read a few ahead of their use."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from adapcli.data.images import Decoding, UnreadableImageError, decode, no_warnings
from adapcli.data.listing import pictures_in
from adapcli.data.transforms import picture_mode, preprocess
from adapcli.errors import FileError
from adapcli.limits import cpus
from adapcli.model.preprocessing import Preprocessing, rgb


@dataclass(frozen=True)
class Picture:
    """One picture: its path as given, and the model's input (C, H, W), or the reason why it has none.

    transparent: whether pixels of it were composited on the background.
    """

    path: str
    image: Tensor | None = None
    reason: str = ""
    transparent: bool = False


def find_pictures(places: Iterable[str]) -> list[str]:
    """Paths of pictures: a file as it is, a folder as all pictures below it, by name, hidden ones left out.

    What is no folder is taken for a picture, whatever its name; whether it is one shows when it is read.
    Raises FileError for a folder without pictures, or one that cannot be read.
    """
    return [path for place in places for path in (_below(place) if _is_folder(place) else [place])]


def _is_folder(place: str) -> bool:
    with suppress(OSError, ValueError):  # a name too long, or with a zero byte: said when it is read
        return place != "" and Path(place).is_dir()
    return False


def _below(folder: str) -> list[str]:
    found = [path for path in pictures_in(Path(folder)) if not _is_hidden(path.relative_to(folder))]
    if not found:
        raise FileError(f"{folder}: no pictures found in it", "looked for names that end in .png, .jpg, ...")
    return list(map(str, found))


def _is_hidden(path: Path) -> bool:
    """Hidden, or of those folders that archivers add: __MACOSX."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def read_pictures(
    paths: Iterable[str], preprocessing: Preprocessing, *, ahead: int = 64, how: Decoding | None = None
) -> Iterator[Picture]:
    """Every picture in order, preprocessed; threads read at most `ahead` of them before they are asked for.

    how: how they are decoded; None: as the preprocessing says.
    Warnings are off until it ends, Pillow's would come from the threads. UsageError for a model that
    takes neither 1 nor 3 channels.
    """
    mode, decoding = picture_mode(len(preprocessing.mean)), how or Decoding(rgb(preprocessing.background))

    def read(path: str) -> Picture:
        try:
            found = decode(Path(path), mode, decoding)
            return Picture(path, preprocess(found.image, preprocessing), transparent=found.transparent)
        except UnreadableImageError as error:
            return Picture(path, reason=str(error))

    pool = ThreadPoolExecutor(cpus())
    waiting: deque[Future[Picture]] = deque()
    try:
        with no_warnings():
            for path in paths:
                waiting.append(pool.submit(read, path))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
