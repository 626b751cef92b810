"""How a model is trained by one process or by several: where forward passes go and how gradients meet.

Several processes run torch's own engines: DistributedDataParallel, which keeps the model whole in each, or
FSDP2 (`fully_shard`), which keeps a part of weights, gradients and moments in each and gathers a block's
weights when it runs. Both want a forward pass of one module, which is what `_Step` is for.
B samples of a batch of all processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from adapcli.distributed.group import ALONE, Group
from adapcli.errors import UsageError
from adapcli.model.perceiver import AdaPerceiver
from adapcli.training.losses import Targets
from adapcli.training.objective import Losses, Pass, pass_losses
from adapcli.training.schema import Loss, Readouts, Recipe, Stage


class Engine:
    """One process: the model as it is. `Replicas` and `Shards` are what several make of it.

    survives: whether every process holds all of the state, so that one that is left alone can save it.
    """

    survives = True

    def __init__(self, recipe: Recipe, group: Group = ALONE) -> None:
        self.recipe, self.group = recipe, group

    def begin(self, model: AdaPerceiver) -> None:
        """Take the model on, before optimisers take its parameters."""
        self._step: nn.Module = _Step(model)

    def losses(
        self, images: Tensor, targets: Targets, chosen: Pass, loss: Loss, readouts: Readouts
    ) -> Losses:
        """Of this process's samples, as `pass_losses` gives them; `chosen`: of all processes'."""
        mine = self.group.rows(self.recipe.batch)
        if chosen.widths is not None:
            chosen = replace(chosen, widths=chosen.widths[mine.start : mine.stop])
        return Losses(*self._step(images, targets, chosen, loss, readouts, self.recipe.checkpointing))

    @contextmanager
    def gradients(self, *, last: bool) -> Iterator[None]:
        """Around a forward and backward pass; the processes' gradients meet in the `last` one of a step."""
        yield

    def share(self) -> float:
        """What this process's mean counts, when the engine takes the mean of all processes."""
        return self.group.size * len(self.group.rows(self.recipe.batch)) / self.recipe.batch

    def whole(self, state: Any) -> Any:
        """A state with every tensor in full, as one process would have it."""
        return state


class _Step(nn.Module):
    """The losses of a pass as the forward pass of a module."""

    def __init__(self, model: AdaPerceiver) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        images: Tensor,
        targets: Targets,
        chosen: Pass,
        loss: Loss,
        readouts: Readouts,
        checkpointing: bool,
    ) -> tuple[Tensor, ...]:
        found = pass_losses(self.model, images, targets, chosen, loss, readouts, checkpointing=checkpointing)
        return found.total, found.token, found.depth, found.features


class Replicas(Engine):
    """DistributedDataParallel: the model whole in every process, gradients averaged."""

    def begin(self, model: AdaPerceiver) -> None:
        """See Engine."""
        unused = not all(self._uses_all(model, stage) for stage in self.recipe.stages)
        with self.group.exchanging():
            self._parallel = nn.parallel.DistributedDataParallel(_Step(model), find_unused_parameters=unused)
        self._step = self._parallel

    @contextmanager
    def gradients(self, *, last: bool) -> Iterator[None]:
        """See Engine."""
        with self.group.exchanging(), nullcontext() if last else self._parallel.no_sync():
            yield

    def _uses_all(self, model: AdaPerceiver, stage: Stage) -> bool:
        """Whether every parameter surely gets a gradient: looking for those that do not takes time."""
        loss = self.recipe.loss_of(stage)
        judges = bool(loss.labels or loss.distillation)
        whole = stage.at.of(model.config).depth == model.config.depth
        return model.config.task == "classification" and judges and whole


def open_engine(recipe: Recipe, group: Group, parallel: str) -> Engine:
    """The engine for a group. UsageError for what only several processes can do, or cannot."""
    group.rows(recipe.batch)
    if group.size == 1:
        if parallel != "ddp":
            raise UsageError(
                f"--parallel {parallel}: shards a model over several processes, and this is one",
                "start with torchrun --nproc-per-node N -m adapcli train ...",
            )
        return Engine(recipe)
    return Replicas(recipe, group)
