"""The arithmetic of a run: float32, or bfloat16 by autocast, and where float32 it stays whatever is asked.

Autocast keeps the weights and the latents in float32 and multiplies matrices in bfloat16; torch keeps
softmax and normalisation wide. Kept in float32 here besides: rotations (`rope`), the weights of the folded
readout and its attention (`readout`), metres (`heads`), signals (`evaluation.outcomes`).
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from adapcli.errors import UnavailableError, UsageError

DTYPES = ("auto", "float32", "bfloat16")
"""What `resolve_dtype` understands."""

FIRST_WITH_BFLOAT16 = (8, 0)
"""Compute capability; older devices only emulate it, slowly."""


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """What `auto`, `float32` or `bfloat16` means on `device`; auto is bfloat16 on CUDA that has it.

    Raises UnavailableError for bfloat16 on a CUDA device without it, UsageError for another name.
    """
    if name not in DTYPES:
        raise UsageError(f"dtype {name!r}: not known", f"allowed: {', '.join(DTYPES)}")
    if name == "float32" or (name == "auto" and device.type != "cuda"):
        return torch.float32
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= FIRST_WITH_BFLOAT16:
        return torch.bfloat16
    if name == "bfloat16":
        raise UnavailableError(f"dtype bfloat16: {device} has none", "--dtype float32 works everywhere")
    return torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` or `bfloat16`: how files and tables name it."""
    return str(dtype).removeprefix("torch.")


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Run what is inside in `dtype`; float32 means as the weights are, also inside another autocast."""
    if dtype not in (torch.float32, torch.bfloat16):
        raise UsageError(f"autocast to {dtype_name(dtype)}: expected float32 or bfloat16")
    if dtype == torch.float32:
        return as_written(device)
    return torch.autocast(device.type, dtype=dtype)


def as_written(device: torch.device) -> AbstractContextManager[object]:
    """Run what is inside in the dtypes it is written in, whatever autocast the caller is in."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def wide(tensor: Tensor) -> Tensor:
    """In float32; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
