"""`adap train`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands.options import (
    Background,
    Classes,
    Columns,
    Device,
    Json,
    MaxPixels,
    Overwrite,
    Parts,
    Quiet,
    Resume,
    RunFolder,
    Threads,
    Workers,
    data_options,
    one_of,
    whole,
)
from adapcli.commands.recipes import (
    Changes,
    DepthScale,
    DryRun,
    PrintConfig,
    TeacherSource,
    TrainingData,
    TrainShare,
    chosen_recipe,
    show_plan,
    show_recipe,
)
from adapcli.commands.recording import Recording
from adapcli.commands.sweep import Split
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.run import Run
    from adapcli.training.run import Trained


def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            help="A packaged recipe or a .yaml file.",
            show_default="digits-quick; images-quick with --data",
        ),
    ] = None,
    run: RunFolder = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", parser=whole(0, 2**32 - 1), metavar="N", help="In place of the recipe's."),
    ] = None,
    changes: Changes = None,
    data: TrainingData = None,
    split: Split = None,
    classes: Classes = None,
    columns: Columns = None,
    parts: Parts = None,
    background: Background = None,
    max_pixels: MaxPixels = None,
    train_share: TrainShare = None,
    teacher: TeacherSource = None,
    depth_scale: DepthScale = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = 0,
    parallel: Annotated[
        str,
        typer.Option(
            "--parallel",
            parser=one_of("ddp", "fsdp"),
            metavar="WAY",
            help="Of several processes (torchrun): ddp, or fsdp, which shards the model.",
        ),
    ] = "ddp",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events (extra).")
    ] = False,
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model by a recipe: from scratch, from a checkpoint or from a teacher.

    digits makes the packaged checkpoint; digits-quick, and images-quick for --data of your own, make small
    ones in minutes. The recipe says data, model, stages, losses and optimiser; --print-config shows all of
    it. Data without a part train are divided: --train-share of them is trained on, and `adap sweep` in the
    same run uses the rest. torchrun --nproc-per-node N -m adapcli train
    shares every batch among N processes.
    """
    from adapcli.distributed.joined import joined
    from adapcli.distributed.launch import Launch
    from adapcli.jobs import record_training
    from adapcli.measure.device import resolve
    from adapcli.run import Run
    from adapcli.training.run import train as run_training

    console, folder = Console(json=json, quiet=quiet, muted=not Launch.here().first), Run.open(run)
    options: dict[str, Any] = {"split_by": split, "depth_scale": depth_scale}
    options |= data_options(
        classes=classes, columns=columns, parts=parts, background=background, max_pixels=max_pixels
    )
    about = _data_fields(console, folder, data, options, use_run=recipe is None)
    about |= {} if train_share is None else {"train_share": train_share}
    chosen = chosen_recipe(recipe, changes or [], seed=seed, teacher=teacher, **about)
    if recipe is None and not print_config:
        console.say(f"no --recipe given: using {chosen.name}, images of {chosen.model['image_size']} px")
    _use_threads(threads or 1)  # such small models lose more to a second thread than they gain
    if print_config:
        return show_recipe(console, chosen)
    if dry_run:
        return show_plan(console, chosen, str(resolve(device)))
    with joined() as group:
        where = str(resolve(group.device(device)))
        resume, overwrite = group.launch.again(resume=resume, overwrite=overwrite)
        recording = Recording(folder.train, console.warn, tensorboard=tensorboard, silent=not group.first)
        target = folder.claim("train", overwrite=overwrite, resume=resume)
        console.say(f"recipe {chosen.name}: {chosen.total_steps} steps of {chosen.batch}, into {target}")
        job = partial(run_training, chosen, target, resume=resume, device=where, workers=workers)
        trained = _trained(console, recording, partial(job, group=group, parallel=parallel))
        if group.first:
            record_training(folder, trained)
        _show(console, folder, trained.metrics, trained.checkpoint)


def _data_fields(
    console: Console, run: "Run", data: str | None, options: dict[str, Any], *, use_run: bool
) -> dict[str, Any]:
    """A recipe's fields about data: as given, or the run's, which is said; none where the recipe says them.

    use_run: whether the run's data count where none are given.
    """
    from dataclasses import replace

    from adapcli.commands.checkpoints import chosen_data
    from adapcli.data.spec import DataSpec

    given = {name: value for name, value in options.items() if value is not None}
    known = run.data() if use_run or data is not None else None
    spec, whose = chosen_data(data, known)
    if data is None and (known is None or spec.name == "digits"):
        return {RECIPE_FIELDS.get(name, name): value for name, value in given.items()}
    if whose:
        console.say(f"using {whose} {spec.name}")
    spec, plain = replace(spec, **given), DataSpec()
    stored = {**spec.to_dict(), "name": spec.name}
    changed = {k: v for k, v in stored.items() if k != "seed" and (k == "name" or v != getattr(plain, k))}
    return {RECIPE_FIELDS.get(name, name): value for name, value in changed.items()}


RECIPE_FIELDS = {"name": "data", "split_by": "split", "background": "preprocessing.background"}
"""Fields of a `DataSpec` that a recipe calls otherwise."""


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _trained(console: Console, recording: Recording, job: "partial[Trained]") -> "Trained":
    with recording, console.progress("training") as progress:
        return job(progress=progress, watch=recording.watch, say=console.say)


def _show(console: Console, run: "Run", metrics: dict[str, Any], checkpoint: Path) -> None:
    from adapcli.training.judging import score_text

    if metrics["skipped"]:
        first, reason = next(iter(metrics["skipped"].items()))
        console.warn(f"{len(metrics['skipped'])} pictures could not be read, first: {first}: {reason}")
    names = ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest")
    metric = metrics["metric"]
    rows = [[name.replace("_", " "), score_text(metric, metrics[f"{metric}_{name}"])] for name in names]
    console.table(["configuration", metric], rows, title=f"{metrics['samples']} test {_kind(metrics)}")
    console.result({"checkpoint": checkpoint, **metrics})
    again = ""
    if run.has("table"):
        console.warn("the outcome table of this run, and what was made from it, are of another checkpoint")
        again = " --overwrite"
    console.say(f"next: {run.command('sweep')}{again}")


def _kind(metrics: dict[str, Any]) -> str:
    return "scenes" if metrics["recipe"]["data"] == "digits" else "pictures"
