"""`adap bench`."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands.checkpoints import choose_threads, open_checkpoint
from adapcli.commands.options import (
    Checkpoint,
    Compile,
    Device,
    Dtype,
    Json,
    Overwrite,
    Quiet,
    RunFolder,
    Threads,
    one_of,
    whole,
)
from adapcli.commands.sweep import Axis, Numbers
from adapcli.commands.units import bytes_text, percent_text, seconds_text
from adapcli.console import Console
from policies.texts import significant

if TYPE_CHECKING:
    from adapcli.commands.benched import Benched
    from adapcli.measure.bench import Bench, Row


def batches(text: str) -> Numbers:
    """Batch sizes such as 1,16, each from 1 to 65536."""
    return Numbers(sorted({whole(1, 65536)(part) for part in text.split(",")}))


Batches = Annotated[Any, typer.Option("--batch", parser=batches, metavar="N,N,...", help="Batch sizes.")]
Rounds = Annotated[
    int, typer.Option("--rounds", parser=whole(3, 10**4), metavar="N", help="Measurements of each.")
]
Policies = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="NAME", help="These policies alone, by name in the run or by place."),
]
Which = Annotated[
    str,
    typer.Option(
        "--which",
        parser=one_of("auto", "all", "front"),
        metavar="NAME",
        help="all, front (with corners), or auto: by time.",
    ),
]


def bench(
    ckpt: Checkpoint = None,
    tokens: Annotated[Numbers | None, Axis] = None,
    widths: Annotated[Numbers | None, Axis] = None,
    depths: Annotated[Numbers | None, Axis] = None,
    which: Which = "auto",
    batch: Batches = "1,16",
    dtype: Dtype = "float32",
    device: Device = "auto",
    threads: Threads = None,
    rounds: Rounds = 15,
    compile: Compile = False,
    policy: Policies = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what and how long.")] = False,
    overwrite: Overwrite = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency and memory on this machine.

    Configurations, the model as published and the run's policies, in interleaved rounds. Kept with the run:
    what was measured before under the same conditions is replaced, other machines' measurements stay.
    """
    from adapcli.commands.benched import Benched
    from adapcli.measure.device import resolve
    from adapcli.run import Run

    console, folder, where = Console(json=json, quiet=quiet), Run.open(run), resolve(device)
    model, source = open_checkpoint(console, ckpt, folder)
    kept = Benched.open(folder, model, source, overwrite=overwrite)
    choose_threads(model, threads)
    axes: dict[str, Any] = {"tokens": tokens, "widths": widths, "depths": depths}
    job = kept.job(model, where, axes, batch, dtype=dtype, compiled=compile, rounds=rounds)
    plan = _plan(job, "all" if which == "auto" and any(axes.values()) else which, kept)
    plan["policies"] = kept.add_policies(job, model, policy, console.warn)
    console.say(_told(plan, job.device_name, compiled=compile))
    if dry_run:
        return console.result(plan)
    with console.progress("bench") as progress:
        rows = job.run(progress)
    kept.save(job, rows)
    folder.record(bench={"device": job.device_name, "checkpoint": folder.portable(source)})
    _show(console, job, rows, kept)
    console.result({"bench": folder.bench, **plan, "spread": _noise(console, rows), "rows": rows})


def _noise(console: Console, rows: "list[Row]") -> float:
    """How far quartiles are apart; more than what is to be expected is said."""
    from adapcli.measure.bench import NOISY, spread

    found = spread(rows)
    if found > NOISY:
        console.warn(
            f"noisy: quartiles {percent_text(found)} apart; measure again while little else is running"
        )
    return found


def _plan(job: "Bench", which: str, kept: "Benched") -> dict[str, Any]:
    """Narrow the job to what is affordable, unless asked otherwise; what is measured, and about how long."""
    from adapcli.measure.selection import AFFORDABLE_S, corners

    grid, full = list(job.configurations), job.model.full_configuration
    expected = job.expected_s()
    if which == "front" or (which == "auto" and expected > AFFORDABLE_S):
        front = kept.front
        few = {*corners(grid), *front, full}
        job.configurations = [c for c in grid if c in few]
        told = "corners and front" if front else "corners"
        told = f"the {told} of {len(grid)} configurations, {len(job.configurations)} (--which all for all)"
        expected = job.expected_s()
    else:
        told = f"all {len(grid)} configurations"
    if full not in job.configurations:
        job.configurations = [*job.configurations, full]
        told += " and the full one"
    return {"measured": told, "configurations": len(job.configurations), "seconds": expected}


def _told(plan: dict[str, Any], name: str, *, compiled: bool) -> str:
    policies = f", and {', '.join(plan['policies'])}" if plan["policies"] else ""
    unknown = [*(["policies"] if policies else []), *(["compilation"] if compiled else [])]
    more = f", and more for {' and '.join(unknown)}" if unknown else ""
    return f"{plan['measured']}{policies}: about {seconds_text(plan['seconds'])}{more} on {name}"


def _show(console: Console, job: "Bench", rows: "list[Row]", kept: "Benched") -> None:
    from adapcli.measure.selection import corners

    shown = {str(c) for c in (*(kept.front or corners(job.configurations)), job.model.full_configuration)}
    for batch in job.batches:
        of_batch = [row for row in rows if row.batch == batch]
        console.table(COLUMNS, _lines(of_batch, shown), title=str(job.condition(batch)))
    if kept.table is None:
        console.say(f"no outcome table in this run: {kept.run.command('sweep')} makes one, for searches")
        return
    console.say(f"saved in {kept.run.bench} and in the table")
    console.say(f"next: {kept.run.command('search')} {_latency_target(job, rows)}")


def _latency_target(job: "Bench", rows: "list[Row]") -> str:
    """Options for a search: half way between the fastest configuration and the full one."""
    batch, full = job.batches[0], str(job.model.full_configuration)
    static = {row.name: row.median_ms for row in rows if row.kind == "static" and row.batch == batch}
    middle = (min(static.values()) + static[full]) / 2
    digits = 2 - math.floor(math.log10(middle))
    target = math.ceil(middle * 10**digits) / 10**digits
    return f"--latency-target {target:g}" + ("" if batch == 1 else f" --batch {batch}")


NAMES = {"direct": "direct: model(x)", "static": "{}", "policy": "policy {}"}
COLUMNS = ("", "ms per batch", "quartiles", "samples/s", "peak memory", "against direct")


def _lines(rows: "list[Row]", shown: set[str]) -> list[list[str]]:
    """Direct, the cheapest, what is in `shown`, and policies."""
    direct = next(row for row in rows if row.kind == "direct")
    static = [row for row in rows if row.kind == "static"]
    fastest = min(static, key=lambda row: row.median_ms)
    listed = [row for row in static if row is fastest or row.name in shown]
    policies = [row for row in rows if row.kind == "policy"]
    return [
        [
            NAMES[row.kind].format(row.name),
            significant(row.median_ms),
            f"{significant(row.q25_ms)} .. {significant(row.q75_ms)}",
            significant(row.samples_per_s, 4),
            bytes_text(row.peak_memory_bytes),
            f"{direct.median_ms / row.median_ms:.2f}x",
        ]
        for row in (direct, *listed, *policies)
    ]
