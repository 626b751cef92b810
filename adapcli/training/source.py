"""What a recipe trains on: classes and channels, batches for training, and the splits that judge."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from adapcli.data.dataset import FOLDER, Batch, Dataset, open_dataset
from adapcli.data.dense import is_dense
from adapcli.data.digits import GENERATOR, DigitsDataset, class_names
from adapcli.data.listing import Entry, list_folder
from adapcli.data.scenes import SceneSpec
from adapcli.errors import FileError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.feed import Endless, Shuffled, channels_of
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

    def feed(self, recipe: Recipe, preprocessing: Preprocessing) -> AbstractContextManager["Batches"]:
        """Training batches while the context lasts."""
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

    def feed(self, recipe: Recipe, preprocessing: Preprocessing) -> AbstractContextManager[Endless]:
        """See Source."""
        size = recipe.total_steps * recipe.accumulate * recipe.batch
        scenes = DigitsDataset(
            "train", preprocessing, size=size, spec=self.spec, seed=recipe.seed, task=self.task
        )
        return nullcontext(Endless(scenes, recipe.batch))

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return DigitsDataset(name, preprocessing, size=size, spec=self.spec, task=self.task)


class Pictures:
    """A folder with folders train, val and test (or one of these two) of pictures, a subfolder per class."""

    def __init__(self, root: Path) -> None:
        self.task: Task = "classification"
        parts, self.class_names = list_folder(root)
        if "train" not in parts:
            raise FileError(f"{root}: no folder 'train' in it", "expected folders train, val and test")
        self.root, self._entries = root, parts["train"]
        self.channels = channels_of(self._entries)
        self.samples: int | None = len(self._entries)
        self.fingerprint = _names_and_sizes(self._entries)

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source."""
        return Preprocessing.published(size, channels)

    def feed(self, recipe: Recipe, preprocessing: Preprocessing) -> AbstractContextManager[Shuffled]:
        """See Source."""
        labels = {name: number for number, name in enumerate(self.class_names)}
        return Shuffled(self._entries, labels, preprocessing, size=recipe.batch, seed=recipe.seed)

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return open_dataset(
            f"{FOLDER}{self.root}",
            split=name,
            preprocessing=preprocessing,
            limit=size,
            class_names=self.class_names,
        )


class Unseen:
    """Stands for data that are not there, where a run is only planned."""

    def __init__(self, task: Task, classes: int, channels: int) -> None:
        self.task, self.channels = task, channels
        self.class_names = [] if task == "depth" else [str(number) for number in range(classes)]
        self.fingerprint = ""
        self.samples: int | None = None

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source."""
        return Preprocessing.published(size, channels)

    def feed(self, recipe: Recipe, preprocessing: Preprocessing) -> AbstractContextManager[Endless]:
        """FileError: there are none."""
        raise FileError(f"{recipe.data}: not there")

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """FileError: there are none."""
        raise FileError(f"split {name}: not there")


def _names_and_sizes(entries: Sequence[Entry]) -> str:
    """Cheap enough for millions of pictures, whose content is read once an epoch anyway."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.label} {entry.name} {entry.path.stat().st_size}\n"
        digest.update(line.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:16]


def open_source(recipe: Recipe) -> Source:
    """The data that a recipe names, with the targets of its task. FileError if they are not there."""
    if recipe.data.startswith(FOLDER) and is_dense(recipe.task):
        from adapcli.training.dense_source import PairedPictures

        root, classes = Path(recipe.data.removeprefix(FOLDER)).expanduser(), recipe.model.get("num_classes")
        return PairedPictures(root, recipe.task, classes, recipe.depth_scale)
    if recipe.data.startswith(FOLDER):
        return Pictures(Path(recipe.data.removeprefix(FOLDER)).expanduser())
    return Scenes(int(recipe.model.get("image_size", SceneSpec().canvas)), recipe.task)
