"""How long a sweep will take and how much disk its table will fill, from a small measured batch."""

import math
import time
from dataclasses import dataclass

from adapcli.data.features import feature_names
from adapcli.sweep.recalibrating import fit_seconds, plans
from adapcli.sweep.sweep import Sweep

MEASURE_S = 2.0
BYTES_PER_ID = 40
"""A sample's row in samples.csv, roughly."""


@dataclass(frozen=True)
class Estimate:
    """seconds and disk_bytes of the whole sweep, from the best pace over up to `measured` samples.

    calibrating_seconds: how many of the seconds go into fitting and judging a recalibration.
    """

    samples: int
    configurations: int
    passes: int
    flops_per_sample: int
    measured: int
    seconds: float
    disk_bytes: int
    calibrating_seconds: float = 0.0


def estimate(sweep: Sweep, *, calibrate: bool = False) -> Estimate:
    """Score a few samples and scale up; `calibrate`: with fitting a recalibration first. Writes nothing."""
    per_sample, measured = _pace(sweep)
    calibrating = _calibrating(sweep, per_sample) if calibrate else 0.0
    return Estimate(
        samples=len(sweep.samples),
        configurations=len(sweep.configurations),
        passes=len(sweep.grid.passes),
        flops_per_sample=sweep.flops_per_sample,
        measured=measured,
        seconds=per_sample * len(sweep.samples) + calibrating,
        disk_bytes=disk_bytes(sweep),
        calibrating_seconds=calibrating,
    )


def _calibrating(sweep: Sweep, per_sample: float) -> float:
    """Scoring its samples, as long as a part of the grid takes, and the fit."""
    configurations = len(sweep.configurations)
    shares = [(plan.fitted + plan.judged) * len(plan.columns) / configurations for plan in plans(sweep)]
    return per_sample * sum(shares) + fit_seconds(sweep)


def disk_bytes(sweep: Sweep) -> int:
    """Size of the table on disk."""
    configurations = len(sweep.configurations)
    looks = 4 * len(feature_names()) + 2 * sweep.patches**2 * sweep.model.config.embed_dim
    per_sample = configurations * sweep.scoring.cell_bytes + looks + BYTES_PER_ID
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
