"""The embedded data set: scenes of handwritten digits, as many as a split asks for."""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapcli.data.dataset import Batch, Skipped, check_range
from adapcli.data.dense import BACKGROUND, is_dense
from adapcli.data.findings import Findings
from adapcli.data.scenes import Rendered, Scenes, SceneSpec
from adapcli.data.transforms import normalise
from adapcli.model.config import Task
from adapcli.model.preprocessing import Preprocessing

# Raise when the same specification draws other scenes: tables made before then no longer match.
GENERATOR = 1
# What a scene is rendered with, beside its picture, for dense tasks.
TARGETS = {"segmentation": "mask", "depth": "depth", "centres": "centres"}


class DigitsDataset:
    """Scenes 0..size - 1 of a split, rendered at `preprocessing.size`, in 1 or 3 equal channels.

    task: dense tasks have masks, depth maps or offsets to centres of the same scenes (`Rendered`) as targets.
    `difficulty(start, stop)` tells what makes each scene hard; see `SceneTable.difficulty`.
    """

    name = "digits"

    def __init__(
        self,
        split: str,
        preprocessing: Preprocessing,
        *,
        size: int,
        seed: int = 0,
        spec: SceneSpec | None = None,
        task: Task = "classification",
    ) -> None:
        self.split, self.preprocessing, self._size, self.task = split, preprocessing, size, task
        self.spec = (spec or SceneSpec()).at(preprocessing.size)
        self.scenes = Scenes(self.spec, split=split, seed=seed)
        self.class_names = class_names(self.spec, task)
        self.skipped: list[Skipped] = []
        self.labelled, self.findings, self._seed = True, Findings(), seed
        self.fingerprint = self._fingerprint(seed)

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> list[str]:
        """By split, seed and number: no scene is drawn twice."""
        return [f"digits {self._seed} {self.split}/{index}" for index in range(self._size)]

    def batch(self, start: int, stop: int) -> Batch:
        """Scenes start..stop - 1, normalised."""
        check_range(start, stop, self._size)
        scenes = self.scenes.batch(start, stop, (TARGETS.get(self.task, "class"),))
        ids = [f"{self.split}/{index:06d}" for index in range(start, stop)]
        return Batch(normalise(scenes.images, self.preprocessing), _targets(scenes, self.task), ids)

    def difficulty(self, start: int, stop: int) -> dict[str, NDArray[np.float64]]:
        """What makes scenes start..stop - 1 hard, by name; every array (stop - start,)."""
        check_range(start, stop, self._size)
        return self.scenes.difficulty(start, stop)

    def _fingerprint(self, seed: int) -> str:
        parts = [GENERATOR, self.spec.to_dict(), self.split, seed, self._size]
        if is_dense(self.task):
            parts.append(self.task)
        content = json.dumps(parts, sort_keys=True).encode() + self.scenes.scans.glyphs.tobytes()
        return "digits:" + hashlib.sha256(content).hexdigest()[:16]


def class_names(spec: SceneSpec, task: Task) -> list[str]:
    """Of scenes, by task: what the rule gives; for segmentation the background and the digits; no depths."""
    if task == "segmentation":
        return [BACKGROUND, *map(str, range(10))]
    return [] if is_dense(task) else spec.class_names


def _targets(scenes: Rendered, task: Task) -> Tensor:
    found: Tensor = getattr(scenes, TARGETS.get(task, "labels"))
    return found[:, 0] if task == "depth" else found
