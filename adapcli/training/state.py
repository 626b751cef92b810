"""The resumable state of a training run: one file, replaced atomically, read without executing anything."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapcli.errors import FileError
from adapcli.training.recipe import Recipe
from policies.files import write_bytes

FORMAT = "adapcli-training-1"


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
    path = folder / "state.pt"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(f"{path}: refused: it holds Python objects; nothing was run") from error
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise FileError(f"{path}: not a usable training state: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path}: not a training state of this version")
    made_by, now = content.pop("recipe"), recipe.model_dump(mode="json")
    differing = sorted(key for key in {*made_by, *now} if made_by.get(key) != now.get(key))
    if differing:
        raise FileError(
            f"{path}: made by another recipe: {', '.join(differing)} differ", "or start anew: --overwrite"
        )
    return TrainingState(content.pop("step"), recipe, {k: v for k, v in content.items() if k != "format"})
