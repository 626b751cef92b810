"""The checkpoint that a command was given, or the packaged one."""

from pathlib import Path
from typing import TYPE_CHECKING

from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.model.perceiver import AdaPerceiver


def open_checkpoint(console: Console, ckpt: str | None) -> "tuple[AdaPerceiver, str]":
    """The model, and where it came from; without `ckpt` the packaged one, which is said."""
    from adapcli.model.checkpoint import load, packaged

    source = str(packaged()) if ckpt is None else ckpt  # "" is a variable that was not set: no checkpoint
    if ckpt is None:
        console.say(f"no --ckpt given: using the packaged checkpoint {source}")
    return load(source), source


def short_name(source: str) -> str:
    """What to call a model in tables, as text: the name of its file or folder, or its place on the hub."""
    name = source.removeprefix("hf://") if source.startswith("hf://") else Path(source).absolute().stem
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
