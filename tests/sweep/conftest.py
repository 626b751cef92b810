"""Small random models, and samples made of numbers."""

from dataclasses import dataclass, field

import pytest
import torch

from adapcli.data.dataset import Batch
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.sweep.samples import Samples

torch.set_num_threads(1)

SMALL = {
    "embed_dim": 24,
    "num_heads": 2,
    "depth": 3,
    "max_latent_tokens": 8,
    "token_granularities": (1, 2, 5, 8),
    "widths": (6, 13, 24),
    "image_size": 16,
    "patch_size": 8,
    "in_channels": 1,
    "num_classes": 7,
    "layer_scale_init": 0.7,
    "token_init_std": 0.5,
}


def build_config(**changed):
    return ModelConfig(**(SMALL | changed))


def build_model(seed=0, class_names=(), **changed):
    """Random weights everywhere: no bias is 0, no gain 1."""
    torch.manual_seed(seed)
    config = build_config(**changed)
    preprocessing = Preprocessing(config.image_size, config.image_size, (0.2,), (0.4,))
    model = AdaPerceiver(config, preprocessing=preprocessing, class_names=class_names).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@dataclass
class Numbers:
    """A data set whose sample i depends on its split and i alone."""

    split: str
    size: int
    seed: int = 0
    classes: int = 7
    name: str = "numbers"
    skipped: list = field(default_factory=list)

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
def make_config():
    return build_config


@pytest.fixture(scope="session")
def make_model():
    return build_model


@pytest.fixture(scope="session")
def make_samples():
    return build_samples
