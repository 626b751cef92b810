"""`adap sweep`."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands.checkpoints import open_inputs, prepare, short_name, tell_findings
from adapcli.commands.dataset_metrics import show_metrics
from adapcli.commands.options import (
    DATA_HELP,
    Background,
    Batch,
    Checkpoint,
    Classes,
    Columns,
    Compile,
    Device,
    Dtype,
    Json,
    Limit,
    MaxPixels,
    Overwrite,
    Parts,
    Quiet,
    Resume,
    RunFolder,
    Threads,
    Workers,
    data_options,
    whole,
)
from adapcli.commands.recalibrations import Place, brought, in_order, open_calibrated
from adapcli.commands.units import bytes_text, flops_text, percent_text, seconds_text
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.data.spec import DataSpec
    from adapcli.distributed.group import Group
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run
    from adapcli.sweep.samples import Samples
    from adapcli.sweep.sweep import Sweep
    from policies.table import OutcomeTable
    from policies.table.schema import Array


NEAR_CHANCE, LEAST_TO_JUDGE = 0.1, 100
"""A checkpoint is near chance if its interval ends within this part of the way from a constant answer to no
error; fewer test samples do not say."""
CONSTANT = 0.9
"""Share of one answer beyond which agreement says little: a constant answer agrees as often."""


class Numbers(tuple[int, ...]):
    """Values on one axis of the grid."""


def numbers(text: str) -> Numbers:
    """Parses 1,2,8; which values are allowed depends on the checkpoint."""
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", text):
        raise typer.BadParameter(f"{text!r}: expected whole numbers with commas between: 1,2,8")
    return Numbers(map(int, text.split(",")))


def split_by(text: str) -> str:
    """What `Splitting.parse` reads; its UsageError otherwise."""
    from adapcli.data.splitting import Splitting

    Splitting.parse(text)
    return text


Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        parser=split_by,
        metavar="HOW",
        help="auto, folders, ratio, or FIT:TUNE:CALIBRATION:TEST, shares of a folder or sizes of digits.",
        show_default="the run's, or auto",
    ),
]
DataSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        parser=whole(0, 2**32 - 1),
        metavar="N",
        help="Draws other scenes, or divides images differently.",
        show_default="the run's, or 0",
    ),
]
Axis = typer.Option(parser=numbers, metavar="N,N,...", help="Only these.", show_default="all there are")


def sweep(
    ckpt: Checkpoint = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help=DATA_HELP, show_default="the run's, or digits")
    ] = None,
    split: Split = None,
    classes: Classes = None,
    columns: Columns = None,
    parts: Parts = None,
    background: Background = None,
    max_pixels: MaxPixels = None,
    tokens: Annotated[Numbers | None, Axis] = None,
    widths: Annotated[Numbers | None, Axis] = None,
    depths: Annotated[Numbers | None, Axis] = None,
    patches: Annotated[
        int,
        typer.Option(parser=whole(0, 64), metavar="N", help="Also store N x N averaged patch embeddings."),
    ] = 0,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First fit a temperature and class biases for each of them.")
    ] = False,
    calibration: Place = None,
    limit: Limit = None,
    batch: Batch = 64,
    device: Device = "auto",
    dtype: Dtype = "float32",
    compile: Compile = False,
    threads: Threads = None,
    workers: Workers = 0,
    seed: DataSeed = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell time, disk space and memory.")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score every configuration on every sample.

    Writes the outcome table, from which searches, policies and reports are made. Without --ckpt and --data,
    those of the run: what `adap train` made there, or an earlier sweep used. With --calibrate, or the
    --calibration of another run, all outcomes are those of calibrated answers, at no cost in FLOPs.
    """
    from adapcli.distributed.joined import joined
    from adapcli.measure.device import resolve
    from adapcli.model.precision import resolve_dtype
    from adapcli.run import Run
    from adapcli.sweep.sweep import Sweep

    _one_of(calibrate, calibration)
    with joined() as group:
        console, folder = Console(json=json, quiet=quiet, muted=not group.first), Run.open(run)
        resume, overwrite = group.launch.again(resume=resume, overwrite=overwrite)
        options = {"split_by": split, "seed": seed}
        options |= data_options(
            classes=classes, columns=columns, parts=parts, background=background, max_pixels=max_pixels
        )
        model, source, spec = open_inputs(console, folder, ckpt, data, resume=resume, **options)
        prepare(model, resolve(group.device(device)), threads=threads, compile=compile)
        space = model.config.space.restrict(tokens=tokens, widths=widths, depths=depths)
        target = folder.table if dry_run else folder.claim("table", overwrite=overwrite, resume=resume)
        samples, kind = (
            _samples(console, folder, model, source, spec, limit),
            resolve_dtype(dtype, model.device),
        )
        job = Sweep(model, samples, space, short_name(source), batch, kind, compile, patches, workers=workers)
        if dry_run:
            return _show_estimate(console, job, group, calibrate=calibrate)
        if group.first and not resume:
            folder.remember(unfinished=_inputs(folder, job, source))
        job = _calibrated(console, job, target, calibrate, calibration, resume=resume)
        with console.progress("sweep") as progress:
            here = partial(job.run, target, resume=resume, overwrite=overwrite, group=group)
            table = here(progress=progress, warn=console.warn)
        if group.first:
            folder.record(**_inputs(folder, job, source), seed=samples.facts["seed"], unfinished=None)
        _warn_near_chance(console, table)
        return _show(console, folder, job, table)


def _samples(
    console: Console, run: "Run", model: "AdaPerceiver", source: str, spec: "DataSpec", limit: int | None
) -> "Samples":
    """The samples; what is wrong with them for this checkpoint is said."""
    from adapcli.sweep.samples import Samples

    names, task = model.class_names, model.config.task
    samples = Samples.open(spec, model.preprocessing, limit=limit, class_names=names, task=task)
    _tell_skipped(console, samples)
    tell_findings(console, samples.findings)
    samples = samples.recorded(run, spec, source)
    if samples.overlap:
        console.warn(samples.overlap)
    return samples


def _warn_near_chance(console: Console, table: "OutcomeTable") -> None:
    """Warn if the full configuration is no better than a constant answer, which a foreign checkpoint is."""
    from policies.statistics import wilson

    test = table.rows("test")
    if table.prediction is None or len(test) < LEAST_TO_JUDGE:
        return
    if not table.labelled:
        return _warn_constant(console, table.prediction[test, table.full])
    counts = table.samples["target"].iloc[test].value_counts()
    chance, hits = float(counts.max()) / len(test), float(table.score[test, table.full].sum())
    found = wilson(hits, len(test))
    if found.low <= chance and found.high <= chance + NEAR_CHANCE * (1 - chance):
        console.warn(
            f"the full configuration is right on {percent_text(found.mean)} of the test samples "
            f"({percent_text(found.low)} to {percent_text(found.high)}), the most frequent class on "
            f"{percent_text(chance)}: was this checkpoint trained for these classes?"
        )


def _warn_constant(console: Console, answers: "Array") -> None:
    """Warn if the full configuration gives one answer to almost all samples: agreement is then easy."""
    import numpy as np

    share = float(np.unique(answers, return_counts=True)[1].max()) / len(answers)
    if share > CONSTANT:
        console.warn(
            f"the full configuration gives the same answer to {percent_text(share)} of the test samples: "
            "agreement with it shows little. Was this checkpoint trained for such images?"
        )


def _one_of(calibrate: bool, calibration: Path | None) -> None:
    from adapcli.errors import UsageError

    if calibrate and calibration:
        raise UsageError("--calibrate and --calibration exclude each other", "fit one, or use that of a run")


def _calibrated(
    console: Console, job: "Sweep", target: Path, calibrate: bool, calibration: Path | None, *, resume: bool
) -> "Sweep":
    """The job with the calibration of another run, or the one begun with, or a fitted one, if asked for."""
    from adapcli.sweep.recalibrating import recalibrated

    if not (calibrate or calibration):
        return job
    given = None
    if calibration is not None:
        given = in_order(open_calibrated(calibration, job.model), job.configurations)
    with console.progress("calibration") as progress:
        return recalibrated(job, target, given=given, resume=resume, progress=progress)


def _tell_skipped(console: Console, samples: "Samples") -> None:
    skipped = samples.skipped
    if skipped:
        console.warn(f"files left out because they cannot be read: {len(skipped)}, first {skipped[0]}")


def _inputs(run: "Run", job: "Sweep", source: str) -> dict[str, Any]:
    """What run.json keeps of a sweep."""
    checkpoint = {"path": run.portable(source), "fingerprint": job.fingerprints["checkpoint"]}
    data = {**job.samples.facts, "sizes": job.samples.sizes, "fingerprints": job.samples.fingerprints}
    return {"checkpoint": checkpoint, "data": data}


def _show_estimate(console: Console, job: "Sweep", group: "Group", *, calibrate: bool) -> None:
    from dataclasses import asdict

    from adapcli.sweep.estimate import estimate

    found = estimate(job, calibrate=calibrate, group=group)
    calibrating = f", {seconds_text(found.calibrating_seconds)} to calibrate" if calibrate else ""
    pace = f"{calibrating}, from {found.measured} samples on {job.model.device}"
    console.table(
        ["what", "estimate"],
        [
            ["samples", found.samples],
            ["configurations", f"{found.configurations} in {found.passes} passes"],
            ["work", f"{flops_text(found.flops_per_sample)} per sample"],
            ["time", seconds_text(found.seconds) + pace],
            ["processes", found.processes],
            ["disk", bytes_text(found.disk_bytes)],
            ["memory", bytes_text(found.memory_bytes) + (" each" if found.processes > 1 else "")],
        ],
    )
    console.result(asdict(found))


def _show(console: Console, folder: "Run", job: "Sweep", table: "OutcomeTable") -> None:
    from adapcli.report.labels import score_name

    rows = [_summary(table, "cheapest", int(table.cost_flops.argmin())), _summary(table, "full", table.full)]
    dearest = table.cost_flops.max()
    scored = score_name(table)
    columns = ["", "configuration", "cost", "of full", scored]
    console.table(
        columns,
        [
            [r["name"], r["configuration"], flops_text(r["cost_flops"]),
             percent_text(r["cost_flops"] / dearest), percent_text(r["score"])]
            for r in rows
        ],
        title=f"{table.n_configs} configurations on {table.n_samples} samples; {scored} on the test split",
    )  # fmt: skip
    if len(job.configurations) > len(job.space):
        console.say("the full configuration was added: agreement is measured against it")
    if told := brought(table):
        console.say(told)
    console.say(f"outcome table: {folder.table}\nnext: {folder.command('search')}")
    counts = {"configurations": table.n_configs, "samples": job.samples.sizes}
    metrics = show_metrics(console, table, {r["name"]: r["column"] for r in rows})
    facts = {"fingerprints": job.fingerprints, "summary": rows, **metrics}
    console.result({"table": folder.table, **counts, **facts})


def _summary(table: "OutcomeTable", name: str, column: int) -> dict[str, Any]:
    row, test = table.configs.iloc[column], table.rows("test")
    score = float(table.score[test, column].mean())
    return {
        "name": name,
        "column": column,
        "configuration": f"t{row['tokens']} w{row['width']} l{row['depth']}",
        "cost_flops": int(row["cost_flops"]),
        "score": score,
        **({"accuracy": score} if table.prediction is not None and table.labelled else {}),
    }
