"""`adap export`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from adapcli.commands.checkpoints import check_output, open_checkpoint
from adapcli.commands.options import (
    Checkpoint,
    Depth,
    Json,
    OutputPath,
    Overwrite,
    Quiet,
    RunFolder,
    Tokens,
    Width,
)
from adapcli.commands.units import bytes_text, flops_text
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.inference.export import Exported
    from adapcli.space import Configuration


def export(
    output: OutputPath,
    ckpt: Checkpoint = None,
    tokens: Tokens = None,
    width: Width = None,
    depth: Depth = None,
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="onnx or pt2. [default: the ending of --output]"),
    ] = None,
    overwrite: Overwrite = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a configuration for other runtimes, any batch size, checked against the model.

    Its answers are the model's own, also where the run's table is of calibrated ones.
    """
    from adapcli.inference.export import export as export_model
    from adapcli.inference.export import format_of
    from adapcli.run import Run

    console = Console(json=json, quiet=quiet)
    format = format_of(output, format)
    model, source = open_checkpoint(console, ckpt, Run.open(run), reads=True)
    chosen = model.config.space.pick(tokens=tokens, width=width, depth=depth)
    check_output(output, source, overwrite=overwrite)
    console.say(f"exporting {chosen} as {format}")
    written = export_model(model, output, chosen, format=format)
    _show(console, chosen, written)
    console.result(asdict(written))


def _show(console: Console, chosen: "Configuration", written: "Exported") -> None:
    from adapcli.inference.export import BATCHES

    of_largest = f"{written.max_relative_error:.1e} of the largest answer"
    rows = [
        ["configuration", str(chosen)],
        ["cost", flops_text(written.metadata["cost_flops"])],
        ["input", " x ".join(map(str, written.metadata["input"]["shape"]))],
        ["outputs", ", ".join(written.metadata["outputs"])],
        ["stored", bytes_text(written.bytes)],
        [
            "largest error",
            f"{written.max_abs_error:.1e}, {of_largest}, batches of {BATCHES[0]} and {BATCHES[1]}",
        ],
    ]
    console.table(["what", "value"], rows, title=str(written.path))
