"""The training loop: deterministic by step, resumable bit for bit, and safe to interrupt at any moment.

Everything random in step i (samples, augmentation, widths, readout tokens) is drawn from (seed, i), so a
resumed run needs only weights, optimiser and step number to be equal to an uninterrupted one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from adapcli.data.dataset import Batch
from adapcli.errors import AdapError, FileError
from adapcli.model.checkpoint import save
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast, resolve_dtype
from adapcli.training.heartbeat import Heartbeat
from adapcli.training.interruption import Interruptions
from adapcli.training.journal import Journal
from adapcli.training.losses import Answer, Targets
from adapcli.training.objective import Losses, draw_passes, pass_losses
from adapcli.training.optimisation import Optimisation
from adapcli.training.origins import Origins, changed
from adapcli.training.schema import Recipe, Stage
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
        """The samples of batch `number`, from 0, endlessly."""
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
    is made from, which must still be so when it is resumed. seconds: time spent on `step`
    steps, before an interruption too.
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
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.optimisation = Optimisation(self.model, self.recipe)
        self.journal = Journal(self.folder / "metrics.jsonl")
        self.heartbeat = Heartbeat(self.folder / "heartbeat.json", self.recipe.total_steps)
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
                self.recent.append(self._one_step())
                self.seconds = time.monotonic() - begun
                self._keep_up(self.recent)
                if interruptions.asked is not None:
                    self._save()
                    self.heartbeat.write("interrupted")
                    interruptions.act()
        self.heartbeat.write("finished")
        return self.optimisation.averaged

    def _begin(self, *, resume: bool) -> None:
        if resume and (self.folder / STATE).exists():
            self._restore(read_state(self.folder, self.recipe))
            return
        for name in (STATE, LAST, self.heartbeat.path.name):
            # An earlier run's state must not be what an interrupted new one is resumed from.
            (self.folder / name).unlink(missing_ok=True)
        self.journal.truncate(0)

    def _one_step(self) -> dict[str, float]:
        stage, n = self.recipe.stage_at(self.step), self.recipe.accumulate
        self.optimisation.zero_grad()
        sums: dict[str, float] = {}
        for number in range(self.step * n, (self.step + 1) * n):
            for name, value in self._backward(stage, number).items():
                sums[name] = sums.get(name, 0.0) + value / n
        try:
            sums["gradient_norm"] = self.optimisation.step()
        except AdapError as error:
            raise self._stopped(error.message) from error
        return sums

    def _backward(self, stage: Stage, number: int) -> dict[str, float]:
        """Gradients of one batch, a pass at a time; mean losses."""
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
            with autocast(self.model.device, resolve_dtype(recipe.dtype, self.model.device)):
                losses = pass_losses(
                    self.model,
                    images,
                    targets,
                    chosen,
                    recipe.loss_of(stage),
                    recipe.readouts_of(stage),
                    checkpointing=recipe.checkpointing,
                )
            values = _values(losses)
            if not math.isfinite(values["loss"]):
                raise self._stopped(f"the loss became {values['loss']} at step {self.step}", images)
            (losses.total * share / recipe.accumulate).backward()  # type: ignore[no-untyped-call]
            sums = {name: sums.get(name, 0.0) + share * value for name, value in values.items()}
        return sums

    def _prepared(self, stage: Stage, number: int) -> tuple[Tensor, Targets]:
        """A batch, augmented, on the model's device, with what the teacher says of it."""
        batch, device = self.data.batch(number), self.model.device
        images, labels = self.augment(batch.images.to(device), batch.targets.to(device), number)
        if not self.recipe.loss_of(stage).needs_teacher:
            return images, Targets(labels)
        in_place = self.recipe.in_place
        return images, Targets(labels, Answer() if in_place else self.teach(images), in_place)

    def _stopped(self, message: str, images: Tensor | None = None) -> AdapError:
        """The error that ends the run; the state before the step is kept, if none was saved so far."""
        if not (self.folder / STATE).exists() and self._finite():
            self._save()
        self.heartbeat.write("failed")
        bad_data = images is not None and not bool(images.isfinite().all())
        try_this = "images of this step hold no numbers" if bad_data else "try a lower learning rate"
        kept = f"the last good state is in {self.folder}, its weights in {LAST}; "
        return AdapError(message, (kept if (self.folder / STATE).exists() else "") + try_this)

    def _finite(self) -> bool:
        """Whether all weights are numbers, those trained and their averages."""
        tensors = [*self.model.state_dict().values(), *self.optimisation.averaged.state_dict().values()]
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
        self.journal.write(line)
        self.watch(line)

    def _save(self) -> None:
        """Replace state and weights, each whole; AdapError, and nothing replaced, if they are no numbers."""
        if not self._finite():
            raise self._stopped(f"weights are no longer numbers at step {self.step}")
        parts: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimisation": self.optimisation.state_dict(),
            "seconds": self.seconds,
            "recent": list(self.recent),
            "origins": self.origins,
        }
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
            self.model.load_state_dict(state.parts["model"])
            self.optimisation.load_state_dict(state.parts["optimisation"])
            self.seconds = float(state.parts["seconds"])
            self.recent = [dict(losses) for losses in state.parts["recent"]]
        except Exception as error:  # parts that do not fit fail anywhere in torch
            reason = (str(error).splitlines() or [""])[0][:200]
            raise FileError(
                f"{self.folder / STATE}: does not fit this model: {type(error).__name__}: {reason}",
                "start anew with --overwrite",
            ) from error
        self.journal.truncate(self.step)


def _values(losses: Losses) -> dict[str, float]:
    parts = {"token_loss": losses.token, "depth_loss": losses.depth, "feature_loss": losses.features}
    named = {"loss": losses.total, **parts}
    return {name: value.item() for name, value in named.items()}
