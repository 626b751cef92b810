"""The checkpoint that a command was given, or its run's, or the packaged one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from adapcli.console import Console

if TYPE_CHECKING:
    import torch

    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run


def open_checkpoint(
    console: Console, ckpt: str | None, run: "Run | None" = None
) -> "tuple[AdaPerceiver, str]":
    """The model, and where it came from; without `ckpt` the run's or else the packaged one, which is said."""
    from adapcli.model.checkpoint import load, packaged

    if ckpt is not None:  # "" is a variable that was not set: no checkpoint
        return load(ckpt), ckpt
    recorded = None if run is None else _recorded(run)
    source, whose = (recorded, "this run's") if recorded else (str(packaged()), "the packaged")
    console.say(f"no --ckpt given: using {whose} checkpoint {source}")
    return load(source), source


def _recorded(run: "Run") -> str | None:
    """The checkpoint that a run was made with, if it says so."""
    found = run.provenance().get("checkpoint")
    path = found.get("path") if isinstance(found, dict) else None
    return path if isinstance(path, str) else None


def choose_threads(model: "AdaPerceiver", threads: int | None) -> None:
    """Let torch use so many threads, or those that suit the model's size."""
    from adapcli.measure.device import set_threads, suggested_threads
    from adapcli.model.flops import flops

    set_threads(threads or suggested_threads(flops(model.config, model.full_configuration)))


def prepare(model: "AdaPerceiver", where: "torch.device", *, threads: int | None, compile: bool) -> None:
    """Bring the model to its device, its blocks compiled if asked for; UnavailableError if that fails."""
    from adapcli.model.compilation import compile_blocks

    choose_threads(model.to(where), threads)
    if compile:
        compile_blocks(model)


def stored_bytes(source: str) -> int | None:
    """Size of a checkpoint's files; None for what is not on this machine's disk."""
    path = _place(source)
    files = [path] if path.is_file() else [file for file in path.glob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) or None


def check_output(output: Path, source: str, *, overwrite: bool) -> None:
    """Raise UsageError if writing `output` would replace what is there unasked, or what it is made from."""
    from adapcli.errors import UsageError

    if output.exists() and output.resolve() in _parts(_place(source).resolve()):
        raise UsageError(f"{output} holds the checkpoint itself", "choose another name with --output")
    if output.exists() and not output.is_file() and not output.is_dir():
        raise UsageError(f"{output}: neither a file nor a folder", "choose another name with --output")
    if os.path.lexists(output) and not overwrite:
        raise UsageError(f"{output} exists already", "--overwrite replaces it")


def _place(source: str) -> Path:
    """The file or folder of a checkpoint that may be named as FILE#KEY, whether or not it is there."""
    place, mark, _ = source.rpartition("#")
    return Path(place) if mark and Path(place).is_file() else Path(source)


def _parts(place: Path) -> set[Path]:
    """What a checkpoint at `place` consists of, and the folder that it is in."""
    if place.suffix == ".pt":
        return {place, place.parent}
    folder = place if place.is_dir() else place.parent
    weights = [file for ending in ("*.safetensors*", "*.bin*") for file in folder.glob(ending)]
    return {place, place.parent, folder / "config.json", *weights}


def short_name(source: str) -> str:
    """What to call a model in tables; see `adapcli.jobs`."""
    from adapcli import jobs

    return jobs.short_name(source)
