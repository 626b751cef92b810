"""`adap extract`."""

import shlex
from typing import TYPE_CHECKING, Any

from adapcli.commands.checkpoints import check_output, open_checkpoint, stored_bytes
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
    from adapcli.model.perceiver import AdaPerceiver


def extract(
    output: OutputPath,
    ckpt: Checkpoint = None,
    tokens: Tokens = None,
    width: Width = None,
    depth: Depth = None,
    overwrite: Overwrite = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a configuration as a smaller checkpoint: a folder, or one file if its name ends in .pt.

    Its answers are the model's own, also where the run's table is of calibrated ones.
    """
    from adapcli.inference.extract import extract as extract_model
    from adapcli.model.checkpoint import save
    from adapcli.run import Run

    console = Console(json=json, quiet=quiet)
    model, source = open_checkpoint(console, ckpt, Run.open(run), reads=True)
    chosen = model.config.space.pick(tokens=tokens, width=width, depth=depth)
    check_output(output, source, overwrite=overwrite)
    small = extract_model(model, chosen)
    save(small, output)
    facts = {"original": _facts(model, source), "extracted": _facts(small, str(output))}
    rows = zip(*(_column(told) for told in facts.values()), strict=True)
    console.table(["", *facts], [[what, *pair] for what, pair in zip(WHAT, rows, strict=True)])
    console.say("cost of one image as executed: folded readout, block attention")
    console.result(facts)
    console.say(f"next: adap info --ckpt {shlex.quote(str(output))}")


WHAT = ("full configuration", "cost", "parameters", "stored", "configurations")


def _facts(model: "AdaPerceiver", source: str) -> dict[str, Any]:
    from adapcli.model.flops import both_conventions

    full = model.full_configuration
    return {
        "path": source,
        "bytes": stored_bytes(source),
        "parameters": sum(p.numel() for p in model.parameters()),
        "configurations": len(model.config.space),
        "tokens": full.tokens,
        "width": full.width,
        "depth": full.depth,
        **both_conventions(model.config, full, model.preprocessing.size),
    }


def _column(facts: dict[str, Any]) -> list[str]:
    return [
        "t{tokens} w{width} l{depth}".format(**facts),
        flops_text(facts["executed_flops"]),
        f"{facts['parameters']:,}",
        bytes_text(facts["bytes"]) if facts["bytes"] else "",
        str(facts["configurations"]),
    ]
