"""Measure configurations, the direct model and whatever else answers, side by side."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adapcli.measure.latency import Stopwatch, Timing, synchroniser
from adapcli.measure.memory import held_bytes, peak_bytes
from adapcli.measure.workloads import Direct, Static, compiled, images
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from policies.table.latency import COLUMNS, Condition

Kind = Literal["static", "direct", "policy"]
Progress = Callable[[int, int, str], object]

COMPILE_S = 10.0
"""What one compilation takes, roughly, on one processor."""


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

    peak_memory_bytes: what its tensors take at the most: weights, input, and all that one call allocates.
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
    """A model on its device and in its type, the configurations and batch sizes to measure.

    device_name: what tells this machine's device from others'. extra: makes further jobs for a batch size.
    """

    model: AdaPerceiver
    configurations: Sequence[Configuration]
    batches: Sequence[int]
    device_name: str
    dtype: str = "float32"
    compiled: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    extra: Callable[[int], list[Job]] = lambda batch: []

    def __post_init__(self) -> None:
        device = self.model.device
        if device.type == "cuda":
            self.stopwatch = replace(self.stopwatch, synchronise=synchroniser(device))

    def condition(self, batch: int) -> Condition:
        """What rows of this batch size are measured under."""
        return Condition(batch, self.device_name, self.dtype, torch.get_num_threads(), self.compiled)

    @torch.inference_mode()
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
        made: list[Job] = []
        total = len(self.batches) * (len(self.configurations) + 1)
        for batch in self.batches:
            x = images(self.model, batch)
            forwards: list[Direct | Static] = [Direct(self.model), *self._statics.values()]
            for forward in forwards:
                if self.compiled:
                    progress(len(made), total, "compiling")
                made.append(self._job(forward, x))
        return made + [job for batch in self.batches for job in self.extra(batch)]

    @cached_property
    def _statics(self) -> dict[Configuration, Static]:
        return {c: Static(self.model, c) for c in self.configurations}

    def _job(self, forward: Direct | Static, x: Tensor) -> Job:
        call = partial(compiled(forward) if self.compiled else forward, x)
        if self.compiled:
            call()
        if isinstance(forward, Direct):
            held = held_bytes(self.model, x)
            return Job("direct", "direct", len(x), len(x), call, held, self.model.full_configuration)
        held = held_bytes(self.model, x, *forward.tensors())
        name = str(forward.configuration)
        return Job("static", name, len(x), len(x), call, held, forward.configuration)

    @torch.inference_mode()
    def expected_s(self, configurations: Sequence[Configuration] | None = None) -> float:
        """About how long `run` takes for these configurations, from the pace of a few at the least batch."""
        chosen = self.configurations if configurations is None else configurations
        pace = self._pace
        times = [pace(c, batch) for c in (*chosen, self.model.full_configuration) for batch in self.batches]
        expected = sum(self.stopwatch.expected_s(seconds) + 2 * seconds for seconds in times)
        return expected + self.compiled * COMPILE_S * len(times)

    @cached_property
    def _pace(self) -> Callable[[Configuration, int], float]:
        """Seconds of a call, as a base, a part per block and a part per FLOP, fitted to the extremes."""
        from scipy.optimize import nnls  # type: ignore[import-untyped]

        few = extremes(self.configurations)
        least = min(self.batches)
        x = images(self.model, least)
        seconds = [self.stopwatch.pace(partial(self._statics[c], x)) for c in few]

        def parts(c: Configuration, batch: int) -> list[float]:
            work = flops(self.model.config, c, self.model.preprocessing.size, "folded", "block")
            return [1.0, float(c.depth), work * batch / 1e9]

        weights, _ = nnls(np.array([parts(c, least) for c in few]), np.array(seconds))
        return lambda c, batch: max(1e-6, float(np.dot(weights, parts(c, batch))))


def extremes(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Up to four that span the others: cheapest, dearest, shallow and wide, deep and narrow."""
    ordered = sorted(configurations, key=lambda c: (c.tokens, c.widths()[0], c.depth))
    shallow = max(ordered, key=lambda c: (-c.depth, c.tokens, c.widths()[0]))
    deep = max(ordered, key=lambda c: (c.depth, -c.tokens, -c.widths()[0]))
    return list(dict.fromkeys((ordered[0], ordered[-1], shallow, deep)))


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
        **axes,
    )
