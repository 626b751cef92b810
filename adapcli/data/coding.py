"""What the values of masks and depth maps mean, decided once for a folder and reported.

`dataset.json` may say it; otherwise the values of up to `MASKS` masks decide, and the sizes and EXIF
orientations of up to `HEADERS` images. What can be meant in two ways is refused with the line that settles
it, except which way up a target is where sizes do not say: that is taken as stored, with a warning.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from adapcli.data.dense import IGNORE
from adapcli.data.entries import scramble
from adapcli.data.findings import Findings
from adapcli.data.images import UnreadableImageError, no_warnings, opened, orientation
from adapcli.data.targets import DEPTH_SCALE, DESCRIPTION, Coding, side_of, stored_values
from adapcli.errors import FileError
from adapcli.model.config import Task
from policies.files import read_json

ADE20K_CLASSES = 150
MASKS, HEADERS = 200, 2000
"""Masks of which the values, and images of which the orientations are examined: a fixed sample of all."""
MOST_INFERRED = 64
"""Classes that are taken from the values of masks alone; more must be named."""

T = TypeVar("T")


class Pair(NamedTuple):
    """Files of an image and its target."""

    image: Path
    target: Path


class Turns(NamedTuple):
    """Of images that EXIF turns and whose targets have no orientation of their own, how many there are whose
    target has the stored size, the upright size, or a size that says neither."""

    stored: int = 0
    upright: int = 0
    unclear: int = 0


def decide(
    root: Path,
    task: Task,
    pairs: Sequence[Pair],
    said: Mapping[str, Any],
    findings: Findings,
    *,
    annotations: bool,
    depth_scale: float | None,
) -> tuple[Coding, int | None]:
    """The coding of a folder's targets, and the number of classes if something says it; findings report it.

    pairs: all of them; said: of `dataset.json`; annotations: whether masks lie in a folder of that name, as
    in ADE20K. FileError for masks that may mean two things, are lossy, or hold colours that nothing explains.
    """
    chosen = sorted(pairs, key=lambda pair: scramble(f"survey {pair.target.relative_to(root)}", 0))
    coding: dict[str, Any] = {"scale": float(depth_scale or said.get("depth_scale", DEPTH_SCALE))}
    classes = None
    if task == "segmentation":
        meaning, classes = _meaning(root, chosen[:MASKS], said, findings, annotations=annotations)
        coding |= meaning
    coding["orientation"] = _orientation(chosen[:HEADERS], task, said.get("orientation"), findings)
    return Coding(**coding), classes


def _meaning(
    root: Path, pairs: Sequence[Pair], said: Mapping[str, Any], findings: Findings, *, annotations: bool
) -> tuple[dict[str, Any], int | None]:
    if mapped := _mapped(said):
        findings.decide("masks", f"values of masks as {DESCRIPTION} says")
        return mapped, 1 + max(c for _, c in mapped.get("values") or mapped["colours"] if c != IGNORE)
    seen, ignore = _seen(pairs), said.get("ignore")
    if "first" in said:
        first = said["first"]
        ignored = ignore if ignore is not None else (IGNORE if first == 0 else 0)
        findings.decide("masks", f"{DESCRIPTION} says: value {first} is class 0, {ignored} is not scored")
        return {"first": first, "ignore": ignored}, None
    if annotations:
        _refuse_unlike_ade20k(root, pairs, seen)
        ignored = 0 if ignore is None else ignore
        findings.decide("masks", f"as in ADE20K: values 1 to 150 are classes, {ignored} is not scored")
        return {"first": 1, "ignore": ignored}, ADE20K_CLASSES
    if ignore is None:
        refuse_foreground(root, set(seen))
    shown = f"{min(seen)} to {max(seen)}" if seen else "none"
    findings.decide(
        "masks",
        f"values of masks are classes from 0, {IGNORE if ignore is None else ignore} is not scored; "
        f"{len(pairs)} masks hold {len(seen)} values: {shown}",
    )
    return {"first": 0, "ignore": IGNORE if ignore is None else ignore}, None


def _mapped(said: Mapping[str, Any]) -> dict[str, Any]:
    """The class of each value or colour, if it is said."""
    if "foreground" in said:
        return {"values": tuple(sorted({0: 0, said["foreground"]: 1}.items()))}
    if "values" in said:
        found = {int(value): IGNORE if c is None else c for value, c in said["values"].items()}
        return {"values": tuple(sorted(found.items()))}
    if "colours" in said:
        by_colour = {tuple(bytes.fromhex(text[1:])): c for text, c in said["colours"].items()}
        return {"colours": tuple(sorted((k, IGNORE if c is None else c) for k, c in by_colour.items()))}
    return {}


def refuse_foreground(root: Path, seen: set[int]) -> None:
    """FileError for masks of 0 and 255 alone: 255 is usually not scored, here it is the foreground."""
    if IGNORE in seen and seen <= {0, IGNORE}:
        raise FileError(
            f"{root}: its masks hold {' and '.join(map(str, sorted(seen)))} alone, and 255 is not scored",
            f'in {DESCRIPTION}, "foreground": 255 makes it class 1; "ignore": 255 says that it is meant so',
        )


def refuse_many(root: Path, seen: set[int]) -> None:
    """FileError for values that are hardly classes: too many, or with large gaps, as smoothed masks have."""
    count = max(seen, default=0) + 1
    if count > MOST_INFERRED or (count > 8 and 2 * len(seen) < count):
        raise FileError(
            f"{root}: its masks hold {len(seen)} values up to {count - 1}: are they classes?",
            f'smoothed or resized masks have values between; else "class_names" or "values" in {DESCRIPTION}',
        )


def _refuse_unlike_ade20k(root: Path, pairs: Sequence[Pair], seen: Counter[int]) -> None:
    named = any(pair.image.name.startswith("ADE_") for pair in pairs)
    if named or (root / "objectInfo150.txt").is_file() or any(100 < value <= 150 for value in seen):
        return
    shown = f"{min(seen)} to {max(seen)}" if seen else "none that can be read"
    raise FileError(
        f"{root}: annotations/ holds values {shown}: do classes count from 0, or from 1 as in ADE20K?",
        f'in {DESCRIPTION}, "first": 0, or "first": 1, where 0 is not scored',
    )


def _orientation(pairs: Sequence[Pair], task: Task, said: str | None, findings: Findings) -> str:
    """Which way up targets are where sizes do not tell: as is said, as all others are, or as stored."""
    turns, what = _turns(pairs), "masks" if task == "segmentation" else "depth maps"
    count = sum(turns)
    if not count:
        return said or "stored"
    usual = said or ("upright" if turns.upright and not turns.stored else "stored")
    text = f"{count} of {len(pairs)} images examined are turned by EXIF"
    if turns.unclear and not said:
        other = "stored" if usual == "upright" else "upright"
        findings.warn(
            "masks",
            f"{text}, and the size of {turns.unclear} of their {what} does not say whether they are to be "
            f"turned too: taken as made on the {usual} pixels; "
            f'"orientation": "{other}" in {DESCRIPTION} if not',
        )
    else:
        findings.decide(
            "masks",
            f"{text}: of their {what}, {turns.stored} are turned alike and {turns.upright} are not"
            + (f", {turns.unclear} as {DESCRIPTION} says" if turns.unclear else ""),
        )
    return usual


def _seen(pairs: Sequence[Pair]) -> Counter[int]:
    """Pixels of each value in masks as stored. FileError for masks that are lossy or hold colours."""
    return _survey_values(tuple(pairs), _marks(pair.target for pair in pairs)).copy()


def _turns(pairs: Sequence[Pair]) -> Turns:
    return _survey_turns(tuple(pairs), _marks(path for pair in pairs for path in pair))


def _marks(paths: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """By which it shows that files were changed."""
    found = []
    for path in paths:
        try:
            about = path.stat()
            found.append((about.st_size, about.st_mtime_ns))
        except OSError:
            found.append((0, 0))
    return tuple(found)


@lru_cache(maxsize=16)
def _survey_values(pairs: tuple[Pair, ...], marks: tuple[tuple[int, int], ...]) -> Counter[int]:
    def counted(pair: Pair) -> Counter[int]:
        try:
            values, counts = np.unique(stored_values(pair.target), return_counts=True)
        except UnreadableImageError:  # it is skipped when it is read, too
            return Counter()
        return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    return sum(_each(counted, pairs), Counter())


@lru_cache(maxsize=16)
def _survey_turns(pairs: tuple[Pair, ...], marks: tuple[tuple[int, int], ...]) -> Turns:
    kinds = Counter(_each(_turn, pairs))
    return Turns(kinds["stored"], kinds["upright"], kinds["unclear"])


def _turn(pair: Pair) -> str:
    """Of an image and its target, by their headers: "" where nothing is turned or sizes differ."""
    try:
        with opened(pair.image) as image:
            turn, size = orientation(image), image.size
            if image.format == "TIFF" and turn >= 5:  # Pillow says the upright size
                size = (size[1], size[0])
        if turn == 1:
            return ""
        with opened(pair.target) as target:
            if orientation(target) != 1:
                return ""
            return side_of(target.size, size, turn)
    except UnreadableImageError:
        return ""


def _each(function: Callable[[Pair], T], pairs: Sequence[Pair]) -> list[T]:
    with no_warnings(), ThreadPoolExecutor() as pool:
        return list(pool.map(function, pairs))


def description(root: Path) -> Mapping[str, Any]:
    """What `dataset.json` says, checked; nothing without one. FileError for what it cannot say."""
    path = root / DESCRIPTION
    if not path.is_file():
        return {}
    told: Any = read_json(path)
    if not isinstance(told, dict):
        raise FileError(f"{path}: expected an object with fields")
    for key, value in told.items():
        if key not in CHECKS:
            raise FileError(f"{path}: {str(key)[:80]}: unknown key", f"one of {', '.join(CHECKS)}")
        if not CHECKS[key](value):
            raise FileError(f"{path}: {key}: not usable")
    several = [key for key in ("first", "values", "foreground", "colours") if key in told]
    if len(several) > 1:
        raise FileError(f"{path}: {' and '.join(several)} exclude each other")
    return told


def _are_names(value: object) -> bool:
    names = value if isinstance(value, list) else []
    return 2 <= len(names) <= 65_535 and all(isinstance(name, str) for name in names)


def _is_value(value: object) -> bool:
    return type(value) is int and 0 <= value <= 65_535


def _is_class(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 65_535 and value != IGNORE)


def _is_scale(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(value) < float("inf")  # type: ignore[arg-type]


def _are_classes(keys: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        found = value if isinstance(value, dict) else {}
        named = all(re.fullmatch(keys, key, re.ASCII) and _is_class(c) for key, c in found.items())
        return named and any(c is not None for c in found.values())

    return check


CHECKS: dict[str, Callable[[object], bool]] = {
    "class_names": _are_names,
    "ignore": _is_value,
    "depth_scale": _is_scale,
    "first": _is_value,
    "values": _are_classes("[0-9]{1,5}"),
    "foreground": lambda value: _is_value(value) and value != 0,
    "colours": _are_classes("#[0-9a-fA-F]{6}"),
    "orientation": lambda value: value in ("stored", "upright"),
}
