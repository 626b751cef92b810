"""Images that each go their own way, executed: the FLOPs per second against those of a static run.

At the same rate, the part of the FLOPs that is saved is the part of the time that is saved: the rate over the
static run's is what is kept of the promise. Functions for `anytime.py` and `gpu.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import oracle
import torch

from adapcli.inference.answers import Answers, in_order
from adapcli.inference.anytime import run_anytime
from adapcli.inference.grouped import GroupedRun, run_grouped
from adapcli.model.flops import executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from policies.grid import Grid
from policies.live import Looks, Verdict

FEW = 32
"""Images that are run one at a time to know how long that takes."""


@dataclass
class DrawnExits:
    """Looks after every block and stops as often as the data say; random weights are sure of nothing."""

    grid: Grid
    hazards: np.ndarray
    own_flops: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def reachable(self) -> tuple[int, ...]:
        return tuple(range(len(self.grid)))

    def verdict(self, looks: Looks) -> Verdict:
        stop = self.rng.random(len(looks.at)) < self.hazards[looks.at]
        last = looks.at == len(self.grid) - 1
        return Verdict(np.where(stop | last, looks.at, looks.at + 1), np.full(len(looks.at), np.inf))


def cost(model: AdaPerceiver, configuration: Configuration) -> int:
    return executed_flops(model.config, configuration)


def depth_grid(model: AdaPerceiver, tokens: int, width: int) -> Grid:
    rows = [(tokens, width, depth) for depth in range(1, model.config.depth + 1)]
    costs = tuple(float(cost(model, Configuration(*row))) for row in rows)
    return Grid(("tokens", "width", "depth"), tuple(rows), costs)


def seconds(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    found = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, found


def static(model: AdaPerceiver, x: torch.Tensor, configuration: Configuration, batch: int) -> Answers:
    return run_grouped(model, x, [configuration] * len(x), batch=batch)


def exits(
    model: AdaPerceiver, x: torch.Tensor, *, batch: int, hazards: np.ndarray, rounds: int
) -> dict[str, float]:
    """Per-sample exits at the fewest tokens and the narrowest width, with and without refilling."""
    c = model.config
    full = Configuration(c.token_granularities[0], c.widths[0], c.depth)
    grid = depth_grid(model, full.tokens, int(full.widths()[0]))

    def run(in_flight: int | None = None) -> Answers:
        return run_anytime(model, x, DrawnExits(grid, hazards), batch=batch, max_in_flight=in_flight)

    calls = {
        "static": lambda: static(model, x[: len(x) // 2], full, batch),
        "refilled": run,
        "not": lambda: run(batch),
    }
    rates, cost_flops = measured(calls, model.device, rounds)
    return {
        "flops_of_full": cost_flops["refilled"] / cost(model, full),
        "of_promise": ratio(rates, "refilled", "static"),
        "over_no_refill": ratio(rates, "refilled", "not"),
    }


def choices(
    model: AdaPerceiver, x: torch.Tensor, chosen: list[Configuration], *, batch: int, rounds: int
) -> dict[str, float]:
    """Per-sample configurations, against one sample at a time and the full configuration."""
    full = model.full_configuration
    few = np.linspace(0, len(x) - 1, min(FEW, len(x))).astype(int)

    def one_at_a_time() -> Answers:
        pieces = [next(iter(GroupedRun(model, x[i : i + 1], lambda _, i=i: [chosen[i]]))) for i in few]
        return in_order(replace(piece, index=np.array([i])) for piece, i in zip(pieces, few, strict=True))

    calls = {
        "static": lambda: static(model, x[:batch], full, batch),
        "grouped": lambda: run_grouped(model, x, chosen, batch=batch),
        "alone": one_at_a_time,
    }
    rates, cost_flops = measured(calls, model.device, rounds)
    return {
        "flops_of_full": cost_flops["grouped"] / cost(model, full),
        "of_promise": ratio(rates, "grouped", "static"),
        "over_one_at_a_time": ratio(rates, "grouped", "alone"),
    }


Rates = dict[str, list[float]]


def measured(
    calls: dict[str, Callable[[], Answers]], device: torch.device, rounds: int
) -> tuple[Rates, dict[str, float]]:
    """FLOPs per second of each call in each round, all calls in turn, and mean FLOPs per image."""
    rates: Rates = {name: [] for name in calls}
    cost_flops = {}
    for call in calls.values() if device.type == "cuda" else ():
        call()  # kernels are chosen and loaded at the first use
    for _ in range(rounds):
        for name, call in calls.items():
            taken, answers = seconds(call, device)
            rates[name].append(float(answers.cost_flops.sum()) / taken)
            cost_flops[name] = float(answers.cost_flops.mean())
    return rates, cost_flops


def ratio(rates: Rates, ours: str, rival: str) -> float:
    """The median over rounds of our rate over the rival's in the same round."""
    return float(np.median(np.array(rates[ours]) / np.array(rates[rival])))


def report(
    model: AdaPerceiver, parts: Sequence[str], *, samples: int, batch: int, rounds: int
) -> dict[str, dict[str, float]]:
    """`exits` and `choices` over the published oracle data; empty where these are not there."""
    found, size, c = oracle.needed(), model.config.image_size, model.config
    images = oracle.on_axes_of(c, found) if found else None
    if images is None:
        return {}
    x = torch.randn(samples, c.in_channels, size, size, device=model.device)
    calls = {
        "exits": lambda: exits(model, x, batch=batch, hazards=oracle.hazards(images, c.depth), rounds=rounds),
        "choices": lambda: choices(model, x, oracle.drawn(images, samples), batch=batch, rounds=rounds),
    }
    return {part: calls[part]() for part in parts}
