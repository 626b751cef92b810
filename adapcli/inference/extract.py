"""A configuration as a smaller model of its own: sliced FFNs, fewer blocks, fewer tokens.

Matryoshka units come first, so every weight of the smaller model is a leading corner of the larger one's.
"""

from collections.abc import Sequence

import torch

from adapcli.errors import UsageError
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration


def extract(model: AdaPerceiver, configuration: Configuration) -> AdaPerceiver:
    """The sub-network that `configuration` runs, with weights of its own; its full configuration is that one.

    It stays adaptive: no more tokens, no wider, no deeper, it answers as `model` does at the same
    configuration, at the same FLOPs. With one width per block, each block holds its own, and a run at width w
    is the original's at min(w, own) in each block. Runs of more tokens than extracted need not agree.
    Raises UsageError for a configuration that the model cannot run, or beyond its trained length: positions
    are scaled there by the length of the run.
    """
    config = model.config
    config.check(configuration)
    if configuration.tokens > config.max_latent_tokens:
        raise UsageError(
            f"tokens {configuration.tokens}: beyond the trained length, which a smaller model keeps",
            f"allowed: up to {config.max_latent_tokens}",
        )
    widths = held_widths(config, configuration)
    tokens = _up_to(config.token_granularities, configuration.tokens)
    return cut(model, widths, tokens=tokens, widths=_up_to(config.widths, max(widths)))


def held_widths(config: ModelConfig, configuration: Configuration) -> tuple[int, ...]:
    """The width that each block of the sub-network needs to hold, shallowest first."""
    asked = configuration.widths()
    return asked if config.block_widths is None else tuple(map(min, asked, config.block_widths))


@torch.no_grad()
def cut(
    model: AdaPerceiver, held: Sequence[int], *, tokens: Sequence[int], widths: Sequence[int]
) -> AdaPerceiver:
    """The first len(held) blocks with FFNs of these widths, everything else as it is; copies, no views.

    tokens, widths: the granularities of the smaller model.
    """
    config = model.config
    whole = all(width == config.embed_dim for width in held)
    changed = {
        "depth": len(held),
        "block_widths": None if whole else tuple(held),
        "token_granularities": tuple(tokens),
        "widths": tuple(widths),
    }
    with torch.device("meta"):
        small = AdaPerceiver(
            ModelConfig(**(config.model_dump() | changed)),
            preprocessing=model.preprocessing,
            class_names=model.class_names,
        )
    state = model.state_dict()
    corners = {
        name: state[name][tuple(map(slice, tensor.shape))].clone(memory_format=torch.contiguous_format)
        for name, tensor in small.state_dict().items()
    }
    small.load_state_dict(corners, assign=True)
    return small.train(model.training)


def _up_to(granularities: Sequence[int], most: int) -> tuple[int, ...]:
    return (*(value for value in granularities if value < most), most)
