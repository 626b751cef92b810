"""The training loop: deterministic by step, resumable bit for bit, and safe to interrupt at any moment.

Everything random in step i (scenes, widths, readout tokens) is drawn from (seed, i), so a resumed run needs
only weights, optimiser and step number to be equal to an uninterrupted one.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from adapcli.data.dataset import Dataset
from adapcli.errors import AdapError, FileError
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.losses import Draw, Losses, depth_weights, step_losses
from adapcli.training.recipe import Optimiser, Recipe, Stage
from adapcli.training.state import TrainingState, read_state, write_state
from policies.files import write_text

Progress = Callable[[int, int, str], None]
Evaluate = Callable[[AdaPerceiver], dict[str, float]]


@dataclass
class Trainer:
    """One run of a recipe in `folder`: metrics.jsonl, state.pt while it runs.

    evaluate: gives named scores of the averaged model; called every `recipe.evaluate_every` steps.
    progress: called with (steps done, steps in all, a short text). seconds: time spent on `step` steps,
    before an interruption too.
    """

    recipe: Recipe
    model: AdaPerceiver
    data: Dataset
    folder: Path
    evaluate: Evaluate
    progress: Progress = lambda done, total, note: None
    step: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        options = self.recipe.optimiser
        self.averaged = AveragedModel(
            self.model,
            multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay),  # type: ignore[no-untyped-call]
        )
        self.optimiser = AdamW(
            parameter_groups(self.model, options.weight_decay), lr=options.learning_rate, betas=options.betas
        )
        self.schedule = LambdaLR(self.optimiser, lambda step: learning_rate_share(step, self.recipe))

    def run(self, *, resume: bool = False) -> AdaPerceiver:
        """Train to the end and return the averaged model. AdapError if the loss stops being a number."""
        if resume and (self.folder / "state.pt").exists():
            self._restore(read_state(self.folder, self.recipe))
        else:
            # An earlier run's state must not be what an interrupted new one is resumed from.
            (self.folder / "state.pt").unlink(missing_ok=True)
            _truncate_metrics(self.folder / "metrics.jsonl", 0)
        self.model.train()
        begun = time.monotonic() - self.seconds
        recent: list[dict[str, float]] = []
        while self.step < self.recipe.total_steps:
            recent.append(self._one_step())
            self.seconds = time.monotonic() - begun
            self._keep_up(recent)
        return self._averaged_model()

    def _one_step(self) -> dict[str, float]:
        stage = self.recipe.stage_at(self.step)
        start = self.step * self.recipe.batch
        batch = self.data.batch(start, start + self.recipe.batch)
        losses = self._losses(stage, batch.images, batch.targets)
        values = {
            "loss": losses.total.item(),
            "token_loss": losses.token.item(),
            "depth_loss": losses.depth.item(),
        }
        if not math.isfinite(values["loss"]):
            raise AdapError(
                f"the loss became {values['loss']} at step {self.step}",
                f"the last good state is in {self.folder}; try a lower learning rate",
            )
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimiser.clip_norm)
        self.optimiser.step()
        self.schedule.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        return values

    def _losses(self, stage: Stage, images: Tensor, targets: Tensor) -> Losses:
        config, device = self.model.config, self.model.device
        draw = draw_step(self.model, stage, len(images), seed=self.recipe.seed, step=self.step)
        tokens = config.token_granularities if "tokens" in stage.axes else (config.full_configuration.tokens,)
        weights = None
        if "depth" in stage.axes:
            weights = depth_weights(config.depth, self.recipe.depth_weights).to(device)
        images, targets = images.to(device), targets.to(device)
        return step_losses(self.model, images, targets, draw, tokens=tokens, depth_weights_L=weights)

    def _keep_up(self, recent: list[dict[str, float]]) -> None:
        """Log, evaluate and save, each at its own interval and at the end."""
        recipe, last = self.recipe, self.step == self.recipe.total_steps
        note = f"{recipe.stage_at(self.step - 1).name}, loss {recent[-1]['loss']:.3f}"
        self.progress(self.step, recipe.total_steps, note)
        if self.step % recipe.log_every == 0 or last:
            self._log({name: sum(r[name] for r in recent) / len(recent) for name in recent[0]})
            recent.clear()
        if self.step % recipe.evaluate_every == 0 or last:
            self._log(self.evaluate(self._averaged_model()))
        if self.step % recipe.save_every == 0 or last:
            self._save()

    def _log(self, values: dict[str, float]) -> None:
        line = {
            "step": self.step,
            "stage": self.recipe.stage_at(self.step - 1).name,
            "learning_rate": self.schedule.get_last_lr()[0],
            **values,
        }
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def _averaged_model(self) -> AdaPerceiver:
        inner = self.averaged.module
        assert isinstance(inner, AdaPerceiver)
        return inner.eval()

    def _save(self) -> None:
        parts: dict[str, Any] = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "seconds": self.seconds,
        }
        write_state(self.folder, TrainingState(self.step, self.recipe, parts))

    def _restore(self, state: TrainingState) -> None:
        try:
            self.model.load_state_dict(state.parts["model"])
            self.averaged.load_state_dict(state.parts["averaged"])
            self.optimiser.load_state_dict(state.parts["optimiser"])
            self.schedule.last_epoch = int(state.parts["schedule"]["last_epoch"])
            self.seconds = float(state.parts.get("seconds", 0.0))
        except Exception as error:  # parts that do not fit fail anywhere in torch
            reason = (str(error).splitlines() or [""])[0][:200]
            raise FileError(
                f"{self.folder / 'state.pt'}: does not fit this model: {type(error).__name__}: {reason}",
                "start anew with --overwrite",
            ) from error
        self.step = state.step
        _truncate_metrics(self.folder / "metrics.jsonl", self.step)


def draw_step(model: AdaPerceiver, stage: Stage, batch: int, *, seed: int, step: int) -> Draw:
    """What step number `step` trains: full, but for the axes of the stage. Depends on (seed, step) alone."""
    config, generator = model.config, torch.Generator().manual_seed((seed << 32) + step)
    widths = None
    if "width" in stage.axes:
        picks = torch.randint(len(config.widths), (batch,), generator=generator).tolist()
        widths = tuple(config.widths[pick] for pick in picks)
    tokens = config.full_configuration.tokens
    if "tokens" in stage.axes:
        pick = int(torch.randint(len(config.token_granularities), (1,), generator=generator))
        tokens = config.token_granularities[pick]
    full = config.full_configuration
    return Draw(Configuration(full.tokens, full.width, config.depth), widths, tokens)


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Warm-up, then a cosine from 1 to `final_share` over the whole run."""
    options: Optimiser = recipe.optimiser
    warm = min(1.0, (step + 1) / max(1, options.warmup_steps))
    done = min(1.0, step / recipe.total_steps)
    return warm * (options.final_share + (1 - options.final_share) * 0.5 * (1 + math.cos(math.pi * done)))


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases, gains, tokens) and positions do not."""
    matrices = [
        p for n, p in model.named_parameters() if p.ndim > 1 and not n.endswith(("token", "pos_embed"))
    ]
    rest = [p for n, p in model.named_parameters() if p.ndim <= 1 or n.endswith(("token", "pos_embed"))]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _truncate_metrics(path: Path, step: int) -> None:
    """Keep the lines up to `step`: later ones, and one cut short by a crash, are written again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8", "replace").splitlines():
        try:
            content = json.loads(line)
            if content["step"] > step:
                break
        except (ValueError, TypeError, KeyError):
            break
        kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
