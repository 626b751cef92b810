"""From pictures to predictions: read ahead, batched, run at one configuration or as a policy decides."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.dataset import Skipped
from adapcli.data.pictures import Picture
from adapcli.errors import FileError, InfeasibleError, UsageError
from adapcli.evaluation.dense.passes import MAP_BYTES, map_bytes
from adapcli.evaluation.dense.task import DenseTask
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.inference.answers import Piece
from adapcli.inference.anytime import AnytimeRun
from adapcli.inference.choosing import Choosing
from adapcli.inference.grouped import GroupedRun
from adapcli.inference.recalibrations import Recalibrations
from adapcli.model.flops import executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast
from adapcli.space import Configuration
from policies.live import Chooser, Stopper

WINDOW, WINDOW_BATCHES = 4096, 64
"""Pictures that run without a pause, at least so many and so many batches: late steps stay full."""

WINDOW_BYTES = 1 << 28
"""Of maps that wait for those before them, at most; one batch may hold MAP_BYTES more."""

T = TypeVar("T")

How = Configuration | Stopper | Chooser
"""One configuration for all pictures, or what decides for each."""


@dataclass(frozen=True)
class Prediction:
    """A picture's answer. classes, confidences: the most likely ones, best first; of equals the lower number.

    drawn: of a dense model its map in place of classes, (H, W) classes or metres, or
    offsets (2, H, W), of what the model saw;
    confidences are then signals of the map, `DenseTask.told`.

    configuration: the one whose answer it is; cost_flops: everything executed for it, with features, the
    policy's own computation and every readout.
    """

    path: str
    classes: tuple[int, ...]
    confidences: tuple[float, ...]
    configuration: Configuration
    cost_flops: int
    drawn: NDArray[Any] | None = None


@dataclass
class Tally:
    """What happened so far.

    skipped: pictures that could not be read; cost_flops, confidence: sums over the predictions; near:
    decisions that the last digits could have changed; over_budget: pictures that would have run more but for
    the budget; transparent: pictures of which pixels were composited; seconds: from the first picture asked
    for to the last answer; waiting_s: of these, waiting for pictures to be read.
    """

    skipped: list[Skipped] = field(default_factory=list)
    configurations: Counter[Configuration] = field(default_factory=Counter)
    cost_flops: int = 0
    confidence: float = 0.0
    near: int = 0
    over_budget: int = 0
    transparent: int = 0
    seconds: float = 0.0
    waiting_s: float = 0.0

    @property
    def predicted(self) -> int:
        """How many pictures have been answered."""
        return self.configurations.total()

    def add(self, prediction: Prediction) -> None:
        """Count one more."""
        self.configurations[prediction.configuration] += 1
        self.cost_flops += prediction.cost_flops
        self.confidence += prediction.confidences[0]


class Predictor:
    """Iterating yields a Prediction per readable picture, in their order, and keeps `tally`.

    A stream without end is run window by window: at most `max_in_flight` pictures and the answers of one
    window are held at once.
    """

    def __init__(
        self,
        model: AdaPerceiver,
        pictures: Iterable[Picture],
        how: How,
        *,
        top: int = 1,
        batch: int = 32,
        max_in_flight: int | None = None,
        max_flops: float | None = None,
        dtype: torch.dtype = torch.float32,
        recalibrations: Recalibrations | None = None,
    ) -> None:
        """top: classes to tell of each; batch, max_in_flight: as in `run_anytime`; max_flops: per picture.

        recalibrations: what a configuration's logits become; a policy brings its own.

        Raises FileError for a model that neither names classes nor draws maps, and for features that pictures
        do not have; UsageError for a `how` that the model cannot run and a `top` beyond its classes;
        InfeasibleError for a budget below the configuration. A policy's budget shows when it runs.
        """
        _check(model, how, top)
        self.model, self.how, self.top, self.tally = model, how, top, Tally()
        side, self._most_waiting = model.preprocessing.size, max(WINDOW // batch, WINDOW_BATCHES)
        self._task = dense_task(model.config, side) if model.config.is_dense else None
        if self._task is not None:
            batch = max(1, min(batch, MAP_BYTES // map_bytes(model.config, (side, side))))
            self._most_waiting = max(1, min(self._most_waiting, WINDOW_BYTES // (8 * batch * side**2)))
        self._limits: dict[str, Any] = {"batch": batch, "max_in_flight": max_in_flight}
        self._budget, self._dtype = max_flops, dtype
        self._images = self._stacked(pictures, min(batch, max_in_flight or batch))
        self._paths: deque[str] = deque()
        self._choosing: Choosing | None = None
        self._recalibrations = recalibrations
        if isinstance(how, Configuration):
            _check_budget(executed_flops(model.config, how, side), max_flops)
        elif not isinstance(how, Stopper):
            self._choosing = Choosing(model, how, max_flops=max_flops)
            self._recalibrations = self._choosing.recalibrations
        self._deciding_flops = self._choosing.own_flops((side, side)) if self._choosing else 0

    def __iter__(self) -> Iterator[Prediction]:
        began = time.perf_counter()
        while (first := next(self._images, None)) is not None:
            window = chain([first], islice(self._images, self._most_waiting - 1))
            for prediction in self._window(window):
                self.tally.seconds = time.perf_counter() - began
                self.tally.add(prediction)
                yield prediction

    def _window(self, images: Iterable[Tensor]) -> Iterator[Prediction]:
        """The pictures of a window, in order: answers wait for those before them."""
        run, ready, number = self._run(images), dict[int, Prediction](), 0
        near, over = self.tally.near, self.tally.over_budget
        for piece in _each_within(partial(autocast, self.model.device, self._dtype), iter(run)):
            ready.update(self._predictions(piece) if self._task is None else self._maps(piece, self._task))
            if isinstance(run, AnytimeRun):
                self.tally.near, self.tally.over_budget = near + run.near, over + run.over_budget
            while number in ready:
                yield replace(ready.pop(number), path=self._paths.popleft())
                number += 1

    def _run(self, images: Iterable[Tensor]) -> AnytimeRun | GroupedRun:
        if isinstance(self.how, Stopper):
            return AnytimeRun(self.model, images, self.how, max_flops=self._budget, **self._limits)
        return GroupedRun(
            self.model, images, self._choose, recalibrations=self._recalibrations, **self._limits
        )

    def _choose(self, images: Tensor) -> Sequence[Configuration]:
        if isinstance(self.how, Configuration):
            return [self.how] * len(images)
        assert self._choosing is not None
        chosen = self._choosing(images)
        self.tally.over_budget = self._choosing.over_budget
        return chosen

    def _predictions(self, piece: Piece) -> Iterator[tuple[int, Prediction]]:
        """Each answer with its place in the window; its path is not known here."""
        assert piece.output.logits is not None
        logits = piece.output.logits.double()
        classes = logits.sort(dim=-1, descending=True, stable=True).indices[:, : self.top]
        confidences = logits.softmax(dim=-1).gather(-1, classes)
        columns = (piece.index, classes, confidences, piece.cost_flops + self._deciding_flops)
        for row in zip(*(column.tolist() for column in columns), piece.configurations, strict=True):
            number, found, sure, cost, configuration = row
            yield number, Prediction("", tuple(found), tuple(sure), configuration, cost)

    def _maps(self, piece: Piece, task: DenseTask) -> Iterator[tuple[int, Prediction]]:
        """Each map with its place in the window; its path is not known here."""
        assert piece.output.maps is not None
        assert piece.output.coarse is not None
        answers = task.answers(piece.output.maps)
        small = answers.to(torch.int32) if not answers.is_floating_point() else answers.float()
        shown = [task.signal_names.index(name) for name in task.told]
        sure = task.signals(piece.output.coarse)[:, shown].tolist()
        columns = (piece.index.tolist(), sure, piece.configurations, piece.cost_flops + self._deciding_flops)
        for drawn, (number, told, c, cost) in zip(
            small.cpu().numpy(), zip(*columns, strict=True), strict=True
        ):
            yield number, Prediction("", (), tuple(told), c, int(cost), drawn)

    def _stacked(self, pictures: Iterable[Picture], size: int) -> Iterator[Tensor]:
        """Readable pictures, `size` at a time; their paths wait for their answers."""
        images: list[Tensor] = []
        for picture in self._timed(iter(pictures)):
            if picture.image is None:
                self.tally.skipped.append(Skipped(picture.path, picture.reason))
                continue
            self.tally.transparent += picture.transparent
            images.append(picture.image)
            self._paths.append(picture.path)
            if len(images) == size:
                yield torch.stack(images)
                images = []
        if images:
            yield torch.stack(images)

    def _timed(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        while True:
            asked = time.perf_counter()
            picture = next(pictures, None)
            self.tally.waiting_s += time.perf_counter() - asked
            if picture is None:
                return
            yield picture


def _check(model: AdaPerceiver, how: object, top: int) -> None:
    config = model.config
    if not (config.classifies or config.is_dense):
        raise FileError(f"this checkpoint is for {config.task}", "predict tells classes and draws maps")
    if config.is_dense and top > 1:
        raise UsageError(f"top {top}: a {config.task} model draws maps")
    if config.classifies and not 1 <= top <= (config.num_classes or 0):
        raise UsageError(f"top {top}: expected 1 to {config.num_classes}, the model's classes")
    if isinstance(how, Configuration):
        config.check(how)
    elif not isinstance(how, Stopper | Chooser):
        name = getattr(how, "name", type(how).__name__)
        raise UsageError(f"policy {name} cannot run on pictures", "it needs the rows of an outcome table")


def _check_budget(cost_flops: int, max_flops: float | None) -> None:
    if max_flops is not None and cost_flops > max_flops:
        raise InfeasibleError(
            f"budget of {max_flops:.4g} FLOPs: the configuration costs {cost_flops:.4g}",
            "choose a cheaper one, or a policy",
        )


def _each_within(context: Callable[[], AbstractContextManager[object]], items: Iterator[T]) -> Iterator[T]:
    """The items, each made within a context of its own: what is done with them is outside."""
    while True:
        with context():
            item = next(items, None)
        if item is None:
            return
        yield item
