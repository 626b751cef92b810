"""The recipe that a command was given, changed as typed, and what it would run."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands.options import DATA_HELP
from adapcli.commands.units import bytes_text, flops_text, seconds_text
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.training.dryrun import Plan, StagePlan
    from adapcli.training.schema import Recipe

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field of the recipe, such as stages.0.steps=100; can be repeated.",
    ),
]
TeacherSource = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="SOURCE",
        help="Learn from self, in-place, ckpt:PATH, timm:NAME[@FILE] or hf:FOLDER, besides labels if the "
        "recipe has none.",
    ),
]
TrainingData = Annotated[
    str | None, typer.Option("--data", metavar="NAME", help=f"{DATA_HELP[:-1]}, for the recipe's.")
]
TrainShare = Annotated[
    float | None,
    typer.Option(
        "--train-share",
        metavar="FRACTION",
        help="Of data without a part train: the fraction to train on, which stays out of other splits.",
        show_default="0.5",
    ),
]
DepthScale = Annotated[
    float | None,
    typer.Option(
        "--depth-scale",
        metavar="N",
        help="Values per metre in a folder's depth maps, for what the folder says, or 1000.",
    ),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the whole recipe as YAML, and stop.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Read the data, show memory, FLOPs and estimated time, and stop."),
]


OPTIONS = {
    "teacher.source": "--teacher",
    "data": "--data",
    "split": "--split",
    "train_share": "--train-share",
    "parts": "--parts",
    "classes": "--classes",
    "columns": "--columns",
    "depth_scale": "--depth-scale",
    "max_pixels": "--max-pixels",
    "preprocessing.background": "--background",
}
"""Fields of a recipe that have options of their own."""


def chosen_recipe(
    name: str | None, changes: Sequence[str], *, seed: int | None, teacher: str | None, **data: Any
) -> "Recipe":
    """The recipe with what was typed in place of its own. UsageError for what is not allowed.

    name: None for digits-quick, or images-quick at a fitting size where data are given. data: the recipe's
    fields that say which data, and how to read them; None where nothing was typed.
    """
    from adapcli.errors import UsageError
    from adapcli.training.recipe import load_recipe

    given = {"seed": seed, "teacher.source": teacher, **data}
    typed = [*changes, *(f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None)]
    try:
        if name is None:
            name, fitting = _usual(typed, data.get("data"))
            typed = [*fitting, *typed]
        recipe = load_recipe(name, typed)
        if teacher is not None and not any(recipe.loss_of(stage).needs_teacher for stage in recipe.stages):
            recipe = load_recipe(name, [*typed, "loss.distillation=1"])
    except UsageError as error:
        raise UsageError(_as_typed(error.message, changes), error.hint) from error
    return recipe


def _usual(typed: Sequence[str], data: str | None) -> tuple[str, list[str]]:
    """The recipe for data without one, and what must change in it for the size of the images."""
    from adapcli.errors import FileError
    from adapcli.training.recipe import load_recipe
    from adapcli.training.source import SMALL_SIDE, typical_side

    if data in (None, "digits"):
        return "digits-quick", []
    try:
        side = typical_side(load_recipe("images-quick", typed).data_spec)
    except FileError:  # said when the data are opened
        side = SMALL_SIDE
    return "images-quick", [] if side <= SMALL_SIDE else ["model.image_size=64", "model.patch_size=8"]


def _as_typed(message: str, changes: Sequence[str]) -> str:
    """The message with the option that was typed, where --set stands for one of its own."""
    for key, option in OPTIONS.items():
        if message.startswith(f"--set {key}:") and not any(
            change.startswith(f"{key}=") for change in changes
        ):
            return option + message.removeprefix(f"--set {key}")
    return message


def show_recipe(console: Console, recipe: "Recipe") -> None:
    """All of a recipe, as a file that --recipe reads."""
    from adapcli.training.recipe import as_yaml

    console.write(as_yaml(recipe).rstrip())
    console.result({"recipe": recipe.model_dump(mode="json")})


def show_plan(console: Console, recipe: "Recipe", device: str) -> None:
    """What `recipe` would run: its data, a table of stages, sums, and what is not there."""
    from adapcli.training.dryrun import plan

    found = plan(recipe, device)
    if found.data is not None:
        console.print(_data_line(found))
    title = f"{recipe.name}: {found.parameters:,} parameters, {found.trained:,} of them trained"
    console.table(COLUMNS, [_row(stage) for stage in found.stages], title=title)
    for line in _sums(found):
        console.print(line)
    for note in found.notes:
        console.say(note)
    console.say("FLOPs: matrix products, convolutions and attention; backward: against the forward pass")
    console.say("kept: activations that wait for the backward pass, and what checkpointing makes of them")
    console.result({"recipe": recipe.model_dump(mode="json"), **_plain(found)})


COLUMNS = ("stage", "steps", "axes", "passes", "latents", "token logits", "depth logits", "FLOPs a step",
           "backward", "kept", "checkpointed")  # fmt: skip


def _row(stage: "StagePlan") -> list[object]:
    shapes = (stage.latents, stage.token_logits, stage.depth_logits)
    return [
        stage.name,
        stage.steps,
        " ".join(stage.axes) or "-",
        stage.passes,
        *(" x ".join(map(str, shape)) or "-" for shape in shapes),
        flops_text(stage.forward_flops + stage.backward_flops),
        f"{stage.backward_flops / stage.forward_flops:.2f}x",
        bytes_text(stage.plain_bytes),
        bytes_text(stage.checkpointed_bytes),
    ]


def _sums(plan: "Plan") -> list[str]:
    epochs = "" if plan.epochs is None else f", {plan.epochs:.3g} epochs"
    held = f"weights, average and gradients {bytes_text(plan.weight_bytes)}"
    held += f", optimiser {bytes_text(plan.optimiser_bytes)}, activations of the largest pass"
    return [
        f"{plan.steps:,} steps, {plan.samples:,} samples{epochs}, {flops_text(plan.total_flops)} in all",
        _time(plan),
        f"memory {bytes_text(plan.peak_bytes)}: {held}",
    ]


def _data_line(plan: "Plan") -> str:
    """What the data hold, on one line."""
    names = ", ".join(plan.classes[:5]) + (", ..." if len(plan.classes) > 5 else "")
    classes = f"{len(plan.classes)} classes ({names}), " if plan.classes else ""
    counts = ""
    if plan.counts is not None:
        counts = "; " + ", ".join(f"{split} {count:,}" for split, count in plan.counts.items())
    channels = f"{plan.channels} channel" + "s" * (plan.channels > 1)
    return f"data {plan.data}: {classes}{channels}{counts}"


def _time(plan: "Plan") -> str:
    from adapcli.training.dryrun import MEASURED_STEPS

    if plan.seconds is None:
        return "time: not measured"
    steps = f"from {MEASURED_STEPS} measured steps of each stage"
    return f"time: about {seconds_text(plan.seconds)} for the steps, {steps}; evaluation comes on top"


def _plain(plan: "Plan") -> dict[str, Any]:
    sums = {"peak_bytes": plan.peak_bytes, "total_flops": plan.total_flops}
    return {**dataclasses.asdict(plan), "config": plan.config.to_dict(), **sums}
