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

from torch import Tensor

from adapcli.data.dataset import Batch
from adapcli.errors import AdapError, FileError
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast, resolve_dtype
from adapcli.training.journal import Journal
from adapcli.training.losses import Answer, Targets
from adapcli.training.objective import Losses, draw_passes, pass_losses
from adapcli.training.optimisation import Optimisation
from adapcli.training.schema import Recipe, Stage
from adapcli.training.state import TrainingState, read_state, write_state

Progress = Callable[[int, int, str], None]
Evaluate = Callable[[AdaPerceiver], dict[str, float]]
Teach = Callable[[Tensor], Answer]
Augmenting = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class Feed(Protocol):
    """Training samples by the number of their batch: always the same ones for the same number."""

    def batch(self, number: int) -> Batch:
        """The samples of batch `number`, from 0, endlessly."""
        ...


@dataclass
class Trainer:
    """One run of a recipe in `folder`: metrics.jsonl, state.pt while it runs.

    evaluate: gives named scores of the averaged model; called every `recipe.evaluate_every` steps. teach: the
    teacher's answer to images (B, channels, height, width). augment: images and labels (B,) of a batch by its
    number -> images and labels, then perhaps shares of classes (B, K). progress: called with (steps done,
    steps in all, a short text). seconds: time spent on `step` steps, before an interruption too.
    """

    recipe: Recipe
    model: AdaPerceiver
    data: Feed
    folder: Path
    evaluate: Evaluate
    teach: Teach = lambda images: Answer()
    augment: Augmenting = lambda images, labels, number: (images, labels)
    progress: Progress = lambda done, total, note: None
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.optimisation = Optimisation(self.model, self.recipe)
        self.journal = Journal(self.folder / "metrics.jsonl")

    @property
    def step(self) -> int:
        """Steps done."""
        return self.optimisation.steps

    def run(self, *, resume: bool = False) -> AdaPerceiver:
        """Train to the end and return the averaged model. AdapError if the loss stops being a number."""
        if resume and (self.folder / "state.pt").exists():
            self._restore(read_state(self.folder, self.recipe))
        else:
            # An earlier run's state must not be what an interrupted new one is resumed from.
            (self.folder / "state.pt").unlink(missing_ok=True)
            self.journal.truncate(0)
        self.model.train()
        begun = time.monotonic() - self.seconds
        recent: list[dict[str, float]] = []
        while self.step < self.recipe.total_steps:
            recent.append(self._one_step())
            self.seconds = time.monotonic() - begun
            self._keep_up(recent)
        return self.optimisation.averaged

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
                raise self._stopped(f"the loss became {values['loss']} at step {self.step}")
            (losses.total * share / recipe.accumulate).backward()  # type: ignore[no-untyped-call]
            sums = {name: sums.get(name, 0.0) + share * value for name, value in values.items()}
        return sums

    def _prepared(self, stage: Stage, number: int) -> tuple[Tensor, Targets]:
        """A batch, augmented, on the model's device, with what the teacher says of it."""
        batch, device = self.data.batch(number), self.model.device
        images, labels = self.augment(batch.images, batch.targets, number)
        images, labels = images.to(device), labels.to(device)
        taught = self.recipe.loss_of(stage).needs_teacher
        return images, Targets(labels, self.teach(images) if taught else Answer())

    def _stopped(self, message: str) -> AdapError:
        kept = (self.folder / "state.pt").exists()
        where = f"the last good state is in {self.folder}; " if kept else ""
        return AdapError(message, f"{where}try a lower learning rate")

    def _keep_up(self, recent: list[dict[str, float]]) -> None:
        """Log, evaluate and save, each at its own interval and at the end."""
        recipe, last = self.recipe, self.step == self.recipe.total_steps
        note = f"{recipe.stage_at(self.step - 1).name}, loss {recent[-1]['loss']:.3f}"
        self.progress(self.step, recipe.total_steps, note)
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
        self.journal.write({"step": self.step, "stage": stage, "learning_rate": rate, **values})

    def _save(self) -> None:
        parts: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimisation": self.optimisation.state_dict(),
            "seconds": self.seconds,
        }
        write_state(self.folder, TrainingState(self.step, self.recipe, parts))

    def _restore(self, state: TrainingState) -> None:
        try:
            self.model.load_state_dict(state.parts["model"])
            self.optimisation.load_state_dict(state.parts["optimisation"])
            self.seconds = float(state.parts["seconds"])
        except Exception as error:  # parts that do not fit fail anywhere in torch
            reason = (str(error).splitlines() or [""])[0][:200]
            raise FileError(
                f"{self.folder / 'state.pt'}: does not fit this model: {type(error).__name__}: {reason}",
                "start anew with --overwrite",
            ) from error
        self.journal.truncate(self.step)


def _values(losses: Losses) -> dict[str, float]:
    parts = {"token_loss": losses.token, "depth_loss": losses.depth, "feature_loss": losses.features}
    named = {"loss": losses.total, **parts}
    return {name: value.item() for name, value in named.items()}
