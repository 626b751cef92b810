"""`adap data inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adapcli.commands.options import (
    DATA_HELP,
    Background,
    Checkpoint,
    Classes,
    Columns,
    Json,
    MaxPixels,
    Parts,
    Quiet,
    data_options,
    one_of,
)
from adapcli.console import Console
from policies.texts import count

if TYPE_CHECKING:
    from adapcli.data.inspection import Inspection
    from adapcli.model.config import Task

SHOWN_CLASSES = 20

app = typer.Typer(
    name="data", help="What data hold, before anything is trained or scored on them.", no_args_is_help=True
)


@app.callback()
def _data() -> None:
    """What data hold, before anything is trained or scored on them."""


@app.command()
def inspect(
    data: Annotated[str, typer.Option("--data", metavar="NAME", help=DATA_HELP)],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            parser=one_of("classification", "segmentation", "depth"),
            metavar="TASK",
            help="classification, segmentation (masks) or depth.",
        ),
    ] = "classification",
    ckpt: Checkpoint = None,
    split: Annotated[
        str,
        typer.Option(
            "--split", metavar="HOW", help="auto, folders, ratio, or FIT:TUNE:CALIBRATION:TEST, as for sweep."
        ),
    ] = "auto",
    parts: Parts = None,
    classes: Classes = None,
    columns: Columns = None,
    background: Background = None,
    max_pixels: MaxPixels = None,
    thumbnails: Annotated[
        Path | None,
        typer.Option("--thumbnails", metavar="PNG", help="Also write 12 of the images as one picture."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what data hold: classes, parts, sizes, what was decided, and what is left out and why.

    With --ckpt, labels are matched with the classes of that model, as sweep would.
    """
    from adapcli.data.inspection import contact_sheet
    from adapcli.data.inspection import inspect as inspected
    from adapcli.data.spec import DataSpec
    from adapcli.model.checkpoint import load

    console = Console(json=json, quiet=quiet)
    task_name: Task = cast("Task", task)
    spec = DataSpec(
        name=data,
        split_by=split,
        **data_options(
            classes=classes, columns=columns, parts=parts, background=background, max_pixels=max_pixels
        ),
    )
    names = load(ckpt).class_names or None if ckpt is not None else None
    found = inspected(spec, task_name, names)
    show(console, found)
    if thumbnails is not None:
        thumbnails.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(spec, task_name).save(thumbnails, "PNG")
        console.say(f"thumbnails: {thumbnails}")
    console.result({**found.to_dict(), "thumbnails": thumbnails})


def show(console: Console, found: "Inspection") -> None:
    """An inspection for people."""
    labelled = f"{len(found.classes)} classes" if found.classes else "with labels"
    console.print(f"{found.name}: {found.images} images, {labelled if found.labelled else 'without labels'}")
    for title, counts in (("parts", found.parts), ("splits", found.splits)):
        if counts and (title == "parts" or counts != found.parts):
            console.print(f"{title}: {', '.join(f'{name} {n}' for name, n in counts.items())}")
    for decision in found.decisions:
        console.print(f"decided ({decision.about}): {decision.text}")
    _show_images(console, found)
    if found.classes:
        parts = [part for part in found.parts if any(part in counts for counts in found.classes.values())]
        rows = [[name, *(counts.get(part, 0) for part in parts)] for name, counts in found.classes.items()]
        console.table(["class", *parts], rows[:SHOWN_CLASSES])
        if len(rows) > SHOWN_CLASSES:
            console.print(f"... and {len(rows) - SHOWN_CLASSES} more classes (--json lists all)")


def _show_images(console: Console, found: "Inspection") -> None:
    if found.size is not None:
        low, middle, high = (
            f"{w} x {h}" for w, h in (found.size.smallest, found.size.median, found.size.largest)
        )
        modes = ", ".join(f"{mode} {n}" for mode, n in found.modes.items())
        console.print(f"size in pixels: {low} to {high}, median {middle}; modes: {modes}")
        if found.sampled < found.images:
            console.print(f"sizes, modes and damage are of a sample of {found.sampled} images")
    for out in found.damaged:
        console.print(f"damaged: {out.count}: {out.reason}, first {out.first}")
    for out in found.left_out:
        console.print(f"left out: {out.count}: {out.reason}, first {out.first}")
    copies = found.copies
    if copies.repeated:
        console.print(f"copies: {copies.repeated} of {copies.compared} images equal an earlier one")
    for parts, shared in copies.across_parts.items():
        console.print(f"leak: {count(shared, 'image')} in more than one part: {parts}")
    if copies.across_classes:
        same = count(copies.across_classes, "image")
        console.print(f"contradictory labels: {same}, first {' = '.join(copies.contradictory)}")
    if found.values and found.task == "depth":
        console.print(
            "depth in metres: {smallest_m:.3g} to {largest_m:.3g}, median {median_m:.3g}; "
            "{unknown:.1%} unknown".format(**found.values)
        )
    elif found.values:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in found.values.items())
        console.print(f"values of masks, as shares of pixels: {shares}")
