"""What a recipe trains on: classes and channels, batches for training, and the splits that judge."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from adapcli.data.catalogue import open_catalogue
from adapcli.data.classes import number
from adapcli.data.dataset import Batch, Dataset, open_dataset
from adapcli.data.dense import has_classes, is_dense
from adapcli.data.digits import GENERATOR, DigitsDataset, class_names
from adapcli.data.entries import Entry
from adapcli.data.parts import for_training
from adapcli.data.scenes import SceneSpec
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.feed import Endless, Labelled, Shuffled, channels_of
from adapcli.training.schema import Recipe

# Mean and deviation of scene pixels, rounded: part of the checkpoint, so any values near them would do.
PIXEL_MEAN, PIXEL_STD = 0.15, 0.25


class Batches(Protocol):
    """Training samples by the number of their batch. rows: of each batch; skipped: what cannot be read."""

    rows: range
    skipped: dict[str, str]

    def batch(self, number: int) -> Batch:
        """See loop.Feed."""
        ...


class Source(Protocol):
    """Data for training.

    task: what the targets are for; channels: as they come; samples: of one epoch, None where they never
    repeat; fingerprint: changes with what they are.
    """

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


class Scenes:
    """The embedded data: scenes of digits, drawn anew for every batch."""

    def __init__(self, canvas: int, task: Task = "classification") -> None:
        self.spec, self.task = SceneSpec().at(canvas), task
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


class Pictures:
    """Images with classes, in parts train, val and test (or one of these two)."""

    def __init__(self, spec: DataSpec) -> None:
        self.task: Task = "classification"
        catalogue = open_catalogue(spec)
        if not catalogue.labelled:
            raise FileError(
                f"{catalogue.place}: images without labels: nothing to train a classifier on",
                "one subfolder per class; `adap data inspect` tells what was found",
            )
        self.class_names, self._labels = number(catalogue, None, spec.classes)
        self.spec, self._entries = spec, for_training(catalogue, spec)
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
        load = Labelled(self._labels, preprocessing)
        return Shuffled(self._entries, load, size=recipe.batch, seed=recipe.seed, workers=workers)

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return open_dataset(
            self.spec,
            split=name,
            preprocessing=preprocessing,
            limit=size,
            class_names=self.class_names,
        )


class Unseen:
    """Stands for data that are not there, where a run is only planned."""

    def __init__(self, task: Task, classes: int, channels: int) -> None:
        self.task, self.channels = task, channels
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

        return PairedPictures(recipe.data_spec, recipe.task, recipe.model.get("num_classes"))
    if recipe.data != "digits":
        return Pictures(recipe.data_spec)
    return Scenes(int(recipe.model.get("image_size", SceneSpec().canvas)), recipe.task)
