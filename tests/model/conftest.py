"""Small models with weights that make every part matter."""

import pytest
import torch

from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver

torch.set_num_threads(1)

SMALL = {
    "task": "classification",
    "embed_dim": 24,
    "num_heads": 3,
    "depth": 3,
    "max_latent_tokens": 8,
    "token_granularities": (2, 4, 8),
    "widths": (6, 12, 24),
    "ffn_ratio": 2.57,
    "image_size": 12,
    "patch_size": 4,
    "in_channels": 1,
    "num_classes": 5,
    "output_feat_dim": 7,
    "num_bins": 6,
}


def small_config(**changes):
    return ModelConfig(**(SMALL | changes))


@torch.no_grad()
def build_model(seed=0, config=None, **changes):
    """A model whose biases, norms and LayerScales are far from their defaults: leaving one out shows."""
    model = AdaPerceiver(config or small_config(**changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_gain = parameter.ndim == 1 and name.endswith(("weight", "gamma"))
        parameter.copy_(1 + 0.3 * noise if is_gain else noise * 0.5 * max(parameter.shape[-1], 4) ** -0.3)
    return model


@pytest.fixture(scope="session")
def make_config():
    return small_config


@pytest.fixture(scope="session")
def make_model():
    return build_model


@pytest.fixture(scope="session")
def images():
    """(4, 1, 12, 12) for the small model."""
    return torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(1))
