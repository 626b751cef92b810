"""`adap train`."""

from pathlib import Path
from typing import Annotated

import typer

from adapcli.commands.options import Device, Json, Overwrite, Quiet, Resume, RunFolder, Threads, whole
from adapcli.console import Console


def train(
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="A packaged recipe or a .yaml file.")
    ] = "digits-quick",
    run: RunFolder = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", parser=whole(0, 2**32 - 1), metavar="N", help="In place of the recipe's."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events (extra).")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model from scratch by a recipe: digits (the packaged one) or digits-quick (minutes)."""
    import torch

    from adapcli.commands.recording import Recording
    from adapcli.measure.device import resolve
    from adapcli.run import Run
    from adapcli.training.recipe import load_recipe
    from adapcli.training.run import train as run_training
    from adapcli.training.run import write_card

    console, folder, chosen = Console(json=json, quiet=quiet), Run.open(run), load_recipe(recipe)
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    where = resolve(device)
    torch.set_num_threads(threads or 1)  # such small models lose more to a second thread than they gain
    recording = Recording(folder.train, tensorboard=tensorboard)
    target: Path = folder.claim("train", overwrite=overwrite, resume=resume)
    console.say(f"recipe {chosen.name}: {chosen.total_steps} steps of {chosen.batch}, into {target}")
    with recording, console.progress("training") as progress:
        trained = run_training(
            chosen, target, resume=resume, device=str(where), progress=progress, watch=recording.watch
        )
    write_card(trained.metrics, target / "model.md")
    folder.record(recipe=chosen.name, trained=trained.checkpoint, seed=chosen.seed)
    _show(console, trained.metrics)
    console.result({"checkpoint": trained.checkpoint, **trained.metrics})
    console.say(f"next: adap sweep --ckpt {trained.checkpoint}")


def _show(console: Console, metrics: dict[str, float]) -> None:
    names = ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest")
    rows = [[name.replace("_", " "), f"{100 * metrics[f'accuracy_{name}']:.1f} %"] for name in names]
    console.table(["configuration", "accuracy"], rows, title=f"{metrics['samples']} test scenes")
