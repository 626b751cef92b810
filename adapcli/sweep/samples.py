"""The samples of a table: its four splits, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapcli.data.dataset import DIGITS_SIZES, FOLDER, Batch, Dataset, open_dataset
from adapcli.data.listing import readable_name
from adapcli.errors import UsageError
from adapcli.model.preprocessing import Preprocessing
from policies.table import SPLITS


@dataclass(frozen=True)
class Samples:
    """Rows 0..N-1 of a table. `facts` say how to open the same data again: name, seed, limit per split."""

    splits: dict[str, Dataset]
    facts: dict[str, Any]

    @classmethod
    def open(
        cls,
        name: str,
        preprocessing: Preprocessing,
        *,
        limit: int | None = None,
        seed: int = 0,
        class_names: Sequence[str] = (),
    ) -> "Samples":
        """Open all splits of `name`, together at most `limit` samples, shared out as in the whole.

        UsageError for an unknown name or a limit that leaves a split empty; FileError for unusable data.
        """
        limits = dict.fromkeys(SPLITS) if limit is None else shares(limit)
        if name.startswith(FOLDER):
            name = FOLDER + str(Path(name.removeprefix(FOLDER)).expanduser().absolute())
        splits = {
            split: open_dataset(
                name,
                split=split,
                preprocessing=preprocessing,
                limit=limits[split],
                seed=seed,
                class_names=class_names or None,
            )
            for split in SPLITS
        }
        return cls(splits, {"name": readable_name(Path(name)), "seed": seed, "limits": limits})

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    @property
    def class_names(self) -> list[str]:
        """What the targets stand for."""
        return next(iter(self.splits.values())).class_names

    @property
    def sizes(self) -> dict[str, int]:
        """Samples per split."""
        return {split: len(data) for split, data in self.splits.items()}

    @property
    def fingerprints(self) -> dict[str, str]:
        """What identifies the samples of each split."""
        return {split: data.fingerprint for split, data in self.splits.items()}

    @property
    def skipped(self) -> list[str]:
        """Files left out, as `path: reason`."""
        return [f"{path}: {reason}" for data in self.splits.values() for path, reason in data.skipped]

    def batches(self, start: int, stop: int, size: int) -> Iterator[tuple[str, Batch]]:
        """Rows start..stop-1 as (split, at most `size` samples), in order; none crosses a split."""
        first = 0
        for split, data in self.splits.items():
            begin, end = max(start - first, 0), min(stop - first, len(data))
            for low in range(begin, end, size):
                yield split, data.batch(low, min(low + size, end))
            first += len(data)


def shares(limit: int) -> dict[str, int]:
    """`limit` samples shared out over the splits as in the embedded data, one at least for each.

    UsageError if there are fewer samples than splits.
    """
    if limit < len(SPLITS):
        raise UsageError(f"limit {limit}: expected {len(SPLITS)} or more, one for each split")
    total = sum(DIGITS_SIZES[split] for split in SPLITS)
    return {split: max(1, limit * DIGITS_SIZES[split] // total) for split in SPLITS}
