"""Maps as files of a folder; tasks tell what is in one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapcli.errors import UsageError
from adapcli.evaluation.dense.drawing import Map, depth_png, depth_unit_m, mask_png, palette
from adapcli.evaluation.dense.task import DenseTask
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.perceiver import AdaPerceiver
from policies.files import write_bytes, write_json

__all__ = ["MapFolder", "check_folder", "depth_png", "depth_unit_m", "mask_png", "palette"]

FACTS = "maps.json"


@dataclass
class MapFolder:
    """A folder that fills up with maps, one file per picture; `maps.json` in it says how to read them."""

    folder: Path
    model: AdaPerceiver
    last: Path | None = None
    _taken: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What pixel values mean, and which part of a picture they cover."""
        seen = {"preprocessing": self.model.preprocessing.to_dict(), "task": self.model.config.task}
        return {**seen, **self._task.file_facts(self.model.class_names)}

    @property
    def _task(self) -> DenseTask:
        return dense_task(self.model.config, self.model.preprocessing.size)

    def write(self, path: str, drawn: Map) -> Path:
        """Keep the map of a picture under its name; of equal names the later ones get a number.

        The first one also writes `maps.json`. AdapError if the folder cannot be written.
        """
        if self.last is None:
            write_json(self.folder / FACTS, self.facts())
        file = self.folder / self._name(path)
        write_bytes(file, self._task.encoded(drawn))
        self.last = file
        return file

    def _name(self, path: str) -> str:
        stem = "".join(c if c.isprintable() else "_" for c in Path(path).stem) or "picture"
        while stem in self._taken:
            self._taken[stem] += 1
            stem = f"{stem}-{self._taken[stem]}"
        self._taken[stem] = 1
        return f"{stem}{self._task.suffix}"


def check_folder(folder: Path, pictures: Sequence[str], *, overwrite: bool) -> None:
    """UsageError if maps would be written over something, or among the pictures that they are of."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: not a folder", "choose another name with --maps")
    place = folder.resolve()
    if any(Path(path).absolute().parent.resolve() == place for path in pictures):
        raise UsageError(f"{folder} holds the pictures themselves", "choose another folder with --maps")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{folder} is not empty", "--overwrite writes into it all the same")
