"""Folders of pictures with masks or depth maps, to train on: batches, and the splits that judge."""

import hashlib
from collections.abc import Iterable, Sequence

from adapcli.data.dataset import Dataset, open_dataset
from adapcli.data.dense_folder import PairLoader, folder_of, names_of
from adapcli.data.images import UnreadableImageError
from adapcli.data.pairs import PairEntry, list_pairs
from adapcli.data.parts import for_training
from adapcli.data.spec import DataSpec
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.feed import Shuffled
from adapcli.training.schema import Recipe
from adapcli.training.source import content_keys, counts_of, note_training_pixels, with_share


class PairedPictures:
    """A folder of pairs with a part to train on; see `pairs` for its layouts.

    Classes are those that the folder tells, or `classes` of them, or as many as its training masks hold.
    """

    def __init__(
        self, spec: DataSpec, task: Task, classes: int | None = None, train_share: float | None = None
    ) -> None:
        root = folder_of(spec.name, task)
        self.task, self.pairs = task, list_pairs(root, task, spec)
        self.data = with_share(spec, self.pairs.catalogue, train_share)
        self.findings = self.pairs.catalogue.findings
        entries = for_training(self.pairs.catalogue, self.data)
        self._entries = [entry for entry in entries if isinstance(entry, PairEntry)]
        known = [str(number) for number in range(classes)] if classes else None
        self.class_names = names_of(
            self.pairs, task, None if self.pairs.class_names else known, self._entries
        )
        looked_at = self._entries[:: len(self._entries) // 32 + 1]
        self.channels = 1 if all(map(_is_grey, looked_at)) else 3
        self.samples: int | None = len(self._entries)
        self.fingerprint = _names_and_marks(self._entries, self.pairs.coding.text)

    def preprocessing(self, size: int, channels: int) -> Preprocessing:
        """See Source. The whole of the shorter side is seen: a dense task is not one of the middle."""
        known = Preprocessing.published(size, channels)
        return Preprocessing(size, size, known.mean, known.std)

    def feed(self, recipe: Recipe, preprocessing: Preprocessing, *, workers: int = 0) -> Shuffled[PairEntry]:
        """See Source."""
        how = self.data.decoding(preprocessing)
        note_training_pixels(self._entries, self.data, preprocessing, self.findings)
        load = PairLoader(self.task, preprocessing, self.pairs.coding, len(self.class_names) or None, how)
        return Shuffled(self._entries, load, size=recipe.batch, seed=recipe.seed, workers=workers)

    def split(self, name: str, preprocessing: Preprocessing, size: int) -> Dataset:
        """See Source."""
        return open_dataset(
            self.data,
            split=name,
            preprocessing=preprocessing,
            limit=size,
            class_names=self.class_names,
            task=self.task,
        )

    def keys(self) -> Iterable[str]:
        """See Source."""
        return content_keys(self._entries)

    def counts(self) -> dict[str, int] | None:
        """See Source."""
        return counts_of(self.pairs.catalogue, self.data, len(self._entries))


def _is_grey(entry: PairEntry) -> bool:
    try:
        return entry.is_grey()
    except UnreadableImageError:
        return True  # it says nothing, and is skipped when it is read


def _names_and_marks(entries: Sequence[PairEntry], coding: str) -> str:
    """Cheap enough for large folders, whose content is read once an epoch anyway."""
    digest = hashlib.sha256(coding.encode())
    for entry in entries:
        digest.update(f"{entry.name} {entry.mark()}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:16]
