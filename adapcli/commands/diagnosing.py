"""What `adap diagnose` needs besides the checks: an outcome table, images, a step of training."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.console import Console
from adapcli.errors import FileError

if TYPE_CHECKING:
    from torch import Tensor

    from adapcli.data.dataset import Dataset
    from adapcli.data.spec import DataSpec
    from adapcli.evaluation.diagnosis.check import Diagnosis
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run
    from policies.table import OutcomeTable

IMAGES = 512
"""Images that the model runs on itself: intervals of a point or two, in seconds."""


@dataclass(frozen=True)
class Evidence:
    """A table of a model's answers, images of the same data (B, channels, height, width), classes (B,)."""

    table: "OutcomeTable"
    images: "Tensor"
    targets: "Tensor"
    facts: dict[str, Any]


def examine(
    console: Console, run: "Run", model: "AdaPerceiver", source: str, *, data: str | None, limit: int
) -> "Diagnosis":
    """Every check of the model that came from `source`."""
    from adapcli.evaluation.diagnosis.check import Diagnosis
    from adapcli.evaluation.diagnosis.diagnose import diagnose
    from adapcli.sweep.fingerprints import checkpoint_fingerprint

    fingerprint = checkpoint_fingerprint(model)
    found = gather(console, run, model, fingerprint, data, limit)
    step = train_step(model, found.images)
    with console.progress("diagnosing") as progress:
        checks = diagnose(model, found.table, found.images, found.targets, train_step=step, progress=progress)
    return Diagnosis({"path": run.portable(source), "fingerprint": fingerprint}, found.facts, checks)


def gather(
    console: Console, run: "Run", model: "AdaPerceiver", fingerprint: str, data: str | None, limit: int
) -> Evidence:
    """The run's table if it is of this model and data, else one of `limit` test samples, scored now."""
    from adapcli.commands.checkpoints import chosen_data

    swept = _swept(run, fingerprint)
    known = run.data() if swept is None else run.reopened(_about(swept))
    spec, _ = chosen_data(data, known)
    table = swept if spec == known else None
    dataset = _open(model, spec, limit)
    if not dataset.labelled:
        raise FileError(f"{dataset.name}: no labels, and a diagnosis judges answers by them", "other --data")
    scored = table is None
    if table is None:
        console.say(
            f"no outcome table of this checkpoint in {run.folder}: scoring {len(dataset)} test samples"
        )
        with console.progress("scoring") as progress:
            table = _scored(model, dataset, progress)
    else:
        console.say(f"deciding from the outcome table {run.table}")
    batch = dataset.batch(0, min(IMAGES, len(dataset)))
    told: dict[str, Any] = {"name": dataset.name, "fingerprint": dataset.fingerprint, "split": "test"}
    told |= {"samples": len(table.rows("test")), "images": len(batch.images), "scored": scored}
    return Evidence(table, batch.images, batch.targets, told)


def _swept(run: "Run", fingerprint: str) -> "OutcomeTable | None":
    """The run's table; None without one of this checkpoint that says of which data it is."""
    from policies.table import OutcomeTable

    if not run.has("table"):
        return None
    table = OutcomeTable.load(run.table)
    prints = table.meta.get("fingerprints")
    same = isinstance(prints, dict) and prints.get("checkpoint") == fingerprint
    return table if same and "name" in _about(table) else None


def _about(table: "OutcomeTable") -> Mapping[str, Any]:
    """What a table says of its data."""
    about: Any = table.meta.get("data")
    return about if isinstance(about, dict) else {}


def _open(model: "AdaPerceiver", spec: "DataSpec", limit: int) -> "Dataset":
    from adapcli.data.dataset import open_dataset

    return open_dataset(
        spec,
        split="test",
        preprocessing=model.preprocessing,
        limit=limit,
        class_names=model.class_names or None,
    )


def _scored(
    model: "AdaPerceiver", dataset: "Dataset", progress: Callable[[int, int], object]
) -> "OutcomeTable":
    """A table of the whole grid in memory: made as `adap sweep` makes it, and not kept."""
    import numpy as np

    from adapcli.sweep.samples import Samples
    from adapcli.sweep.sweep import Sweep

    samples = Samples({"test": dataset}, {"name": dataset.name, "seed": 0})
    with tempfile.TemporaryDirectory() as scratch:
        table = Sweep(model, samples, model.config.space).run(Path(scratch) / "table", progress=progress)
        return table.take(np.arange(table.n_samples))


def train_step(model: "AdaPerceiver", images: "Tensor") -> Callable[[int], object]:
    """One pass of the once-for-all objective with its gradients, on so many samples; changes no weight."""
    import copy

    import torch

    from adapcli.evaluation.diagnosis.diagnose import repeated
    from adapcli.training.losses import Targets
    from adapcli.training.objective import draw_passes, pass_losses
    from adapcli.training.schema import Loss, Readouts, Stage

    learner = copy.deepcopy(model).train()
    stage, readouts = Stage(name="all", steps=1, axes=("tokens", "depth", "width")), Readouts()

    def step(size: int) -> None:
        (chosen,) = draw_passes(learner.config, stage, readouts, size, seed=0, number=0)
        labels = torch.zeros(size, dtype=torch.int64, device=learner.device)
        some = repeated(images, size).to(learner.device)
        losses = pass_losses(learner, some, Targets(labels), chosen, Loss(), readouts)
        losses.total.backward()  # type: ignore[no-untyped-call]
        learner.zero_grad(set_to_none=True)

    return step
