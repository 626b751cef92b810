"""Running each image at a configuration of its own, for real: FFNs sliced, blocks not needed not run."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.inference.answers import Answers, Images, Indices, Piece, in_order
from adapcli.inference.execution import Run
from adapcli.inference.recalibrations import Recalibrations
from adapcli.inference.session import AnytimeSession
from adapcli.inference.waiting import Part, gather
from adapcli.model.flops import executed_flops, session_bytes, trunk_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration

Choose = Callable[[Tensor], Sequence[Configuration]]


def run_grouped(
    model: AdaPerceiver,
    x: Images,
    configurations: Sequence[Configuration],
    *,
    batch: int = 32,
    max_in_flight: int | None = None,
    recalibrations: Recalibrations | None = None,
) -> Answers:
    """Run image i at `configurations[i]`, in batches of images that go the same way; answers in their order.

    All images share the input stage, and those that differ only in depth the blocks they have in common.
    batch: images per step. max_in_flight: images under way at once, by default what fits 1 GiB.
    recalibrations: what logits become; none by default. UsageError unless there is one configuration per
    image, which the model can run.
    """
    given = iter(configurations)

    def next_ones(images: Tensor) -> list[Configuration]:
        return [configuration for _, configuration in zip(images, given, strict=False)]

    run = GroupedRun(
        model, x, next_ones, batch=batch, max_in_flight=max_in_flight, recalibrations=recalibrations
    )
    answers = in_order(run)
    if next(given, None) is not None:
        raise UsageError(f"{len(configurations)} configurations for {len(answers.configurations)} images")
    return answers


@dataclass(frozen=True)
class Goals:
    """Which of the configurations seen so far each of n samples is to reach, (n,)."""

    number: Indices

    def take(self, rows: Indices) -> "Goals":
        """See waiting.Notes."""
        return Goals(self.number[rows])

    @classmethod
    def join(cls, parts: "Sequence[Goals]") -> "Goals":
        """See waiting.Notes."""
        return cls(np.concatenate([part.number for part in parts]))


class Point(NamedTuple):
    """Where samples are: on the way through blocks of one width; depth 0: embedded, nothing read yet.

    width: of all blocks, or of each one that will run.
    """

    tokens: int
    width: int | tuple[int, ...]
    depth: int


class GroupedRun(Run[Goals]):
    """As `run_grouped`, a stream: iterating yields each Piece as soon as it is known."""

    def __init__(
        self,
        model: AdaPerceiver,
        x: Images,
        choose: Choose,
        *,
        batch: int = 32,
        max_in_flight: int | None = None,
        recalibrations: Recalibrations | None = None,
    ) -> None:
        """choose: given the next n images, on the model's device, n configurations."""
        self.choose, self._seen = choose, dict[Configuration, int]()
        self.recalibrations = recalibrations
        side = model.preprocessing.size
        embedded = session_bytes(model.config, model.config.space.cheapest, side)
        held = embedded + session_bytes(model.config, model.full_configuration, side, caches=False)
        super().__init__(model, x, batch=batch, max_in_flight=max_in_flight, sample_bytes=held)

    def admit(self, x: Tensor, index: Indices) -> Iterator[Piece]:
        """See Run: embed, and wait with those that read as many tokens at the same width."""
        chosen = list(self.choose(x))
        if len(chosen) != len(x):
            raise UsageError(f"{len(chosen)} configurations for {len(x)} images")
        for configuration in chosen:
            self.model.config.check(configuration)
        numbers = np.array([self._seen.setdefault(c, len(self._seen)) for c in chosen])
        session = AnytimeSession(
            self.model,
            x,
            width=self.model.config.widest,
            caches=False,
            recalibrations=self.recalibrations,
        )
        whole = Part.whole(session, index, Goals(numbers))
        starts = [Point(c.tokens, c.width, 0) for c in chosen]
        for point in dict.fromkeys(starts):
            rows = np.flatnonzero([start == point for start in starts])
            self.waiting.put(point, whole.take(rows), rank=0)
        yield from ()

    def advance(self, key: Hashable, part: Part[Goals]) -> Iterator[Piece]:
        """See Run: on to the first depth at which one of these is done."""
        assert isinstance(key, Point)
        known = list(self._seen)
        depths = np.array([known[number].depth for number in part.notes.number])
        reached = Point(key.tokens, key.width, int(depths.min()))
        if not key.depth:
            part.session.restart(width=key.width)
        part.session.extend(tokens=key.tokens, depth=reached.depth)
        done = np.flatnonzero(depths == reached.depth)
        yield self._answer(part.take(done), known[part.notes.number[done[0]]])
        rest = part.take(np.flatnonzero(depths > reached.depth))
        rank = trunk_flops(self.model.config, part.session.configuration)
        self.waiting.put(reached, rest, rank=rank)

    def _answer(self, part: Part[Goals], configuration: Configuration) -> Piece:
        session = gather([part]).session
        cost = executed_flops(self.model.config, configuration, session.image_size)
        reached = (configuration,) * len(part)
        return Piece(part.index, session.readout(), reached, np.full(len(part), cost, np.int64))
