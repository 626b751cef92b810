"""The resumable state of a training run: one file, replaced atomically, read without executing anything."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapcli.errors import FileError
from adapcli.model.weights import read_pt
from adapcli.training.schema import Recipe
from policies.files import write_bytes

FORMAT = "adapcli-training-4"


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands: steps done, its recipe, and the state of model, average, optimiser and schedule."""

    step: int
    recipe: Recipe
    parts: dict[str, Any]


def write_state(folder: Path, state: TrainingState) -> None:
    """Replace `folder`/state.pt; a crash or a full disk leaves the old one intact."""
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "step": state.step,
        "recipe": state.recipe.model_dump(mode="json"),
        **state.parts,
    }
    torch.save(content, buffer)
    write_bytes(folder / "state.pt", buffer.getvalue())


def read_state(folder: Path, recipe: Recipe) -> TrainingState:
    """Read `folder`/state.pt. FileError if it is damaged or of another recipe (naming the fields)."""
    path, anew = folder / "state.pt", "start anew with --overwrite"
    try:
        content = read_pt(path)
    except FileError as error:
        raise FileError(error.message, anew) from error
    made_by, step = content.pop("recipe", None), content.pop("step", None)
    counted = type(step) is int and 0 <= step <= recipe.total_steps
    if content.pop("format", None) != FORMAT or not isinstance(made_by, dict):
        raise FileError(f"{path}: not a training state of this version", anew)
    now = recipe.model_dump(mode="json")
    differing = sorted(key for key in {*made_by, *now} if made_by.get(key) != now.get(key))
    if differing:
        raise FileError(f"{path}: made by another recipe: {', '.join(differing)} differ", anew)
    if not counted:
        raise FileError(f"{path}: step {str(step)[:40]} of {recipe.total_steps}", anew)
    return TrainingState(step, recipe, content)
