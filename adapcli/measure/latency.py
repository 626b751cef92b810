"""Wall time, fairly: everything is warmed up, then measured in rounds, each round in another order.

A machine that slows down or is disturbed so slows everything compared, not what happened to run last; one
measurement after the other, as `torch.utils.benchmark` takes them, compares different hours. Medians and
quartiles say what is typical and how sure it is; means and minima say neither.
"""

import gc
import math
import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Call = Callable[[], object]
Progress = Callable[[int, int], object]
Key = TypeVar("Key", bound=Hashable)

ROUNDS = 15
MIN_TIME_S = 0.01
WARM_UP_CALLS, WARM_UP_S = 3, 0.5


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call: median and quartiles over `rounds` measurements of `calls` calls each."""

    median_ms: float
    q25_ms: float
    q75_ms: float
    rounds: int
    calls: int

    @classmethod
    def of(cls, seconds: list[float], calls: int) -> "Timing":
        """From the seconds per call of each round."""
        low, middle, high = np.quantile(np.array(seconds) * 1000, [0.25, 0.5, 0.75]).tolist()
        return cls(middle, low, high, len(seconds), calls)


@dataclass(frozen=True)
class Stopwatch:
    """How to measure. min_time_s: a measurement repeats its call until it lasts about this long.

    clock: seconds; synchronise: waits until the device has finished what it was given.
    """

    rounds: int = ROUNDS
    min_time_s: float = MIN_TIME_S
    seed: int = 0
    clock: Callable[[], float] = time.perf_counter
    synchronise: Call = _nothing

    def measure(self, calls: Mapping[Key, Call], *, progress: Progress = _nothing) -> dict[Key, Timing]:
        """Time every call under the same conditions. progress(measurements done, in all)."""
        total = len(calls) * (self.rounds + 1)
        repeats: dict[Key, int] = {}
        for done, (key, call) in enumerate(calls.items(), 1):
            repeats[key] = self.repeats(self.pace(call))
            progress(done, total)
        seconds: dict[Key, list[float]] = {key: [] for key in calls}
        for done, key in enumerate(self._order(list(calls)), len(calls) + 1):
            seconds[key].append(self.seconds(calls[key], repeats[key]) / repeats[key])
            progress(done, total)
        return {key: Timing.of(taken, repeats[key]) for key, taken in seconds.items()}

    def pace(self, call: Call) -> float:
        """Warm up and return the seconds of the last call: a few calls, fewer of those that take long."""
        begun, calls, seconds = self.clock(), 0, 0.0
        while calls < WARM_UP_CALLS and (calls == 0 or self.clock() - begun < WARM_UP_S):
            seconds = self.seconds(call, 1)
            calls += 1
        return seconds

    def repeats(self, pace_s: float) -> int:
        """How many calls make one measurement."""
        return max(1, math.ceil(self.min_time_s / max(pace_s, 1e-7)))

    def expected_s(self, pace_s: float) -> float:
        """About how long `measure` takes for one call of this pace."""
        warm_up = pace_s * max(1, min(WARM_UP_CALLS, math.ceil(WARM_UP_S / max(pace_s, 1e-7))))
        return warm_up + self.rounds * pace_s * self.repeats(pace_s)

    def seconds(self, call: Call, repeats: int) -> float:
        """Wall time of `repeats` calls, the device's part included. The garbage collector waits."""
        with _no_collection():
            self.synchronise()
            start = self.clock()
            for _ in range(repeats):
                call()
            self.synchronise()
            return self.clock() - start

    def _order(self, keys: list[Key]) -> Iterator[Key]:
        """Every key once a round, shuffled anew, so that none always follows the same one."""
        shuffle = random.Random(self.seed).shuffle
        for _ in range(self.rounds):
            shuffle(keys)
            yield from keys


def synchroniser(device: "torch.device") -> Call:
    """What waits for `device`."""
    import torch

    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else _nothing


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
