"""The training loop: deterministic by step, resumable bit for bit, and safe to interrupt at any moment.

Everything random in step i (samples, augmentation, widths, readout tokens) is drawn from (seed, i), so a
resumed run needs only weights, optimiser and step number to be equal to an uninterrupted one.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from adapcli.data.dataset import Batch
from adapcli.distributed.group import ALONE, Group
from adapcli.distributed.launch import LostError
from adapcli.distributed.parts import in_parts
from adapcli.errors import AdapError, FileError
from adapcli.model.checkpoint import save
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast, resolve_dtype
from adapcli.training.engine import open_engine
from adapcli.training.heartbeat import Heartbeat
from adapcli.training.interruption import Interruptions
from adapcli.training.journal import Journal
from adapcli.training.losses import Answer, Targets
from adapcli.training.objective import Losses, draw_passes
from adapcli.training.optimisation import Optimisation
from adapcli.training.origins import Origins, changed
from adapcli.training.schema import Augment, Recipe, Stage
from adapcli.training.state import TrainingState, read_state, write_state

Progress = Callable[[int, int, str], None]
Evaluate = Callable[[AdaPerceiver], dict[str, float]]
Teach = Callable[[Tensor], Answer]
Augmenting = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
Watch = Callable[[dict[str, Any]], None]

STATE, LAST = "state.pt", "last.pt"


class Feed(Protocol):
    """Training samples by the number of their batch: always the same ones for the same number."""

    def batch(self, number: int) -> Batch:
        """The samples of batch `number`, from 0, endlessly; of several processes, this one's part of it."""
        ...


@dataclass
class Trainer:
    """One run of a recipe in `folder`.

    metrics.jsonl: losses and scores; state.pt: what it is resumed from; last.pt: the averaged weights at that
    step, a checkpoint like any other; heartbeat.json: where it stands. State and weights hold finite numbers
    only. Ctrl-C and SIGTERM wait for the step to end and for the state to be saved; a second one does not.

    evaluate: gives named scores of the averaged model; called every `recipe.evaluate_every` steps. teach: the
    teacher's answer to images (B, channels, height, width). augment: images and labels (B,) of a batch by its
    number -> images and labels, then perhaps shares of classes (B, K). progress: called with (steps done,
    steps in all, a short text). watch: called with every line of the journal. origins: what the run
    is made from, which must still be so when it is resumed. seconds, skipped: time spent, and data that
    cannot be read, in `step` steps, before an interruption too. group: the processes that train together;
    the first one writes and is told. parallel: how, if they are several.
    """

    recipe: Recipe
    model: AdaPerceiver
    data: Feed
    folder: Path
    evaluate: Evaluate
    teach: Teach = lambda images: Answer()
    augment: Augmenting = lambda images, labels, number: (images, labels)
    progress: Progress = lambda done, total, note: None
    watch: Watch = lambda line: None
    origins: Origins = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    group: Group = ALONE
    parallel: str = "ddp"
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.engine = open_engine(self.recipe, self.group, self.parallel)
        self.optimisation = Optimisation(self.model, self.recipe, self.engine.begin)
        self.journal = Journal(self.folder / "metrics.jsonl")
        self.heartbeat = Heartbeat(
            self.folder / "heartbeat.json", self.recipe.total_steps, silent=not self.group.first
        )
        self.recent: list[dict[str, float]] = []

    @property
    def step(self) -> int:
        """Steps done."""
        return self.optimisation.steps

    def run(self, *, resume: bool = False) -> AdaPerceiver:
        """Train to the end and return the averaged model. AdapError if the loss stops being a number."""
        self._begin(resume=resume)
        self.model.train()
        begun = time.monotonic() - self.seconds
        with Interruptions() as interruptions:
            while self.step < self.recipe.total_steps:
                with self._surviving():
                    self.recent.append(self.one_step())
                self.seconds = time.monotonic() - begun
                self._keep_up(self.recent)
                with self._surviving():
                    asked = self.group.largest(interruptions.asked or 0)
                if asked:
                    self._save()
                    self.heartbeat.write("interrupted")
                    interruptions.act(asked)
        self.heartbeat.write("finished")
        return self.optimisation.averaged

    def _begin(self, *, resume: bool) -> None:
        going_on = resume and (self.folder / STATE).exists()
        if going_on:
            self._restore(read_state(self.folder, self.recipe))
        self.group.agree([going_on, self.step], f"the state in {self.folder}")
        if going_on or not self.group.first:
            return
        for name in (STATE, LAST, self.heartbeat.path.name):
            # An earlier run's state must not be what an interrupted new one is resumed from.
            (self.folder / name).unlink(missing_ok=True)
        self.journal.truncate(0)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Where another process may end: the state after the last whole step is then saved."""
        try:
            yield
        except LostError as error:
            if self.engine.survives and self.group.first:
                self._save()
                error.hint = f"step {self.step} is saved: {error.hint}"
            self.heartbeat.write("failed")
            raise

    def one_step(self) -> dict[str, float]:
        """Do one step; the mean of each part of the loss over its batches, and the gradients' norm."""
        stage, n = self.recipe.stage_at(self.step), self.recipe.accumulate
        self.optimisation.zero_grad()
        sums: dict[str, float] = {}
        numbers = range(self.step * n, (self.step + 1) * n)
        for number in numbers:
            for name, value in self._backward(stage, number, last=number == numbers[-1]).items():
                sums[name] = sums.get(name, 0.0) + value / n
        try:
            with self.group.exchanging():
                sums["gradient_norm"] = self.optimisation.step()
        except AdapError as error:
            raise self._stopped(error.message) from error
        return sums

    def _backward(self, stage: Stage, number: int, *, last: bool) -> dict[str, float]:
        """Gradients of one batch, a pass at a time; mean losses. last: of the step."""
        recipe = self.recipe
        passes = draw_passes(
            self.model.config,
            stage,
            recipe.readouts_of(stage),
            recipe.batch,
            seed=recipe.seed,
            number=number,
        )
        images, targets = self._prepared(stage, number)
        share = 1 / len(passes)
        sums: dict[str, float] = {}
        for chosen in passes:
            with self.engine.gradients(last=last and chosen is passes[-1]):
                with autocast(self.model.device, resolve_dtype(recipe.dtype, self.model.device)):
                    losses = self.engine.losses(
                        images, targets, chosen, recipe.loss_of(stage), recipe.readouts_of(stage)
                    )
                values = self._values(losses)
                if not math.isfinite(values["loss"]):
                    raise self._stopped(f"the loss became {values['loss']} at step {self.step}", images)
                mine = self.engine.share()
                (losses.total * share / recipe.accumulate * mine).backward()  # type: ignore[no-untyped-call]
            sums = {name: sums.get(name, 0.0) + share * value for name, value in values.items()}
        return sums

    def _as_held(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole weights in parts where the model is; what is of no model is left for torch to refuse."""
        held = self.model.state_dict()
        return {name: in_parts(value, held.get(name, value)) for name, value in weights.items()}

    def _values(self, losses: Losses) -> dict[str, float]:
        """The losses as numbers: means over the samples of all processes."""
        parts = {"token_loss": losses.token, "depth_loss": losses.depth, "feature_loss": losses.features}
        named = {"loss": losses.total, **parts}
        values = {name: value.item() for name, value in named.items()}
        if self.group.size == 1:
            return values
        mine = torch.tensor(list(values.values()), dtype=torch.float64) * self.engine.share()
        return dict(zip(values, (self.group.sum(mine) / self.group.size).tolist(), strict=True))

    def _prepared(self, stage: Stage, number: int) -> tuple[Tensor, Targets]:
        """A batch, augmented, on the model's device, with what the teacher says of it."""
        batch, device = self.data.batch(number), self.model.device
        images, labels = self._augmented(batch.images.to(device), batch.targets.to(device), number)
        if not self.recipe.loss_of(stage).needs_teacher:
            return images, Targets(labels, total=self.group.total)
        in_place = self.recipe.in_place
        taught = Answer() if in_place else self.teach(images)
        return images, Targets(labels, taught, in_place, self.group.total)

    def _augmented(self, images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Of the whole batch, across which samples mix: several processes put it together first."""
        if self.group.size == 1 or self.recipe.augment == Augment():
            return self.augment(images, labels, number)
        total = self.recipe.batch
        whole = self.augment(self.group.whole(images, total), self.group.whole(labels, total), number)
        rows = self.group.rows(total)
        return whole[0][rows.start : rows.stop], whole[1][rows.start : rows.stop]

    def _stopped(self, message: str, images: Tensor | None = None) -> AdapError:
        """The error that ends the run; the state before the step is kept, if none was saved so far."""
        if not self.group.largest((self.folder / STATE).exists()) and self._finite():
            self._save()
        self.heartbeat.write("failed")
        bad_data = images is not None and not bool(images.isfinite().all())
        try_this = "images of this step hold no numbers" if bad_data else "try a lower learning rate"
        kept = f"the last good state is in {self.folder}, its weights in {LAST}; "
        return AdapError(message, (kept if (self.folder / STATE).exists() else "") + try_this)

    def _finite(self) -> bool:
        """Whether all weights are numbers, those trained and their averages."""
        held = self.engine.whole(self.model.state_dict())
        tensors = [*held.values(), *self.optimisation.averaged.state_dict().values()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def _keep_up(self, recent: list[dict[str, float]]) -> None:
        """Log, evaluate and save, each at its own interval and at the end."""
        recipe, last = self.recipe, self.step == self.recipe.total_steps
        stage, loss = recipe.stage_at(self.step - 1).name, recent[-1]["loss"]
        self.heartbeat.beat(self.step, stage, loss)
        rate = self.heartbeat.rate
        pace = "" if rate is None else f", {rate:.3g} steps/s"
        self.progress(self.step, recipe.total_steps, f"{stage}, loss {loss:.3f}{pace}")
        if self.step % recipe.log_every == 0 or last:
            self._log({name: sum(r[name] for r in recent) / len(recent) for name in recent[0]})
            recent.clear()
        if self.step % recipe.evaluate_every == 0 or last:
            self._log(self.evaluate(self.optimisation.averaged))
        if self.step % recipe.save_every == 0 or last:
            self._save()

    def _log(self, values: dict[str, float]) -> None:
        stage = self.recipe.stage_at(self.step - 1).name
        rate = self.optimisation.learning_rate
        line = {"step": self.step, "stage": stage, "learning_rate": rate, **values}
        if not self.group.first:
            return
        self.journal.write(line)
        self.watch(line)

    def _save(self) -> None:
        """Replace state and weights, each whole; AdapError, and nothing replaced, if they are no numbers."""
        if not self._finite():
            raise self._stopped(f"weights are no longer numbers at step {self.step}")
        parts: dict[str, Any] = {
            "model": self.engine.whole(self.model.state_dict()),
            "optimisation": self.engine.whole(self.optimisation.state_dict()),
            "seconds": self.seconds,
            "recent": list(self.recent),
            "origins": self.origins,
            "skipped": dict(self.skipped),
        }
        if self.group.first:
            write_state(self.folder, TrainingState(self.step, self.recipe, parts))
            save(self.optimisation.averaged, self.folder / LAST)
        self.heartbeat.saved = self.step

    def _restore(self, state: TrainingState) -> None:
        others = changed(state.parts.get("origins", {}), self.origins)
        if others:
            raise FileError(
                f"{self.folder / STATE}: made from another {' and '.join(others)} than there is now",
                "start anew with --overwrite",
            )
        try:
            self.model.load_state_dict(self._as_held(state.parts["model"]))
            self.optimisation.load_state_dict(state.parts["optimisation"])
            self.seconds = float(state.parts["seconds"])
            self.recent = [dict(losses) for losses in state.parts["recent"]]
            self.skipped.update(state.parts.get("skipped", {}))
        except Exception as error:  # parts that do not fit fail anywhere in torch
            reason = (str(error).splitlines() or [""])[0][:200]
            raise FileError(
                f"{self.folder / STATE}: does not fit this model: {type(error).__name__}: {reason}",
                "start anew with --overwrite",
            ) from error
        if self.group.first:
            self.journal.truncate(self.step)
