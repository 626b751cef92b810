"""The checkpoint and the data that a command was given, or its run's, or the packaged ones."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.console import Console

if TYPE_CHECKING:
    import torch

    from adapcli.data.findings import Findings
    from adapcli.data.spec import DataSpec
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run


def open_checkpoint(
    console: Console, ckpt: str | None, run: "Run | None" = None, *, reads: bool = False
) -> "tuple[AdaPerceiver, str]":
    """The model, and where it came from; without `ckpt` the run's or else the packaged one, which is said.

    reads: the command only reads the run. FileError then for one that was named and is not there: a mistyped
    name must not run another model.
    """
    from adapcli.errors import FileError
    from adapcli.model.checkpoint import load
    from adapcli.run import DEFAULT_FOLDER

    named = run is not None and str(run.folder) != DEFAULT_FOLDER
    if reads and ckpt is None and run is not None and named and not run.folder.exists():
        raise FileError(f"{run.folder}: no such run folder", "another --run, or a checkpoint by --ckpt")
    source, told = _checkpoint(ckpt, None if run is None or ckpt is not None else run.checkpoint())
    if told:
        console.say(f"no --ckpt given: using {told}")
    return load(source), source


def open_inputs(
    console: Console, run: "Run", ckpt: str | None, data: str | None, *, resume: bool = False, **options: Any
) -> "tuple[AdaPerceiver, str, DataSpec]":
    """The model, where it came from, and the data: each as given, else the run's, else the packaged.

    What was not given is said. options: fields of the data's spec, None where not given; they change the
    run's data too. Data given by the run's own name are the run's, so what was trained on stays out of their
    splits. resume: an unfinished sweep's inputs count as the run's.
    """
    from adapcli.data.spec import DataSpec
    from adapcli.model.checkpoint import load

    source, told = _checkpoint(ckpt, None if ckpt is not None else run.checkpoint(unfinished=resume))
    known = run.data(unfinished=resume)
    given = {name: value for name, value in options.items() if value is not None}
    base, whose = chosen_data(data, known)
    spec = DataSpec.of(base, **given)
    remarks = [text for text in (told, whose and f"{whose} {spec.name}") if text]
    if remarks:
        console.say(f"using {' and '.join(remarks)}".replace(" and this run's data", " and data"))
    return load(source), source, spec


def _checkpoint(ckpt: str | None, recorded: str | None) -> tuple[str, str]:
    """Where the checkpoint is, and in words why it is this one; no words for one that was given."""
    from adapcli.model.checkpoint import packaged
    from adapcli.run import PACKAGED

    if ckpt == PACKAGED and not Path(ckpt).exists():
        return str(packaged()), ""
    if ckpt is not None:  # "" is a variable that was not set: no checkpoint
        return ckpt, ""
    source = recorded or str(packaged())
    whose = "the packaged" if source == str(packaged()) else "this run's"
    return source, f"{whose} checkpoint {source}"


def chosen_data(data: str | None, known: "DataSpec | None") -> "tuple[DataSpec, str]":
    """Data as named, the run's (`known`) or digits; in words why these, nothing for data that were named.

    Data named like the run's are the run's, with all that it knows of them.
    """
    from adapcli.data.spec import DataSpec

    if data is None:
        return (DataSpec(), "data") if known is None else (known, "this run's data")
    asked = DataSpec(name=data)
    if known is not None and asked.absolute().name == known.absolute().name:
        return known, ""
    return asked, ""


def tell_findings(console: Console, findings: "Findings") -> None:
    """Warn of what is left out of data, and of decisions that may be other than meant."""
    from adapcli.data.classes import BY_ORDER

    for left in findings.left_out:
        console.warn(f"left out: {left.count} {left.reason}, first {left.first}")
    for decision in findings.decisions:
        if decision.warning:
            console.warn(decision.text)
    if any(decision.text == BY_ORDER for decision in findings.decisions):
        console.warn(
            "the checkpoint does not name its classes: those of the data are numbered by order; "
            "--classes FILE says which is which"
        )


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
