"""The blocks compiled by torch.compile: the same answers up to rounding, faster where kernels are small."""

from functools import cache

import torch

from adapcli.errors import UnavailableError
from adapcli.model.perceiver import AdaPerceiver

VARIANTS = 64
"""Token counts, widths and parts of a path that one model is compiled for before torch gives up."""


def compile_blocks(model: AdaPerceiver) -> AdaPerceiver:
    """Compile every block of `model`, in place, whatever runs them; returns it. They compile when first run.

    Raises UnavailableError where torch.compile does not work, for want of a compiler for instance.
    """
    _try_out(str(model.device))
    for block in model.blocks:
        for name in ("forward", "extend"):
            setattr(block, name, torch.compile(getattr(block, name)))
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    return model


@cache
def _try_out(device: str) -> None:
    """A first small compilation tells whether any can succeed."""
    try:
        torch.compile(lambda x: (x * 2).sin())(torch.ones(8, device=device))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise UnavailableError(
            f"--compile: torch.compile does not work here: {reason}",
            "it needs a C++ compiler on CPU, and triton on CUDA",
        ) from error
