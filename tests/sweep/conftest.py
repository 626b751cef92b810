"""Samples made of numbers."""

from dataclasses import dataclass, field

import pytest
import torch

from adapcli.data.dataset import Batch
from adapcli.sweep.samples import Samples


@dataclass
class Numbers:
    """A data set whose sample i depends on its split and i alone."""

    split: str
    size: int
    seed: int = 0
    classes: int = 7
    name: str = "numbers"
    skipped: list = field(default_factory=list)
    labelled: bool = True

    def __len__(self):
        return self.size

    @property
    def class_names(self):
        return [str(i) for i in range(self.classes)]

    @property
    def fingerprint(self):
        return f"{self.split}-{self.seed}-{self.size}"

    def batch(self, start, stop):
        assert 0 <= start < stop <= self.size
        rows = [self._sample(i) for i in range(start, stop)]
        targets = torch.tensor([i % self.classes for i in range(start, stop)])
        return Batch(torch.stack(rows), targets, [f"{self.split}/{i}" for i in range(start, stop)])

    def _sample(self, i):
        generator = torch.Generator().manual_seed(1000 * len(self.split) + 7 * i + self.seed)
        return torch.randn(1, 16, 16, generator=generator)


def build_samples(sizes=(13, 4, 9, 17), seed=0, classes=7):
    splits = dict(zip(("fit", "tune", "calibration", "test"), sizes, strict=True))
    data = {split: Numbers(split, size, seed, classes) for split, size in splits.items()}
    return Samples(data, {"name": "numbers", "seed": seed, "limits": dict(splits)})


@pytest.fixture(scope="session")
def make_samples():
    return build_samples
