"""`adap diagnose`."""

from typing import TYPE_CHECKING, Annotated

import typer

from adapcli.commands.checkpoints import choose_threads, open_checkpoint
from adapcli.commands.options import DATA_HELP, Checkpoint, Device, Json, Quiet, RunFolder, Threads, whole
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.evaluation.diagnosis.check import Diagnosis


def diagnose(
    ckpt: Checkpoint = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=DATA_HELP, show_default="the table's, or digits"),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", parser=whole(2, 10**9), metavar="N", help="Samples to score, if needed.")
    ] = 2000,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a check warns.")] = False,
    device: Device = "auto",
    threads: Threads = None,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look for what can go wrong in a model.

    Collapse at few tokens, tokens that are all alike, widths that lose to narrower ones, failure beyond the
    trained tokens, broken prefixes, confidences that do not hold, memory. Kept with the run, for the report.
    """
    from adapcli.commands.diagnosing import examine
    from adapcli.measure.device import resolve
    from adapcli.run import Run

    console, folder, where = Console(json=json, quiet=quiet), Run.open(run), resolve(device)
    model, source = open_checkpoint(console, ckpt, folder)
    refuse_other_tasks(model.config.task, source)
    choose_threads(model.to(where), threads)
    diagnosis = examine(console, folder, model, source, data=data, limit=limit)
    path = diagnosis.save(folder.claim("diagnosis", overwrite=True))
    folder.record(diagnosed=folder.portable(source))
    _show(console, diagnosis)
    found = {"warnings": len(diagnosis.warnings), "checks": diagnosis.checks, "data": diagnosis.data}
    console.result({"diagnosis": path, **found})
    fail_if(strict, diagnosis)


def refuse_other_tasks(task: str, source: str) -> None:
    """FileError for a model that gives no classes."""
    from adapcli.errors import FileError

    if task not in ("classification", "distillation"):
        raise FileError(f"{source}: this checkpoint is for {task}", "only classifiers are diagnosed so far")


def fail_if(strict: bool, diagnosis: "Diagnosis") -> None:
    """AdapError, naming the checks that warn, if that was asked for."""
    from adapcli.errors import AdapError

    names = ", ".join(check.name for check in diagnosis.warnings)
    if strict and names:
        raise AdapError(f"checks that warn: {names}")


def _show(console: Console, diagnosis: "Diagnosis") -> None:
    rows = [["warning" if check.warning else "ok", check.name, check.verdict] for check in diagnosis.checks]
    console.table(["", "check", "verdict"], rows)
    for check in diagnosis.warnings:
        console.say(f"{check.name}: {check.limit}")
