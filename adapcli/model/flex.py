"""The block mask by torch's flex attention: one kernel that skips what the mask hides.

An option for CUDA, where the kernel is compiled. Elsewhere torch runs it unfused and says so: right, slow,
and without gradients on CPU. Grouped attention (`attention`) is the default, masked attention the reference.
B batch, T latent tokens, H heads, C channels per head.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapcli.errors import UnavailableError

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def flex_mask(ends: Sequence[int], device: torch.device) -> "BlockMask":
    """What `flex` needs to know of a run whose groups end at `ends`; made once for each."""
    return _mask(tuple(ends), device)


@lru_cache(maxsize=64)
def _mask(ends: tuple[int, ...], device: torch.device) -> "BlockMask":
    from torch.nn.attention.flex_attention import create_block_mask

    with torch.inference_mode(False):  # what is kept must serve training too
        group = torch.bucketize(
            torch.arange(ends[-1], device=device), torch.tensor(ends, device=device), right=True
        )

        def allowed(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return group[key] <= group[query]

        return create_block_mask(allowed, None, None, ends[-1], ends[-1], device=str(device))


def flex(q: Tensor, k: Tensor, v: Tensor, mask: "BlockMask") -> Tensor:
    """Masked attention, (B, H, T, C) each. UnavailableError for gradients on CPU, which torch has not."""
    if q.device.type == "cpu" and q.requires_grad and torch.is_grad_enabled():
        raise UnavailableError("attention 'flex': no gradients on CPU", "attention 'block' has them")
    attended: Tensor = _kernel(q.device.type)(q, k, v, block_mask=mask)
    return attended


def _kernel(device_type: str) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    if device_type != "cuda" or torch.compiler.is_compiling():
        return flex_attention
    return _compiled()


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Any] = torch.compile(flex_attention)
    return compiled
