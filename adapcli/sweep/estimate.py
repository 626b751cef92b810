"""How long a sweep will take, and how much disk and memory it will fill, from a small measured batch."""

import math
import time
from dataclasses import dataclass, replace

import torch

from adapcli.data.features import feature_names
from adapcli.distributed.group import ALONE, Group
from adapcli.measure.device import peak_memory_bytes
from adapcli.sweep.recalibrating import fit_seconds, plans
from adapcli.sweep.sweep import Sweep

MEASURE_S = 2.0
DEAR_FLOPS = 2e11
"""A grid of maps that takes more per sample is not run to tell how long it takes."""
BYTES_PER_ID = 40
"""A sample's row in samples.csv, roughly."""

CHUNK_COPIES = 3
"""Of a chunk's rows in memory while it is written: the batches, joined, and as they are stored."""

FINISH_BYTES = 200
"""Memory for each sample when the list of all samples is put together and checked: 182 bytes were measured
at 1.28 million, beside the text itself."""


@dataclass(frozen=True)
class Estimate:
    """seconds and disk_bytes of the whole sweep, from the best pace over up to `measured` samples.

    calibrating_seconds: how many of the seconds go into fitting and judging a recalibration.
    memory_bytes: the most main memory of a process, of which there are `processes`.
    """

    samples: int
    configurations: int
    passes: int
    flops_per_sample: int
    measured: int
    seconds: float
    disk_bytes: int
    calibrating_seconds: float = 0.0
    memory_bytes: int = 0
    processes: int = 1


def estimate(sweep: Sweep, *, calibrate: bool = False, group: Group = ALONE) -> Estimate:
    """Score a few samples and scale up; `calibrate`: with fitting a recalibration first. Writes nothing.

    group: the processes that would share the sweep, each of which measures at the same time.
    """
    group.barrier()
    alone, measured = _pace(sweep)
    calibrating = _calibrating(sweep, alone) if calibrate else 0.0
    per_sample = 1 / float(group.sum(torch.tensor(1 / alone, dtype=torch.float64)))
    return Estimate(
        samples=len(sweep.samples),
        configurations=len(sweep.configurations),
        passes=len(sweep.grid.passes),
        flops_per_sample=sweep.flops_per_sample,
        measured=measured,
        seconds=per_sample * len(sweep.samples) + calibrating,
        disk_bytes=disk_bytes(sweep),
        calibrating_seconds=calibrating,
        memory_bytes=group.largest(memory_bytes(sweep)),
        processes=group.size,
    )


def _calibrating(sweep: Sweep, per_sample: float) -> float:
    """Scoring its samples, as long as a part of the grid takes, and the fit."""
    configurations = len(sweep.configurations)
    shares = [(plan.fitted + plan.judged) * len(plan.columns) / configurations for plan in plans(sweep)]
    return per_sample * sum(shares) + fit_seconds(sweep)


def disk_bytes(sweep: Sweep) -> int:
    """Size of the table on disk."""
    return len(sweep.samples) * _bytes_per_sample(sweep) + 8 * len(sweep.configurations) ** 2


def memory_bytes(sweep: Sweep) -> int:
    """The most main memory of a process: what it held so far, with a batch scored, and what comes later."""
    chunk = CHUNK_COPIES * min(sweep.chunk, len(sweep.samples)) * _bytes_per_sample(sweep)
    samples = len(sweep.samples) * (FINISH_BYTES + 2 * BYTES_PER_ID)
    return peak_memory_bytes() + max(chunk, samples)


def _bytes_per_sample(sweep: Sweep) -> int:
    looks = 4 * len(feature_names()) + 2 * sweep.patches**2 * sweep.model.config.embed_dim
    return len(sweep.configurations) * sweep.scoring.cell_bytes + looks + BYTES_PER_ID


def _pace(sweep: Sweep) -> tuple[float, int]:
    """Seconds per sample, and how many were measured at most: ever more, up to a batch, while time allows."""
    if sweep.model.config.is_dense and sweep.flops_per_sample > DEAR_FLOPS:
        return _pace_of_full(sweep), 1
    _seconds(sweep, 1)
    limit, begun = min(sweep.batch, len(sweep.samples)), time.perf_counter()
    best, measured, samples = math.inf, 0, 1
    while measured < limit and time.perf_counter() - begun < MEASURE_S:
        measured = min(samples, limit)
        best = min(best, _seconds(sweep, measured) / measured)
        samples *= 2
    return best, measured


def _pace_of_full(sweep: Sweep) -> float:
    """Seconds per sample, from one sample in the full configuration alone and by FLOPs."""
    space = sweep.model.config.space
    full = space.restrict(tokens=space.tokens[-1:], widths=space.widths[-1:], depths=space.depths[-1:])
    alone = replace(sweep, space=full)
    return _seconds(alone, 1) * sweep.flops_per_sample / alone.flops_per_sample


def _seconds(sweep: Sweep, samples: int) -> float:
    start = time.perf_counter()
    for _ in sweep.rows(0, samples):
        pass
    return time.perf_counter() - start
