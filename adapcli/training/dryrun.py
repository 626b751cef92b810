"""What a recipe would run, without running it: parameters, and memory and FLOPs of a step of every stage."""

import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from adapcli.errors import FileError, UnavailableError
from adapcli.model.checkpoint import load, packaged
from adapcli.model.config import ModelConfig
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.training.loop import Trainer
from adapcli.training.objective import draw_passes
from adapcli.training.optimisation import freeze, learning
from adapcli.training.rehearsal import rehearse
from adapcli.training.schema import Recipe, Stage
from adapcli.training.source import Batches, Source, Unseen, open_source
from adapcli.training.start import start, started
from adapcli.training.teacher import open_teacher

USUAL_CLASSES, USUAL_CHANNELS = 1000, 3
LARGEST_PRECONDITIONER = 10_000
MEASURED_FLOPS = 2e11
"""Of one measured step at most: some seconds on one core; of larger ones a smaller batch is measured."""
MEASURED_STEPS = 2


@dataclass(frozen=True)
class StagePlan:
    """One stage. passes: forward passes of a step, all accumulated batches together.

    latents, token_logits, depth_logits: shapes of one pass, samples first; depth_logits empty: no earlier
    block is read out. forward_flops, backward_flops: of a step. kept_bytes: activations of one pass that wait
    for the backward pass, as the recipe has it; plain_bytes, checkpointed_bytes: without and with
    checkpointing.
    """

    name: str
    steps: int
    axes: tuple[str, ...]
    passes: int
    latents: tuple[int, ...]
    token_logits: tuple[int, ...]
    depth_logits: tuple[int, ...]
    forward_flops: int
    backward_flops: int
    kept_bytes: int
    plain_bytes: int
    checkpointed_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a run would be.

    weight_bytes: weights, averages and gradients; optimiser_bytes: its state. samples: seen in all; epochs:
    None where data never repeat, or are not there. data: the data's name; None if they are not there.
    classes: names; channels: of the images; counts: images per split, None where they are endless; seconds:
    of all steps, see `measured_seconds`. notes: what is not there, and what a start gives.
    """

    config: ModelConfig
    parameters: int
    trained: int
    weight_bytes: int
    optimiser_bytes: int
    stages: tuple[StagePlan, ...]
    steps: int
    samples: int
    epochs: float | None
    data: str | None
    classes: tuple[str, ...]
    channels: int
    counts: dict[str, int] | None
    seconds: float | None
    notes: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """All that is held at once in the largest stage; what single operations need comes on top."""
        return self.weight_bytes + self.optimiser_bytes + max(stage.kept_bytes for stage in self.stages)

    @property
    def total_flops(self) -> int:
        """Of all steps, without teacher and evaluation."""
        return sum(stage.steps * (stage.forward_flops + stage.backward_flops) for stage in self.stages)


def plan(recipe: Recipe, device: str = "cpu") -> Plan:
    """What `adap train` would do. UsageError for a recipe that does not fit its data or checkpoint.

    device: where steps are measured, for an estimate of time.
    Data, checkpoint and teacher that are not there are told in `notes`; something of the shape that the
    recipe says stands for them.
    """
    notes: list[str] = []
    source = _source(recipe, notes)
    model = _model(recipe, source, notes)
    _ask_teacher(recipe, model.config, notes)
    if recipe.optimiser.name == "soap" and find_spec("pytorch_optimizer") is None:
        notes.append("optimiser soap: pytorch_optimizer is not installed: pip install 'adap[soap]'")
    trained = freeze(model, recipe.train)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    values = sum(parameter.numel() for parameter in trained)
    samples = recipe.total_steps * recipe.accumulate * recipe.batch
    stages = tuple(_stage(recipe, stage, model) for stage in recipe.stages)
    there = not isinstance(source, Unseen)
    return Plan(
        config=model.config,
        parameters=parameters,
        trained=values,
        weight_bytes=4 * (2 * parameters + values),
        optimiser_bytes=4 * sum(optimiser_values(recipe.optimiser.name, *each) for each in learning(model)),
        stages=stages,
        steps=recipe.total_steps,
        samples=samples,
        epochs=samples / source.samples if source.samples else None,
        data=source.data.name if there else None,
        classes=tuple(source.class_names),
        channels=source.channels,
        counts=source.counts() if there else None,
        seconds=measured_seconds(recipe, source, stages, device) if there else None,
        notes=tuple(notes),
    )


def measured_seconds(
    recipe: Recipe, source: Source, stages: tuple[StagePlan, ...], device: str
) -> float | None:
    """Seconds of all steps, without evaluation, from `MEASURED_STEPS` real ones of every stage.

    They are of a smaller batch, by which time is then scaled, where a whole one takes too long. None where
    even one sample does, or a teacher would have to be loaded from elsewhere.
    """
    kind = recipe.teacher.source.partition(":")[0] if recipe.teacher else ""
    largest = max(stage.forward_flops + stage.backward_flops for stage in stages)
    each = largest / (recipe.batch * recipe.accumulate)
    batch = min(recipe.batch, int(MEASURED_FLOPS / each))
    if batch < 1 or kind in ("ckpt", "timm", "hf"):
        return None
    small = recipe.model_copy(update={"batch": batch, "accumulate": 1, "compile": False})
    model = start(recipe, source).model.to(device)
    total = 0.0
    with tempfile.TemporaryDirectory() as folder, source.feed(small, model.preprocessing) as feed:
        for stage in recipe.stages:
            alone = small.model_copy(update={"stages": (stage,)})
            total += stage.steps * _step_seconds(alone, model, feed, Path(folder))
    return total * recipe.batch * recipe.accumulate / batch


def _step_seconds(recipe: Recipe, model: AdaPerceiver, feed: Batches, folder: Path) -> float:
    trainer = Trainer(recipe, model, feed, folder, lambda model: {})
    trainer.teach = open_teacher(recipe, model, lambda: trainer.optimisation.averaged) or trainer.teach
    model.train()
    trainer.one_step()  # the first one also sets things up
    begun = time.perf_counter()
    for _ in range(MEASURED_STEPS):
        trainer.one_step()
    return (time.perf_counter() - begun) / MEASURED_STEPS


def optimiser_values(optimiser: str, name: str, parameter: nn.Parameter) -> int:
    """Numbers that an optimiser keeps for a parameter: moments; SOAP's preconditioners and their bases."""
    if optimiser == "muon" and name.startswith("blocks.") and parameter.ndim == 2:
        return parameter.numel()
    moments = 2 * parameter.numel()
    if optimiser != "soap" or parameter.ndim < 2:
        return moments
    return moments + sum(2 * side**2 for side in parameter.shape if side <= LARGEST_PRECONDITIONER)


def _source(recipe: Recipe, notes: list[str]) -> Source:
    try:
        return open_source(recipe)
    except FileError as error:
        classes = int(recipe.model.get("num_classes") or USUAL_CLASSES)
        channels = int(recipe.model.get("in_channels", USUAL_CHANNELS))
        notes.append(f"data: {error.message}; planned with {classes} classes and {channels} channels")
        return Unseen(recipe.task, classes, channels)


def _model(recipe: Recipe, source: Source, notes: list[str]) -> AdaPerceiver:
    """On the device `meta`: shapes without memory."""
    if recipe.start is not None:
        try:
            begun = start(recipe, source)
            notes.append(f"start: {recipe.start}: {begun.text}")
            return begun.model.to("meta")
        except (FileError, UnavailableError) as error:
            if not recipe.model or Path(recipe.start).exists():
                raise
            notes.append(f"start: {error.message}; planned with a new model")
    with torch.device("meta"):
        return started(recipe.model_copy(update={"start": None}), source, None).model


def _ask_teacher(recipe: Recipe, student: ModelConfig, notes: list[str]) -> None:
    taught = any(recipe.loss_of(stage).needs_teacher for stage in recipe.stages)
    if recipe.teacher is None or recipe.in_place or not taught:
        return
    kind, _, name = recipe.teacher.source.partition(":")
    here = name == "packaged" or Path(name).exists()
    cost = "its own cost is not counted"
    if kind == "self" or (kind == "ckpt" and here):
        config = student if kind == "self" else load(packaged() if name == "packaged" else name).config
        each = flops(config, recipe.teacher.at.of(config), readout="folded", attention="block")
        cost = f"{each * recipe.batch * recipe.accumulate / 1e9:,.3g} GFLOPs a step, not counted below"
    packages = {"timm": "timm", "hf": "transformers"}
    absent = "; it is not there" if kind in ("ckpt", "hf") and not here else ""
    if kind in packages and find_spec(packages[kind]) is None:
        absent = f"; {packages[kind]} is not installed"
    notes.append(f"teacher {recipe.teacher.source}: {cost}{absent}")


def _stage(recipe: Recipe, stage: Stage, model: AdaPerceiver) -> StagePlan:
    """Of the first step's draw: others read out other granularities."""
    passes = draw_passes(
        model.config, stage, recipe.readouts_of(stage), recipe.batch, seed=recipe.seed, number=0
    )
    runs = {
        way: [
            rehearse(model, recipe, stage, one, checkpointing=way, backwards=way == recipe.checkpointing)
            for one in passes
        ]
        for way in (False, True)
    }
    done, config, first = runs[recipe.checkpointing], model.config, passes[0]
    plain, kept = (max(run.kept_bytes for run in runs[way]) for way in (False, True))
    checkpointed = kept + max(0, plain - kept) // max(run.configuration.depth for run in passes)
    earlier = len(first.earlier) * len(first.depth_tokens)
    answer = _answer(config)
    return StagePlan(
        name=stage.name,
        steps=stage.steps,
        axes=stage.axes,
        passes=len(passes) * recipe.accumulate,
        latents=(recipe.batch, first.configuration.tokens, config.embed_dim),
        token_logits=(recipe.batch, len(first.tokens), *answer),
        depth_logits=(recipe.batch, earlier, *answer) if earlier else (),
        forward_flops=recipe.accumulate * sum(run.forward_flops for run in done),
        backward_flops=recipe.accumulate * sum(run.backward_flops for run in done),
        kept_bytes=checkpointed if recipe.checkpointing else plain,
        plain_bytes=plain,
        checkpointed_bytes=checkpointed,
    )


def _answer(config: ModelConfig) -> tuple[int, ...]:
    """The shape of one readout."""
    if config.is_dense:
        return (config.map_channels, config.image_size, config.image_size)
    return (config.num_classes or 0,)
