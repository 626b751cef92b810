"""Stopping per sample, for real: each image runs on until a stopping rule is content with its answer."""

import math
from collections.abc import Hashable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from adapcli.errors import InfeasibleError, UsageError
from adapcli.evaluation.readouts import ReadoutSignals
from adapcli.inference.answers import Answers, Images, Indices, Piece, in_order, rows_of
from adapcli.inference.execution import Run
from adapcli.inference.positions import configuration_at
from adapcli.inference.recalibrations import Recalibrations
from adapcli.inference.session import AnytimeSession
from adapcli.inference.waiting import Part
from adapcli.model.flops import continues, executed_flops, increments, session_bytes, trunk_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from policies.live import Looks, Stopper

NEAR = 1e-4
"""Batch-mates change a signal by less."""


def run_anytime(
    model: AdaPerceiver,
    x: Images,
    stopper: Stopper,
    *,
    batch: int = 32,
    max_in_flight: int | None = None,
    max_flops: float | None = None,
    near: float = NEAR,
) -> Answers:
    """Run every image for as long as `stopper` wants, at most `max_flops` each; answers in their order.

    batch: samples per step. max_in_flight: samples under way at once, by default what fits 1 GiB; with no
    more than `batch` the next are admitted only when all before are done. near: decisions with less slack
    are counted. A recalibration of the stopper's grid is applied to every readout. The model should be in
    evaluation mode. Raises UsageError for a model whose answers have no
    signals or a stopper for another grid, InfeasibleError for a budget below the first readout.
    """
    run = AnytimeRun(
        model, x, stopper, batch=batch, max_in_flight=max_in_flight, max_flops=max_flops, near=near
    )
    return replace(in_order(run), near=run.near, over_budget=run.over_budget)


class AnytimeRun(Run[Looks]):
    """As `run_anytime`, a stream: iterating yields each Piece as soon as it is known.

    near, over_budget: as in Answers, of the decisions so far.
    """

    def __init__(
        self,
        model: AdaPerceiver,
        x: Images,
        stopper: Stopper,
        *,
        batch: int = 32,
        max_in_flight: int | None = None,
        max_flops: float | None = None,
        near: float = NEAR,
    ) -> None:
        if max_flops is not None and math.isnan(max_flops):
            raise UsageError(f"max_flops {max_flops}: expected a number of FLOPs")
        self.stopper, self.paths, self.signals = stopper, Paths(model, stopper), ReadoutSignals(model)
        self.recalibrations = Recalibrations.of(stopper.grid, model)
        self.budget, self.tolerance = np.inf if max_flops is None else max_flops, near
        self.near = self.over_budget = 0
        held = self.paths.sample_bytes
        super().__init__(model, x, batch=batch, max_in_flight=max_in_flight, sample_bytes=held)

    def admit(self, x: Tensor, index: Indices) -> Iterator[Piece]:
        """See Run: the first configuration, for all."""
        at = self.paths.first
        begin, size = self.paths[at], (x.shape[2], x.shape[3])
        cost = self.paths.first_cost(size)
        if cost > self.budget:
            raise InfeasibleError(
                f"budget of {self.budget:.4g} FLOPs: the first readout, {begin}, costs {cost:.4g}"
            )
        session = AnytimeSession(
            self.model,
            x,
            width=begin.width,
            caches=self.paths.caches,
            recalibrations=self.recalibrations,
        )
        session.extend(tokens=begin.tokens, depth=begin.depth)
        yield from self._look(session, index, at, np.full(len(x), cost, np.float64), None)

    def advance(self, key: Hashable, part: Part[Looks]) -> Iterator[Piece]:
        """See Run: what waited goes from one configuration to another."""
        assert isinstance(key, Step)
        goal = self.paths[key.go_to]
        if not continues(self.model.config, self.paths[key.at], goal):
            part.session.restart(width=goal.width, tokens=goal.tokens)
        part.session.extend(tokens=goal.tokens, depth=goal.depth)
        cost = part.notes.cost_flops + self.paths.step_cost(key, part.session.image_size)
        yield from self._look(part.session, part.index, key.go_to, cost, part.notes)

    def _look(
        self, session: AnytimeSession, index: Indices, at: int, cost: Any, before: Looks | None
    ) -> Iterator[Piece]:
        """Read out, decide, and part: those that stop are answered, the others wait for their next step."""
        output = session.readout()
        seen = self.signals(output).cpu().numpy()  # the one wait for the device in a step
        names = self.signals.names
        looks = Looks.first(names, at, seen, cost) if before is None else before.then(at, seen, cost)
        go_to = self._decide(looks, session.image_size)
        stops = np.flatnonzero(go_to == at)
        if len(stops):
            reached = (self.paths[at],) * len(stops)
            paid = looks.cost_flops[stops].astype(np.int64)
            yield Piece(index[stops], rows_of(output, stops), reached, paid)
        whole = Part.whole(session, index, looks)
        for goal in sorted(set(go_to.tolist()) - {at}):
            going = whole.take(np.flatnonzero(go_to == goal))
            self.waiting.put(Step(at, goal), going, rank=self.paths.rank(at))

    def _decide(self, looks: Looks, size: tuple[int, int]) -> Indices:
        """Where each sample goes on to, within the budget."""
        verdict = self.stopper.verdict(looks)
        at, go_to = int(looks.at[0]), verdict.go_to.copy()
        self.near += int((verdict.slack < self.tolerance).sum())
        for goal in set(go_to.tolist()) - {at}:
            if goal not in self.paths:
                raise UsageError(f"the stopper goes to configuration {goal}, which it did not announce")
            dear = looks.cost_flops + self.paths.step_cost(Step(at, goal), size) > self.budget
            self.over_budget += int((dear & (go_to == goal)).sum())
            go_to[dear & (go_to == goal)] = at
        return go_to


class Step(NamedTuple):
    """From one position in the grid to another."""

    at: int
    go_to: int


class Paths:
    """The configurations that a stopper may lead a model to, by position in its grid, and what steps cost."""

    def __init__(self, model: AdaPerceiver, stopper: Stopper) -> None:
        """UsageError for configurations that the model cannot run."""
        self.config, self.own_flops, reachable = model.config, stopper.own_flops, stopper.reachable()
        self.look_flops: int = getattr(stopper, "look_flops", 0)
        self.first, self.side = reachable[0], model.preprocessing.size
        self._at = {at: configuration_at(stopper.grid, at) for at in reachable}
        for configuration in self._at.values():
            model.config.check(configuration)
        self.caches = self._needs_caches()
        self._costs: dict[tuple[Step, tuple[int, int]], int] = {}

    def _needs_caches(self) -> bool:
        """Unless all it can do is go deeper: only the depths differ, each more than the one before."""
        return any(
            (a.tokens, a.width) != (b.tokens, b.width) or b.depth < a.depth
            for a, b in pairwise(self._at.values())
        )

    def __contains__(self, at: int) -> bool:
        return at in self._at

    def __getitem__(self, at: int) -> Configuration:
        return self._at[at]

    @property
    def sample_bytes(self) -> int:
        """What a sample under way holds, at most."""
        return max(session_bytes(self.config, c, self.side, caches=self.caches) for c in self._at.values())

    def rank(self, at: int) -> float:
        """How far on a sample is."""
        return trunk_flops(self.config, self._at[at])

    def first_cost(self, size: tuple[int, int]) -> int:
        """Up to and with the first readout, on an image of `size`, and the stopper's own computation."""
        return executed_flops(self.config, self._at[self.first], size) + self.own_flops

    def step_cost(self, step: Step, size: tuple[int, int]) -> int:
        """What the step executes, with its readout and the stopper's look at it."""
        key = step, size
        if key not in self._costs:
            between = increments(self.config, [self._at[step.at], self._at[step.go_to]], size)
            self._costs[key] = int(between[0, 1]) + self.look_flops
        return self._costs[key]
