"""A run is resumed on the files it began with, or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapcli.errors import FileError
from adapcli.model.checkpoint import load, packaged, save
from adapcli.training.origins import changed, origins
from adapcli.training.run import train
from adapcli.training.schema import Recipe
from adapcli.training.source import open_source


class Stop(BaseException):
    """Stands for a crash at a chosen moment."""


def recipe(root: Path) -> Recipe:
    """Two pictures a digit, and copies of the packaged checkpoint to begin with and to learn from."""
    for part in ("train", "val", "test"):
        for label in range(10):
            (root / "data" / part / str(label)).mkdir(parents=True)
            for index in range(2):
                pixels = np.full((32, 32), 20 * label + index, np.uint8)
                Image.fromarray(pixels).save(root / "data" / part / str(label) / f"{index}.png")
    for name in ("start.pt", "teacher.pt"):
        shutil.copy(packaged(), root / name)
    return Recipe(
        name="tiny",
        data=f"folder:{root / 'data'}",
        batch=4,
        start=str(root / "start.pt"),
        teacher={"source": f"ckpt:{root / 'teacher.pt'}"},
        loss={"labels": 0.5, "distillation": 0.5},
        stages=[{"name": "all", "steps": 3, "axes": ["depth"]}],
        evaluate_samples=4,
        save_every=1,
    )


def found(chosen: Recipe) -> dict[str, str]:
    return origins(chosen, open_source(chosen))


def test_other_pictures_another_start_and_another_teacher_are_seen(tmp_path: Path):
    chosen = recipe(tmp_path)
    before = found(chosen)
    assert set(before) == {"data", "start", "teacher"}
    assert changed(before, found(chosen)) == []
    (tmp_path / "teacher.pt").write_bytes(b"another one")
    assert changed(before, found(chosen)) == ["teacher"]
    (tmp_path / "start.pt").unlink()
    shutil.copy(tmp_path / "data/train/0/0.png", tmp_path / "data/train/5/9.png")
    assert changed(before, found(chosen)) == ["data", "start", "teacher"]


def test_a_run_is_not_resumed_with_another_teacher(tmp_path: Path):
    chosen, folder = recipe(tmp_path), tmp_path / "run"

    def crash(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        train(chosen, folder, progress=crash, test_samples=4)
    state = (folder / "state.pt").read_bytes()
    other = load(packaged())
    other.get_parameter("process_latents.token").data.mul_(2)
    save(other, tmp_path / "teacher.pt")
    with pytest.raises(FileError, match="made from another teacher"):
        train(chosen, folder, resume=True, test_samples=4)
    assert (folder / "state.pt").read_bytes() == state
    shutil.copy(packaged(), tmp_path / "teacher.pt")
    assert train(chosen, folder, resume=True, test_samples=4).checkpoint.exists()
