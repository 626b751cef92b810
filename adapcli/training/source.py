"""What a recipe trains on: classes and channels, batches for training, and the splits that judge."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from adapcli.data.catalogue import open_catalogue
from adapcli.data.classes import number
from adapcli.data.dataset import SPLITS, Batch, Dataset, open_dataset
from adapcli.data.dense import has_classes, is_dense
from adapcli.data.digits import GENERATOR, DigitsDataset, class_names
from adapcli.data.entries import Catalogue, Entry
from adapcli.data.findings import Findings
from adapcli.data.folder import each, note_pixels
from adapcli.data.images import UnreadableImageError, no_warnings
from adapcli.data.parts import choose, for_training, key_of
from adapcli.data.scenes import SceneSpec
from adapcli.data.spec import DataSpec
from adapcli.data.transforms import picture_mode
from adapcli.errors import FileError, UsageError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.feed import Endless, Labelled, Shuffled, channels_of
from adapcli.training.schema import Recipe

# Mean and deviation of scene pixels, rounded: part of the checkpoint, so any values near them would do.
PIXEL_MEAN, PIXEL_STD = 0.15, 0.25
TRAIN_SHARE = 0.5
"""Of data without a part train."""
SMALL_SIDE = 48
"""Images with a shorter side of up to so many pixels are trained on at 32 by images-quick, others at 64."""


class Batches(Protocol):
    """Training samples by the number of their batch. rows: of each batch; skipped: what cannot be read."""

    rows: range
    skipped: dict[str, str]

    def batch(self, number: int) -> Batch:
        """See loop.Feed."""
        ...


class Source(Protocol):
    """Data for training.

    data: how to open the same data again, with the share that is trained on if one was drawn. task: what the
    targets are for; channels: as they come; samples: of one epoch, None where they never repeat; fingerprint:
    changes with what they are; findings: what was decided about the source of images.
    """

    data: DataSpec
    findings: Findings
    task: Task
    class_names: list[str]
    channels: int
    samples: int | None
    fingerprint: str

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """For a new model of images of `size` pixels a side."""
        ...

    def feed(
        self, recipe: Recipe, preprocessing: Preprocessing, *, workers: int = 0
    ) -> AbstractContextManager["Batches"]:
        """Training batches while the context lasts; `workers` processes read them ahead."""
        ...

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """At most `size` samples of split tune or test."""
        ...

    def keys(self) -> Iterable[str]:
        """Content keys of what is trained on; none where it never repeats."""
        ...

    def counts(self) -> dict[str, int] | None:
        """Images per split, none of them decoded; None where they are endless."""
        ...


class Scenes:
    """The embedded data: scenes of digits, drawn anew for every batch."""

    def __init__(self, canvas: int, task: Task = "classification") -> None:
        self.spec, self.task = SceneSpec().at(canvas), task
        self.data, self.findings = DataSpec(), Findings()
        self.class_names, self.channels = class_names(self.spec, task), 1
        self.fingerprint = f"digits {GENERATOR} {self.spec}"
        self.samples: int | None = None

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source."""
        return Preprocessing(size, size, (PIXEL_MEAN,) * channels, (PIXEL_STD,) * channels)

    def feed(self, recipe: Recipe, preprocessing: Preprocessing, *, workers: int = 0) -> Endless:
        """See Source."""
        size = recipe.total_steps * recipe.accumulate * recipe.batch
        scenes = DigitsDataset(
            "train", preprocessing, size=size, spec=self.spec, seed=recipe.seed, task=self.task
        )
        return Endless(scenes, recipe.batch, workers=workers)

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return DigitsDataset(name, preprocessing, size=size, spec=self.spec, task=self.task)

    def keys(self) -> Iterable[str]:
        """See Source."""
        return ()

    def counts(self) -> dict[str, int] | None:
        """See Source."""
        return None


class Pictures:
    """Images with classes: those of the part train, or a share drawn from all where there is none."""

    def __init__(self, spec: DataSpec, train_share: float | None = None) -> None:
        self.task: Task = "classification"
        catalogue = open_catalogue(spec)
        if not catalogue.labelled:
            raise FileError(
                f"{catalogue.place}: images without labels: nothing to train a classifier on",
                "one subfolder per class; `adap data inspect` tells what was found",
            )
        self.class_names, self._labels = number(catalogue, None, spec.classes)
        self.data, self.findings = with_share(spec, catalogue, train_share), catalogue.findings
        self._catalogue = catalogue
        self._entries = for_training(catalogue, self.data)
        self.channels = channels_of(self._entries)
        self.samples: int | None = len(self._entries)
        self.fingerprint = _names_and_marks(self._entries)

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source."""
        return Preprocessing.published(size, channels)

    def feed(
        self, recipe: Recipe, preprocessing: Preprocessing, *, workers: int = 0
    ) -> AbstractContextManager[Batches]:
        """See Source."""
        how = self.data.decoding(preprocessing)
        note_training_pixels(self._entries, self.data, preprocessing, self.findings)
        load = Labelled(self._labels, preprocessing, how)
        return Shuffled(self._entries, load, size=recipe.batch, seed=recipe.seed, workers=workers)

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return open_dataset(
            self.data,
            split=name,
            preprocessing=preprocessing,
            limit=size,
            class_names=self.class_names,
        )

    def keys(self) -> Iterable[str]:
        """See Source."""
        return content_keys(self._entries)

    def counts(self) -> dict[str, int] | None:
        """See Source."""
        return counts_of(self._catalogue, self.data, len(self._entries))


def note_training_pixels(
    entries: Sequence[Entry], spec: DataSpec, preprocessing: Preprocessing, findings: Findings
) -> None:
    """`note_pixels` of some training images, of few blocks: all of them are decoded later, once an epoch."""
    first = [entry for entry in entries if entry.block == entries[0].block] if entries else []
    some = first[:: len(first) // 32 + 1]
    mode, how = picture_mode(len(preprocessing.mean)), spec.decoding(preprocessing)
    note_pixels(findings, each(lambda entry: entry.examine(mode, how), some), spec, preprocessing)


def with_share(spec: DataSpec, catalogue: Catalogue, share: float | None) -> DataSpec:
    """The data with a share to train on, `TRAIN_SHARE` unless given, where they have no part train.

    UsageError for a share of data that have one.
    """
    if "train" not in catalogue.parts:
        return replace(spec, train_share=share or TRAIN_SHARE)
    if share is not None:
        raise UsageError(f"train_share: {catalogue.place} has a part train", "leave it out")
    return spec


def content_keys(entries: Sequence[Entry]) -> Iterable[str]:
    """Content keys, in order; reading them is left to threads."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(key_of, entries)


def counts_of(catalogue: Catalogue, spec: DataSpec, training: int) -> dict[str, int]:
    """Images per split, `training` of them in train; none is decoded, so damaged ones count too."""
    counts = {"train": training}
    for split in SPLITS[1:]:
        try:
            counts[split] = len(choose(catalogue, split, spec))
        except FileError:
            counts[split] = 0
    return counts


def typical_side(spec: DataSpec, sample: int = 32) -> int:
    """The median of the shorter sides of some images, in pixels. FileError if none can be read."""
    catalogue = open_catalogue(spec)
    entries = [entry for part in catalogue.parts.values() for entry in part]
    sides = []
    with no_warnings():
        for entry in entries[:: max(1, len(entries) // sample)]:
            try:
                sides.append(min(entry.read("L", spec.decoding()).size))
            except UnreadableImageError:
                continue
    if not sides:
        raise FileError(f"{catalogue.place}: none of the first images can be read")
    return sorted(sides)[len(sides) // 2]


class Unseen:
    """Stands for data that are not there, where a run is only planned."""

    def __init__(self, task: Task, classes: int, channels: int) -> None:
        self.task, self.channels = task, channels
        self.data, self.findings = DataSpec(), Findings()
        self.class_names = [str(number) for number in range(classes)] if has_classes(task) else []
        self.fingerprint = ""
        self.samples: int | None = None

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source."""
        return Preprocessing.published(size, channels)

    def feed(self, recipe: Recipe, preprocessing: Preprocessing, *, workers: int = 0) -> Endless:
        """FileError: there are none."""
        raise FileError(f"{recipe.data}: not there")

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """FileError: there are none."""
        raise FileError(f"split {name}: not there")

    def keys(self) -> Iterable[str]:
        """See Source."""
        return ()

    def counts(self) -> dict[str, int] | None:
        """See Source."""
        return None


def _names_and_marks(entries: Sequence[Entry]) -> str:
    """Cheap enough for millions of pictures, whose content is read once an epoch anyway."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.label} {entry.name} {entry.mark()}\n"
        digest.update(line.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:16]


def open_source(recipe: Recipe) -> Source:
    """The data that a recipe names, with the targets of its task. FileError if they are not there."""
    if recipe.data != "digits" and is_dense(recipe.task):
        from adapcli.training.dense_source import PairedPictures

        classes = recipe.model.get("num_classes")
        return PairedPictures(recipe.data_spec, recipe.task, classes, recipe.train_share)
    if recipe.data != "digits":
        return Pictures(recipe.data_spec, recipe.train_share)
    return Scenes(int(recipe.model.get("image_size", SceneSpec().canvas)), recipe.task)
