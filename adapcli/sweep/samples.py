"""The samples of a table: its four splits, one after the other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from adapcli.data.dataset import Batch, Dataset, open_dataset
from adapcli.data.findings import Findings
from adapcli.data.seen import Hashes, hashes, trained_on
from adapcli.data.spec import DataSpec
from adapcli.errors import UsageError
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.run import Run
from adapcli.sweep.reading import Reading, cuts
from policies.shown import short_repr
from policies.table import SPLITS


@dataclass(frozen=True)
class Samples:
    """Rows 0..N-1 of a table.

    `facts` say how to open the same data again: the fields of a `DataSpec`, and the limit per split.
    """

    __repr__ = short_repr

    splits: dict[str, Dataset]
    facts: dict[str, Any]
    _reading: list[Reading] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def open(
        cls,
        data: str | DataSpec,
        preprocessing: Preprocessing,
        *,
        limit: int | None = None,
        class_names: Sequence[str] = (),
        task: Task = "classification",
        **options: Any,
    ) -> "Samples":
        """Open all splits of data, together at most `limit` samples, shared out as in the whole.

        data: a name or a `DataSpec`; options: fields of the spec. task: what the model is for, which decides
        what targets are. UsageError for an unknown name or option, or a limit that leaves a split empty;
        FileError for unusable data.
        """
        spec = DataSpec.of(data, **options).absolute()
        limits = dict.fromkeys(SPLITS) if limit is None else shares(limit, spec.splitting.shares)
        splits = {
            split: open_dataset(
                spec,
                split=split,
                preprocessing=preprocessing,
                limit=limits[split],
                class_names=class_names or None,
                task=task,
            )
            for split in SPLITS
        }
        return cls(splits, {**spec.to_dict(), "limits": limits})

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

    @property
    def labelled(self) -> bool:
        """Whether targets are known; without them they are -1."""
        return all(data.labelled for data in self.splits.values())

    @property
    def findings(self) -> Findings:
        """What was decided about the source of the data, which all splits share, and about images of any."""
        first, *others = (data.findings for data in self.splits.values())
        for other in others:
            first.add(other)
        return first

    def recorded(self, run: Run, spec: DataSpec, checkpoint: str) -> "Samples":
        """The same with facts as a run records them.

        Paths hold after the run is moved; `trained_on`: by split, how many samples are images that the
        checkpoint was trained on, left out where there are none.
        """
        facts, seen = {**self.facts, **run.portable_data(spec).to_dict()}, self._among(trained_on(checkpoint))
        return replace(self, facts=facts | ({"trained_on": seen} if seen else {}))

    @property
    def overlap(self) -> str:
        """One line on samples that the checkpoint was trained on; empty if there are none."""
        seen = sum(self.facts.get("trained_on", {}).values())
        if not seen:
            return ""
        return (
            f"{seen} of {len(self)} samples are images that the checkpoint was trained on: their scores are "
            "too high; sweep in the run that trained it, which leaves them out, or other data"
        )

    def _among(self, seen: Hashes) -> dict[str, int]:
        """By split, how many samples are images of these content keys; splits without any are left out."""
        if not len(seen):
            return {}
        counts = {split: int(np.isin(hashes(data.keys), seen).sum()) for split, data in self.splits.items()}
        return {split: count for split, count in counts.items() if count}

    def batches(self, start: int, stop: int, size: int) -> Iterator[tuple[str, Batch]]:
        """Rows start..stop-1 as (split, at most `size` samples), in order; none crosses a split."""
        for cut in cuts(self.splits, start, stop, size):
            read = self._reading[0].take(cut) if self._reading else None
            yield cut.split, read or self.splits[cut.split].batch(cut.low, cut.high)

    @contextmanager
    def ahead(
        self, ranges: Iterable[tuple[int, int]], size: int, workers: int
    ) -> Iterator[Iterator[tuple[int, int]]]:
        """The same ranges of rows, whose `batches` of `size` samples `workers` processes read meanwhile.

        They are read in this order; the samples are the same without. Other rows may be asked for besides.
        """
        if not workers:
            yield iter(ranges)
            return
        reading = Reading(self.splits, ranges, size, workers)
        self._reading.append(reading)
        try:
            yield reading.ranges()
        finally:
            self._reading.remove(reading)
            reading.close()


def shares(limit: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`limit` samples shared out over the splits in proportion to `weights`, one at least for each.

    UsageError if there are fewer samples than splits.
    """
    if limit < len(SPLITS):
        raise UsageError(f"limit {limit}: expected {len(SPLITS)} or more, one for each split")
    total = sum(weights.values())
    found = {split: max(1, limit * weights[split] // total) for split in SPLITS}
    largest = max(SPLITS, key=lambda split: found[split])
    return found | {largest: found[largest] - max(0, sum(found.values()) - limit)}
