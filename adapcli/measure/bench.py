"""Measure configurations, the direct model and whatever else answers, side by side."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapcli.measure.latency import Stopwatch, Timing, synchroniser
from adapcli.measure.memory import held_bytes, peak_bytes
from adapcli.measure.workloads import Direct, Static, images, in_dtype
from adapcli.model.flops import executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import dtype_name
from adapcli.space import Configuration
from policies.table.latency import COLUMNS, Condition

NOISY = 0.25
"""A `spread` above this says that something else was running."""

Kind = Literal["static", "direct", "policy"]
Progress = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Job:
    """Something to measure. call: runs `samples` samples, `batch` at a time.

    held_bytes: what it holds whether it runs or not: weights, what is derived from them, and its input.
    """

    kind: Kind
    name: str
    batch: int
    samples: int
    call: Callable[[], object]
    held_bytes: int
    configuration: Configuration | None = None


@dataclass(frozen=True)
class Row:
    """What was measured of one job under one condition; times in ms per batch.

    samples: how many a measurement runs; peak_memory_bytes: what tensors take at the most: weights, input,
    and all that one call allocates.
    """

    kind: Kind
    name: str
    batch: int
    median_ms: float
    q25_ms: float
    q75_ms: float
    samples_per_s: float
    peak_memory_bytes: int
    rounds: int
    samples: int
    tokens: int | None = None
    width: int | None = None
    depth: int | None = None

    @property
    def configuration(self) -> Configuration | None:
        """Of a static row and of the direct model."""
        if self.tokens is None or self.width is None or self.depth is None:
            return None
        return Configuration(self.tokens, self.width, self.depth)


@dataclass
class Bench:
    """A model on its device, the configurations and batch sizes to measure.

    device_name: what tells this machine's device from others'. compiled: whether the model's blocks are.
    extra: makes further jobs for a batch size.
    """

    model: AdaPerceiver
    configurations: Sequence[Configuration]
    batches: Sequence[int]
    device_name: str
    dtype: torch.dtype = torch.float32
    compiled: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    extra: Callable[[int], list[Job]] = lambda batch: []

    def __post_init__(self) -> None:
        device = self.model.device
        if device.type == "cuda":
            self.stopwatch = replace(self.stopwatch, synchronise=synchroniser(device))

    def condition(self, batch: int) -> Condition:
        """What rows of this batch size are measured under."""
        return Condition(
            batch, self.device_name, dtype_name(self.dtype), torch.get_num_threads(), self.compiled
        )

    def run(self, progress: Progress = lambda done, total, note: None) -> list[Row]:
        """Measure every job: memory one by one, then time in interleaved rounds over all batch sizes.

        progress(done, total, what is being done).
        """
        jobs = self._jobs(progress)
        total = len(jobs) * (self.stopwatch.rounds + 2)
        peaks = []
        for done, job in enumerate(jobs):
            progress(done, total, "memory")
            peaks.append(job.held_bytes + peak_bytes(job.call, self.model.device))
        times = self.stopwatch.measure(
            dict(enumerate(job.call for job in jobs)),
            progress=lambda done, _: progress(len(jobs) + done, total, "time"),
        )
        return [_row(job, times[i], peaks[i]) for i, job in enumerate(jobs)]

    def _jobs(self, progress: Progress) -> list[Job]:
        """The direct model, every configuration, and the extra jobs, at every batch size."""
        forwards: list[Direct | Static] = [Direct(self.model)]
        forwards += [Static(self.model, configuration) for configuration in self.configurations]
        made = [self._job(forward, x) for x in self._inputs for forward in forwards]
        made += [job for batch in self.batches for job in self.extra(batch)]
        for done, job in enumerate(made if self.compiled else ()):
            progress(done, len(made), "compiling")
            job.call()
        return made

    @cached_property
    def _inputs(self) -> list[Tensor]:
        return [images(self.model, batch) for batch in self.batches]

    def _job(self, forward: Direct | Static, x: Tensor) -> Job:
        return Job(
            "direct" if isinstance(forward, Direct) else "static",
            forward.name,
            len(x),
            len(x),
            in_dtype(forward, x, self.dtype),
            held_bytes(self.model, x, *forward.tensors()),
            forward.configuration,
        )

    def expected_s(self, configurations: Sequence[Configuration] | None = None) -> float:
        """About how long `run` takes for these configurations, from the pace of a few at the least batch.

        Compilation and the extra jobs are not in it.
        """
        chosen = self.configurations if configurations is None else configurations
        pace = self._pace
        times = [pace(c, batch) for c in (*chosen, self.model.full_configuration) for batch in self.batches]
        return sum(self.stopwatch.expected_s(seconds) + 2 * seconds for seconds in times)

    def affordable(self, seconds: float, most: int) -> int:
        """How many samples, 16 to `most`, the full configuration answers one by one in about this time."""
        one = self._pace(self.model.full_configuration, 1)
        return min(most, max(16, int(seconds / one)))

    @cached_property
    def _pace(self) -> Callable[[Configuration, int], float]:
        """Seconds of a call, as a base, a part per block and a part per FLOP, fitted to the extremes."""
        from scipy.optimize import nnls  # type: ignore[import-untyped]

        few = extremes(self.configurations)
        least = min(self.batches)
        x = images(self.model, least)
        calls = [in_dtype(Static(self.model, c), x, self.dtype) for c in few]
        for call in calls if self.compiled else ():
            call()
        seconds = [self.stopwatch.pace(call) for call in calls]

        def parts(c: Configuration, batch: int) -> list[float]:
            work = executed_flops(self.model.config, c, self.model.preprocessing.size)
            return [1.0, float(c.depth), work * batch / 1e9]

        weights, _ = nnls(np.array([parts(c, least) for c in few]), np.array(seconds))
        return lambda c, batch: max(1e-6, float(np.dot(weights, parts(c, batch))))


def extremes(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Up to four that span the others: cheapest, dearest, shallow and wide, deep and narrow."""
    ordered = sorted(configurations, key=lambda c: (c.tokens, c.widths()[0], c.depth))
    shallow = max(ordered, key=lambda c: (-c.depth, c.tokens, c.widths()[0]))
    deep = max(ordered, key=lambda c: (c.depth, -c.tokens, -c.widths()[0]))
    return list(dict.fromkeys((ordered[0], ordered[-1], shallow, deep)))


def spread(rows: Sequence[Row]) -> float:
    """How noisy a bench was: the middle row's distance between the quartiles, as part of its median."""
    return float(np.median([(row.q75_ms - row.q25_ms) / row.median_ms for row in rows]))


def latency_rows(
    rows: Sequence[Row], conditions: dict[int, Condition], index: dict[Configuration, int]
) -> pd.DataFrame:
    """The static rows as an outcome table keeps them. conditions: by batch; index: configuration -> row."""
    found = []
    for row in rows:
        if row.kind == "static" and row.configuration in index:
            condition = conditions[row.batch].to_dict()
            times: dict[str, Any] = {name: getattr(row, name) for name in COLUMNS if hasattr(row, name)}
            found.append({**times, **condition, "configuration": index[row.configuration]})
    return pd.DataFrame(found, columns=list(COLUMNS))


def _row(job: Job, timing: Timing, peak: int) -> Row:
    per_batch = job.batch / job.samples
    median = timing.median_ms * per_batch
    axes: dict[str, Any] = {} if job.configuration is None else asdict(job.configuration)
    return Row(
        kind=job.kind,
        name=job.name,
        batch=job.batch,
        median_ms=median,
        q25_ms=timing.q25_ms * per_batch,
        q75_ms=timing.q75_ms * per_batch,
        samples_per_s=1000 * job.batch / median if median > 0 else math.inf,
        peak_memory_bytes=peak,
        rounds=timing.rounds,
        samples=job.samples,
        **axes,
    )
