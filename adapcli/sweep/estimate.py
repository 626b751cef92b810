"""How long a sweep will take and how much disk its table will fill, from a small measured batch."""

import math
import time
from dataclasses import dataclass

from adapcli.data.features import feature_names
from adapcli.evaluation.outcomes import SIGNAL_NAMES
from adapcli.sweep.sweep import Sweep

MEASURE_S = 2.0
BYTES_PER_ID = 40
"""A sample's row in samples.csv, roughly."""


@dataclass(frozen=True)
class Estimate:
    """seconds and disk_bytes of the whole sweep, from the best pace over up to `measured` samples."""

    samples: int
    configurations: int
    passes: int
    flops_per_sample: int
    measured: int
    seconds: float
    disk_bytes: int


def estimate(sweep: Sweep) -> Estimate:
    """Score a few samples and scale up. Writes nothing."""
    per_sample, measured = _pace(sweep)
    return Estimate(
        samples=len(sweep.samples),
        configurations=len(sweep.configurations),
        passes=len(sweep.grid.passes),
        flops_per_sample=sweep.flops_per_sample,
        measured=measured,
        seconds=per_sample * len(sweep.samples),
        disk_bytes=disk_bytes(sweep),
    )


def disk_bytes(sweep: Sweep) -> int:
    """Size of the table on disk."""
    configurations, classes = len(sweep.configurations), sweep.model.config.num_classes or 0
    prediction = 2 if classes <= 2**15 else 4
    per_cell = 4 * (3 + len(SIGNAL_NAMES)) + prediction
    looks = 4 * len(feature_names()) + 2 * sweep.patches**2 * sweep.model.config.embed_dim
    per_sample = configurations * per_cell + looks + BYTES_PER_ID
    return len(sweep.samples) * per_sample + 8 * configurations**2


def _pace(sweep: Sweep) -> tuple[float, int]:
    """Seconds per sample, and how many were measured at most: ever more, up to a batch, while time allows."""
    _seconds(sweep, 1)
    limit, begun = min(sweep.batch, len(sweep.samples)), time.perf_counter()
    best, measured, samples = math.inf, 0, 1
    while measured < limit and time.perf_counter() - begun < MEASURE_S:
        measured = min(samples, limit)
        best = min(best, _seconds(sweep, measured) / measured)
        samples *= 2
    return best, measured


def _seconds(sweep: Sweep, samples: int) -> float:
    start = time.perf_counter()
    for _ in sweep.rows(0, samples):
        pass
    return time.perf_counter() - start
