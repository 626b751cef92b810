"""Does memory grow faster than the batch?"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from adapcli.evaluation.diagnosis.check import Check
from adapcli.measure.memory import peak_bytes

GROWTH_LIMIT = 1.1
BATCHES = (1, 4, 16)


def memory(
    call: Callable[[int], object],
    device: torch.device,
    *,
    name: str = "memory",
    batches: Sequence[int] = BATCHES,
) -> Check:
    """`call` runs a batch of so many samples; two or more ascending batch sizes are measured.

    growth: memory of the largest batch over that of the one before, against their sizes: 1 or less for what
    is there once plus so much for each sample. Counted is what a call allocates beyond the weights.
    """
    call(batches[0])  # what is kept from the first call on belongs to none of them
    peaks = [peak_bytes(partial(call, size), device) for size in batches]
    per_sample = (peaks[-1] - peaks[-2]) / (batches[-1] - batches[-2])
    growth = peaks[-1] / max(peaks[-2], 1) * batches[-2] / batches[-1]
    limit = (
        f"warns if memory grows {GROWTH_LIMIT:g} times as fast as the batch: samples do not depend on each "
        "other, so that must not be"
    )
    numbers = {
        "peak_bytes": {str(size): peak for size, peak in zip(batches, peaks, strict=True)},
        "bytes_per_sample": per_sample,
        "growth": growth,
        "device": str(device),
    }
    shown = ", ".join(f"{_mib(peak)} at batch {size}" for size, peak in zip(batches, peaks, strict=True))
    told = f"{shown}: {_mib(per_sample)} a sample, growth {growth:.2f}"
    return Check(name, growth > GROWTH_LIMIT, told, limit, numbers)


def _mib(count: float) -> str:
    return f"{count / 2**20:.3g} MiB"
