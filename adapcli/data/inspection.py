"""What data hold, as `adap data inspect` shows it: classes, parts, sizes, what was decided and left out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from adapcli.data.catalogue import open_catalogue
from adapcli.data.classes import number
from adapcli.data.dataset import SPLITS, open_dataset
from adapcli.data.dense import IGNORE, UNKNOWN_M, is_dense
from adapcli.data.entries import BrokenEntry, Catalogue, Entry, scramble
from adapcli.data.findings import Decision, LeftOut
from adapcli.data.folder import each, note_pixels
from adapcli.data.images import UnreadableImageError, no_warnings
from adapcli.data.pairs import PairEntry, Pairs, list_pairs
from adapcli.data.parts import choose, key_of
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError, UsageError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE = 2000
"""Images that are decoded, for sizes, modes and damage."""
MASKS = 200
"""Masks or depth maps whose values are counted."""
MOST_KEYS = 50_000
"""Images whose content is compared; more would take minutes."""
THUMBNAILS, SIDE = 12, 96
_SCENES = Preprocessing(32, 32, (0.0,), (1.0,))


@dataclass(frozen=True)
class Size:
    """Range of the images' sides, in pixels."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    median: tuple[int, int]


@dataclass(frozen=True)
class Copies:
    """Images that are there more than once. compared: images whose content was; 0 if there were too many.

    repeated: those that equal an earlier one; across_parts: contents in more than one part, by parts, such as
    "test, train"; across_classes: contents with more than one label; contradictory: the names of the first of
    these.
    """

    compared: int = 0
    repeated: int = 0
    across_parts: dict[str, int] = field(default_factory=dict)
    across_classes: int = 0
    contradictory: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found. parts, splits: images by name; classes: by part for every class that has images.

    sampled: images that were decoded; modes: how many of each, damaged: how many could not be read and why;
    values: what masks hold, as shares of their pixels, or a depth map's range in metres.
    """

    name: str
    task: str
    labelled: bool
    parts: dict[str, int]
    splits: dict[str, int]
    classes: dict[str, dict[str, int]]
    decisions: list[Decision]
    left_out: list[LeftOut]
    sampled: int
    size: Size | None
    modes: dict[str, int]
    damaged: list[LeftOut]
    copies: Copies
    values: dict[str, float]

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "images": self.images}


def inspect(
    spec: DataSpec, task: Task = "classification", class_names: Sequence[str] | None = None
) -> Inspection:
    """Inspect data. class_names: a model's, which labels are then matched with.

    FileError, UsageError: as `open_dataset` raises them, but for classes: why they are refused is a decision.
    """
    if spec.name == "digits":
        return _digits(spec, task)
    pairs, catalogue = open_any(spec, task)
    classes = {} if pairs else _classes(catalogue, class_names, spec)
    some = sampled(catalogue, SAMPLE)
    examined = each(lambda entry: entry.examine("RGB", spec.decoding()), some)
    note_pixels(catalogue.findings, examined, spec)
    forms = [found.reason or _form(entry) for entry, found in zip(some, examined, strict=True)]
    readable = [form for form in forms if not isinstance(form, str)]
    findings = catalogue.findings
    return Inspection(
        name=catalogue.name,
        task=task,
        labelled=bool(pairs) or catalogue.labelled,
        parts={part: len(entries) for part, entries in catalogue.parts.items()},
        splits=_splits(catalogue, spec),
        classes=classes,
        decisions=list(findings.decisions),
        left_out=findings.left_out,
        sampled=len(some),
        size=_size([form[:2] for form in readable]),
        modes=dict(Counter(mode for *_, mode in readable).most_common()),
        damaged=_damaged(some, forms),
        copies=_copies(catalogue),
        values=_values(pairs, task, some) if pairs else {},
    )


def open_any(spec: DataSpec, task: Task) -> tuple[Pairs | None, Catalogue]:
    """Pairs of images and targets for a dense task, and what the source holds."""
    if is_dense(task):
        from adapcli.data.dense_folder import folder_of

        pairs = list_pairs(folder_of(spec.name, task), task, spec)
        return pairs, pairs.catalogue
    return None, open_catalogue(spec)


def sampled(catalogue: Catalogue, count: int) -> list[Entry]:
    """That many images, at most, of all parts, in an order that mixes them."""
    entries = [entry for part in catalogue.parts.values() for entry in part]
    return sorted(entries, key=lambda entry: scramble(f"inspect {entry.name}", 0))[:count]


def _classes(
    catalogue: Catalogue, class_names: Sequence[str] | None, spec: DataSpec
) -> dict[str, dict[str, int]]:
    try:
        names, index = number(catalogue, class_names, spec.classes)
    except (FileError, UsageError) as error:
        catalogue.findings.decide("classes", f"refused: {error.message} ({error.hint})")
        names, index = number(catalogue, None)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for part, entries in catalogue.parts.items():
        for entry in entries:
            if entry.label in index and not isinstance(entry, BrokenEntry):
                found[names[index[entry.label]]][part] += 1
    return {name: dict(found[name]) for name in names if name in found}


def _digits(spec: DataSpec, task: Task) -> Inspection:
    """Of the embedded scenes: those of the test split that would be scored first."""
    opened = {split: open_dataset(spec, split=split, preprocessing=_SCENES, task=task) for split in SPLITS}
    test, classes = opened["test"], {}
    some = test.batch(0, min(SAMPLE, len(test)))
    if not is_dense(task):
        counts = np.bincount(some.targets.numpy(), minlength=len(test.class_names))
        classes = {name: {"test": int(n)} for name, n in zip(test.class_names, counts, strict=True)}
    sides = (_SCENES.size, _SCENES.size)
    told = f"drawn, not read; the counts of classes are of {len(some.sample_ids)} scenes of test"
    return Inspection(
        name="digits",
        task=task,
        labelled=True,
        parts={split: len(data) for split, data in opened.items()},
        splits={split: len(data) for split, data in opened.items()},
        classes=classes,
        decisions=[Decision("files", told)],
        left_out=[],
        sampled=len(some.sample_ids),
        size=Size(sides, sides, sides),
        modes={"L": len(some.sample_ids)},
        damaged=[],
        copies=Copies(),
        values={},
    )


def _splits(catalogue: Catalogue, spec: DataSpec) -> dict[str, int]:
    """Images of each split; none if content would have to be read of too many."""
    if sum(map(len, catalogue.parts.values())) > MOST_KEYS:
        return {}
    counts = {}
    for split in SPLITS:
        try:
            counts[split] = len(choose(catalogue, split, spec))
        except FileError:
            counts[split] = 0
    return counts


def _form(entry: Entry) -> tuple[int, int, str] | str:
    """Width, height and mode, or why the image cannot be read."""
    try:
        form = entry.form()
        return form.width, form.height, form.mode
    except UnreadableImageError as error:
        return str(error)


def _size(sides: list[tuple[int, ...]]) -> Size | None:
    if not sides:
        return None
    values = np.array(sides)
    low, high, middle = values.min(0), values.max(0), np.median(values, axis=0).astype(int)
    return Size(*((int(side[0]), int(side[1])) for side in (low, high, middle)))


def _damaged(entries: Iterable[Entry], forms: Iterable[object]) -> list[LeftOut]:
    found: dict[str, list[str]] = defaultdict(list)
    for entry, form in zip(entries, forms, strict=True):
        if isinstance(form, str):
            found[form].append(entry.name)
    return [LeftOut(reason, len(names), names[0]) for reason, names in found.items()]


def _copies(catalogue: Catalogue) -> Copies:
    placed = [(part, entry) for part, entries in catalogue.parts.items() for entry in entries]
    placed = [(part, entry) for part, entry in placed if not isinstance(entry, BrokenEntry)]
    if len(placed) > MOST_KEYS:
        return Copies()
    keys = each(key_of, [entry for _, entry in placed])
    parts: dict[str, set[str]] = defaultdict(set)
    alike: dict[str, list[Entry]] = defaultdict(list)
    for key, (part, entry) in zip(keys, placed, strict=True):
        parts[key].add(part)
        alike[key].append(entry)
    contradictory = [entries for entries in alike.values() if len({entry.label for entry in entries}) > 1]
    across = Counter(", ".join(sorted(found)) for found in parts.values() if len(found) > 1)
    return Copies(
        compared=len(placed),
        repeated=len(placed) - len(parts),
        across_parts=dict(across),
        across_classes=len(contradictory),
        contradictory=tuple(entry.name for entry in contradictory[0]) if contradictory else (),
    )


def _values(pairs: Pairs, task: Task, entries: Sequence[Entry]) -> dict[str, float]:
    """What masks hold, by value; of depth maps the range and the share of unknown pixels."""
    from adapcli.data.targets import read_target

    def read(entry: PairEntry) -> "np.ndarray | None":
        try:
            return read_target(entry.target, task, pairs.coding).values
        except UnreadableImageError:
            return None

    some = list(islice((entry for entry in entries if isinstance(entry, PairEntry)), MASKS))
    maps = [found.ravel() for found in each(read, some) if found is not None]
    if not maps:
        return {}
    pixels = np.concatenate(maps)
    if task == "depth":
        known = pixels[pixels != UNKNOWN_M]
        ends = np.quantile(known, [0, 0.5, 1]) if len(known) else [float("nan")] * 3
        found = dict(zip(("smallest_m", "median_m", "largest_m"), map(float, ends), strict=True))
        return found | {"unknown": float(np.mean(pixels == UNKNOWN_M))}
    values, counts = np.unique(pixels, return_counts=True)
    names = pairs.class_names or ()
    return {_value_name(int(v), names): float(n) / len(pixels) for v, n in zip(values, counts, strict=True)}


def _value_name(value: int, names: Sequence[str]) -> str:
    if value == IGNORE:
        return "not scored"
    return f"{value} {names[value]}" if value < len(names) else str(value)


def contact_sheet(spec: DataSpec, task: Task = "classification") -> "Image":
    """`THUMBNAILS` images in a grid, in RGB, as they are read; each with its label below it."""
    from PIL import Image, ImageDraw, ImageOps

    columns, line = 4, 14
    sheet = Image.new("RGB", (columns * SIDE, -(-THUMBNAILS // columns) * (SIDE + line)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (label, image) in enumerate(islice(_shown(spec, task), THUMBNAILS)):
        image = ImageOps.contain(image, (SIDE - 4, SIDE - 4), Image.Resampling.BICUBIC)
        left, top = place % columns * SIDE, place // columns * (SIDE + line)
        sheet.paste(image, (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2))
        draw.text((left + 4, top + SIDE), label.encode("ascii", "replace").decode()[:15], fill="black")
    return sheet


def _shown(spec: DataSpec, task: Task) -> "Iterator[tuple[str, Image]]":
    """Labels and images."""
    from PIL import Image

    if spec.name == "digits":
        data = open_dataset(spec, split="test", preprocessing=_SCENES)
        batch = data.batch(0, min(THUMBNAILS, len(data)))
        for pixels, target in zip(batch.images, batch.targets.tolist(), strict=True):
            grey = (pixels[0].clamp(0, 1) * 255).byte().numpy()
            yield data.class_names[target], Image.fromarray(grey).convert("RGB")
        return
    _, catalogue = open_any(spec, task)
    with no_warnings():
        for entry in sampled(catalogue, SAMPLE):
            named = catalogue.numbered and entry.label.isdecimal()
            try:
                yield (
                    catalogue.labels[int(entry.label)] if named else entry.label,
                    entry.read("RGB", spec.decoding()),
                )
            except UnreadableImageError:
                continue
