"""The most memory that tensors hold at once during a call.

Counted is what torch allocates: on CUDA by its allocator's own peak, on CPU by the profiler's record of every
allocation. Not counted are the interpreter, libraries with their scratch space, and what an allocator keeps
in reserve: a process needs those once, whatever it runs.
"""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

Call = Callable[[], object]


def peak_bytes(call: Call, device: torch.device) -> int:
    """Bytes that `call` allocates and holds at once, at most, beyond what is there when it begins."""
    return _peak_on_cuda(call, device) if device.type == "cuda" else _peak_on_cpu(call)


def held_bytes(*holders: nn.Module | Tensor) -> int:
    """Bytes of weights, buffers and tensors; what several hold is counted once."""
    tensors: list[Tensor] = []
    for holder in holders:
        tensors += [holder] if isinstance(holder, Tensor) else [*holder.parameters(), *holder.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _peak_on_cuda(call: Call, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(call: Call) -> int:
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells of its start and stop on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    kept = peak = 0
    events = recorded.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        kept += event.nbytes()
        peak = max(peak, kept)
    return peak
