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
from torch.utils._pytree import tree_map

from adapcli.data.dense import is_dense
from adapcli.distributed.group import ALONE, Group
from adapcli.distributed.parts import in_full
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


class Shards(Engine):
    """FSDP2: weights, gradients and moments in parts; the averaged weights stay whole in every process.

    A block's weights are gathered when it runs, those outside blocks for the whole pass.
    """

    survives = False

    def begin(self, model: AdaPerceiver) -> None:
        """See Engine."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        with self.group.exchanging():
            mesh = init_device_mesh(model.device.type, (self.group.size,))
            for block in model.blocks:
                fully_shard(block, mesh=mesh)
            step = _Step(model)
            fully_shard(step, mesh=mesh)
        self._step = step

    @contextmanager
    def gradients(self, *, last: bool) -> Iterator[None]:
        """See Engine."""
        with self.group.exchanging():
            yield

    def whole(self, state: Any) -> Any:
        """See Engine."""
        with self.group.exchanging():
            return tree_map(in_full, state)


def open_engine(recipe: Recipe, group: Group, parallel: str) -> Engine:
    """The engine for a group. UsageError for what only several processes can do, or cannot."""
    group.rows(recipe.batch)
    if is_dense(recipe.task) and recipe.batch % group.size:
        raise UsageError(
            f"batch {recipe.batch}: {group.size} processes take parts of different sizes",
            "losses of maps need equal ones",
        )
    if group.size == 1:
        if parallel != "ddp":
            raise UsageError(
                f"--parallel {parallel}: shards a model over several processes, and this is one",
                "start with torchrun --nproc-per-node N -m adapcli train ...",
            )
        return Engine(recipe)
    if parallel == "ddp":
        return Replicas(recipe, group)
    if recipe.optimiser.name != "adamw":
        raise UsageError(
            f"--parallel fsdp: optimiser {recipe.optimiser.name} needs whole matrices",
            "use --parallel ddp, or --set optimiser.name=adamw",
        )
    return Shards(recipe, group)
