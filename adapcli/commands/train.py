"""`adap train`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands.options import (
    Device,
    Json,
    Overwrite,
    Quiet,
    Resume,
    RunFolder,
    Threads,
    Workers,
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
    chosen_recipe,
    show_plan,
    show_recipe,
)
from adapcli.commands.recording import Recording
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.distributed.group import Group
    from adapcli.run import Run
    from adapcli.training.run import Trained


def train(
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="A packaged recipe or a .yaml file.")
    ] = "digits-quick",
    run: RunFolder = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", parser=whole(0, 2**32 - 1), metavar="N", help="In place of the recipe's."),
    ] = None,
    changes: Changes = None,
    data: TrainingData = None,
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

    digits makes the packaged checkpoint, digits-quick a small one in minutes. The recipe says data, model,
    stages, losses and optimiser; --print-config shows all of it. torchrun --nproc-per-node N -m adapcli train
    shares every batch among N processes.
    """
    from adapcli.distributed.joined import joined
    from adapcli.distributed.launch import Launch
    from adapcli.measure.device import resolve
    from adapcli.run import Run
    from adapcli.training.run import train as run_training

    console, folder = Console(json=json, quiet=quiet, muted=not Launch.here().first), Run.open(run)
    chosen = chosen_recipe(
        recipe, changes or [], seed=seed, teacher=teacher, data=data, depth_scale=depth_scale
    )
    if print_config or dry_run:
        return show_recipe(console, chosen) if print_config else show_plan(console, chosen)
    _use_threads(threads or 1)  # such small models lose more to a second thread than they gain
    with joined() as group:
        where = str(resolve(group.device(device)))
        resume, overwrite = group.launch.again(resume=resume, overwrite=overwrite)
        recording = Recording(folder.train, console.warn, tensorboard=tensorboard, silent=not group.first)
        target = folder.claim("train", overwrite=overwrite, resume=resume)
        console.say(f"recipe {chosen.name}: {chosen.total_steps} steps of {chosen.batch}, into {target}")
        job = partial(run_training, chosen, target, resume=resume, device=where, workers=workers)
        trained = _trained(console, recording, partial(job, group=group, parallel=parallel))
        _keep(folder, trained, group)
        _show(console, trained.metrics, trained.checkpoint)


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _trained(console: Console, recording: Recording, job: "partial[Trained]") -> "Trained":
    with recording, console.progress("training") as progress:
        return job(progress=progress, watch=recording.watch, say=console.say)


def _keep(folder: "Run", trained: "Trained", group: "Group") -> None:
    from adapcli.training.run import write_card

    if group.first:
        recipe = trained.metrics["recipe"]
        write_card(trained.metrics, trained.checkpoint.with_name("model.md"))
        folder.record(recipe=recipe["name"], trained=trained.checkpoint, seed=recipe["seed"])


def _show(console: Console, metrics: dict[str, Any], checkpoint: Path) -> None:
    from adapcli.training.judging import score_text

    if metrics["skipped"]:
        first, reason = next(iter(metrics["skipped"].items()))
        console.warn(f"{len(metrics['skipped'])} pictures could not be read, first: {first}: {reason}")
    names = ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest")
    metric = metrics["metric"]
    rows = [[name.replace("_", " "), score_text(metric, metrics[f"{metric}_{name}"])] for name in names]
    console.table(["configuration", metric], rows, title=f"{metrics['samples']} test {_kind(metrics)}")
    console.result({"checkpoint": checkpoint, **metrics})
    console.say(f"next: adap sweep --ckpt {checkpoint}")


def _kind(metrics: dict[str, Any]) -> str:
    return "scenes" if metrics["recipe"]["data"] == "digits" else "pictures"
