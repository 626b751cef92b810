"""What does a training step that judges every configuration cost, against one of the full one alone?

time: forward, backward, clipping, optimiser and averaging on one batch, in milliseconds and over `plain`:
  plain       the full configuration by its forward pass and a cross-entropy, as anyone would train it
  tokens      all |T| granularities read out after the last block
  depth       and every earlier block at a granularity drawn at random: L depth readouts
  once        and one width per sample: the once-for-all step
  packaged    the same as the recipe has it: every block at every granularity, learning in place
  explicit    the once-for-all step, a pass per width in place of one per sample
  naive       a forward pass for each granularity and for each earlier depth, as without shared prefixes
memory: the most that the passes of a step hold at once, with activation checkpointing and without.
Same weights and images, rounds interleaved.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from adapcli.measure.latency import Stopwatch
from adapcli.measure.memory import peak_bytes
from adapcli.space import Configuration
from adapcli.training.losses import Targets
from adapcli.training.objective import draw_passes, pass_losses
from adapcli.training.optimisation import Optimisation
from adapcli.training.recipe import load_recipe
from adapcli.training.schema import Loss, Readouts, Recipe, Stage
from adapcli.training.source import open_source
from adapcli.training.start import start

AXES = {"tokens": ["tokens"], "depth": ["tokens", "depth"], "once": ["tokens", "depth", "width"]}
TINY = [
    "model.depth=2",
    "model.max_latent_tokens=4",
    "model.token_granularities=[1, 2, 4]",
    "readouts.token_weights=null",
]


class Steps:
    """Training steps of one model on one batch, by name."""

    def __init__(self, recipe: Recipe, batch: int) -> None:
        source = open_source(recipe)
        self.recipe, self.model = recipe, start(recipe, source).model.train()
        drawn = source.split("tune", self.model.preprocessing, batch).batch(0, batch)
        self.images, self.labels = drawn.images, drawn.targets
        self.optimisation = Optimisation(self.model, recipe)
        self.number = 0

    def step(self, losses: Callable[[], None]) -> None:
        """`losses` leaves gradients."""
        self.optimisation.zero_grad()
        losses()
        self.optimisation.step()

    def plain(self) -> None:
        logits = self.model(self.images, attention="dense").logits
        cross_entropy(logits, self.labels).backward()

    def naive(self) -> None:
        config, total = self.model.config, torch.zeros(())
        full, grid = config.full_configuration, config.token_granularities
        drawn = grid[len(grid) // 2]
        runs = [Configuration(t, full.width, full.depth) for t in grid]
        runs += [Configuration(drawn, full.width, depth) for depth in range(1, full.depth)]
        for configuration in runs:
            logits = self.model(self.images, configuration, attention="dense").logits
            total = total + cross_entropy(logits, self.labels)
        total.backward()

    def judged(self, axes: list[str], width: str = "implicit", *, checkpointing: bool = False) -> None:
        stage = Stage(name="x", steps=1, axes=tuple(axes), loss=Loss(), readouts=Readouts(width=width))
        self.passes(stage, Targets(self.labels), checkpointing=checkpointing)

    def passes(self, stage: Stage, targets: Targets, *, checkpointing: bool = False) -> None:
        loss, readouts = self.recipe.loss_of(stage), self.recipe.readouts_of(stage)
        self.number += 1
        passes = draw_passes(self.model.config, stage, readouts, len(self.images), seed=0, number=self.number)
        for chosen in passes:
            losses = pass_losses(
                self.model,
                self.images,
                targets,
                chosen,
                loss,
                readouts,
                checkpointing=checkpointing,
            )
            losses.total.item()  # as the loop does, which looks for NaN
            (losses.total / len(passes)).backward()

    def calls(self) -> dict[str, Callable[[], None]]:
        losses: dict[str, Callable[[], None]] = {"plain": self.plain}
        losses |= {name: lambda axes=axes: self.judged(axes) for name, axes in AXES.items()}
        in_place = Targets(self.labels, in_place=self.recipe.in_place)
        losses["packaged"] = lambda: self.passes(self.recipe.stages[-1], in_place)
        losses["checkpointed"] = lambda: self.judged(AXES["once"], checkpointing=True)
        losses["explicit"] = lambda: self.judged(AXES["once"], "explicit")
        losses["naive"] = self.naive
        return {name: lambda each=each: self.step(each) for name, each in losses.items()}


def measure(steps: Steps, rounds: int) -> dict[str, Any]:
    times = Stopwatch(rounds=rounds).measure(steps.calls())
    plain = times["plain"].median_ms
    return {
        name: {"ms": round(t.median_ms, 1), "over plain": round(t.median_ms / plain, 3)}
        for name, t in times.items()
    }


def memory(steps: Steps) -> dict[str, Any]:
    """Peaks in bytes of forward and backward, gradients included, optimiser and averages not."""

    def peak(losses: Callable[[], None]) -> int:
        steps.optimisation.zero_grad()
        return peak_bytes(losses, torch.device("cpu"))

    once = AXES["once"]
    found = {
        "plain": peak(steps.plain),
        "once": peak(lambda: steps.judged(once)),
        "checkpointed": peak(lambda: steps.judged(once, checkpointing=True)),
        "naive": peak(steps.naive),
    }
    return {**found, "checkpointed over once": round(found["checkpointed"] / found["once"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="digits", help="whose model")
    parser.add_argument("--size", choices=["recipe", "tiny"], default="recipe")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = Steps(load_recipe(given.recipe, TINY if given.size == "tiny" else []), given.batch)
    found = {
        "samples": given.batch,
        "parameters": sum(p.numel() for p in steps.model.parameters()),
        "time": measure(steps, given.rounds),
        "memory_bytes": memory(steps),
    }
    if given.json:
        print(json.dumps(found))
        return
    for name, row in found["time"].items():
        print(f"{name:13} {row['ms']:8.1f} ms  {row['over plain']:6.3f} of plain")
    for name, value in found["memory_bytes"].items():
        print(f"{name:23} {value if value < 10 else f'{value / 2**20:.1f} MiB'}")


if __name__ == "__main__":
    main()
