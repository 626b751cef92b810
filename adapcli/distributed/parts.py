"""Tensors of which every process holds a part (torch's DTensor), and the same in full."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def in_full(value: Any) -> Any:
    """A tensor in parts, put together; anything else as it is. Every process must ask for it."""
    return value.full_tensor() if _is_in_parts(value) else value


def in_parts(value: Any, like: Tensor) -> Any:
    """A whole tensor in parts as `like` is; anything else, or of another shape, as it is."""
    if not (_is_in_parts(like) and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    kept: Any = like
    return distribute_tensor(value.to(like.device), kept.device_mesh, kept.placements)


class WholeParameters(nn.Module):
    """A module of which only the parameters are asked for: they come in full."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Those of the module, in its order."""
        return map(in_full, self.module.parameters(recurse))


def _is_in_parts(value: Any) -> bool:
    """Without importing what only several processes need."""
    return hasattr(value, "full_tensor")
