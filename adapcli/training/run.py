"""From a recipe to a checkpoint in a folder.

model.pt        the averaged weights, when the run is complete
metrics.json    the recipe, every configuration's accuracy on the test split, the training time
metrics.jsonl   losses and accuracies along the way
state.pt        what `resume` continues from
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapcli.data.digits import DigitsDataset
from adapcli.data.scenes import SceneSpec
from adapcli.errors import UsageError
from adapcli.model.checkpoint import save
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.feed import Endless
from adapcli.training.grid import grid_accuracy, summary
from adapcli.training.loop import Progress, Trainer
from adapcli.training.schema import Recipe
from policies.files import write_json, write_text

# Mean and deviation of scene pixels, rounded: part of the checkpoint, so any values near them would do.
PIXEL_MEAN, PIXEL_STD = 0.15, 0.25


@dataclass(frozen=True)
class Trained:
    """A finished run: the model, where its checkpoint is, and its metrics."""

    model: AdaPerceiver
    checkpoint: Path
    metrics: dict[str, Any]


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    test_samples: int = 20_000,
    progress: Progress = lambda done, total, note: None,
) -> Trained:
    """Train by `recipe` in `folder` (made if needed); score the grid on `test_samples` test scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = SceneSpec().at(int(recipe.model.get("image_size", SceneSpec().canvas)))
    preprocessing = Preprocessing(spec.canvas, spec.canvas, (PIXEL_MEAN,), (PIXEL_STD,))
    model = new_model(recipe, preprocessing, spec).to(device)
    scenes = _training_scenes(recipe, preprocessing, spec)
    watched = DigitsDataset("tune", preprocessing, size=recipe.evaluate_samples, spec=spec)
    trainer = Trainer(
        recipe, model, scenes, folder, lambda m: summary(grid_accuracy(m, watched)), progress=progress
    )
    trained = trainer.run(resume=resume)
    test = DigitsDataset("test", preprocessing, size=test_samples, spec=spec)
    metrics = {
        **describe(trained, test),
        "recipe": recipe.model_dump(mode="json"),
        "seconds": round(trainer.seconds, 1),
        "torch": torch.__version__,
    }
    save(trained, folder / "model.pt")
    write_json(folder / "metrics.json", metrics)
    return Trained(trained, folder / "model.pt", metrics)


def new_model(recipe: Recipe, preprocessing: Preprocessing, spec: SceneSpec) -> AdaPerceiver:
    """A fresh model of the recipe, weights drawn from its seed."""
    names = spec.class_names
    config = recipe.model_for(num_classes=len(names), in_channels=1)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return AdaPerceiver(config, preprocessing=preprocessing, class_names=names)


def _training_scenes(recipe: Recipe, preprocessing: Preprocessing, spec: SceneSpec) -> Endless:
    if recipe.data != "digits":
        raise UsageError(f"data {recipe.data!r}: recipes train on digits", "data: digits")
    size = recipe.total_steps * recipe.accumulate * recipe.batch
    scenes = DigitsDataset("train", preprocessing, size=size, spec=spec, seed=recipe.seed)
    return Endless(scenes, recipe.batch)


def describe(model: AdaPerceiver, test: DigitsDataset) -> dict[str, Any]:
    """What a model card says: accuracy and FLOPs (executed convention) of every configuration."""
    config, accuracy = model.config, grid_accuracy(model, test)
    space = config.space
    rows: list[dict[str, Any]] = [
        {
            "tokens": c.tokens,
            "width": c.width,
            "depth": c.depth,
            "cost_flops": flops(config, c, readout="folded", attention="block"),
            "accuracy": round(float(accuracy.flatten()[index]), 5),
        }
        for index, c in enumerate(space)
    ]
    parameters = sum(p.numel() for p in model.parameters())
    span = rows[-1]["cost_flops"] / rows[0]["cost_flops"]
    return {
        "samples": len(test),
        "data": test.fingerprint,
        "parameters": parameters,
        "span": round(span, 3),
        **summary(accuracy),
        "grid": rows,
    }


def write_card(metrics: dict[str, Any], path: Path) -> None:
    """A model card beside a checkpoint, from its metrics."""
    recipe, minutes = metrics["recipe"], metrics["seconds"] / 60
    lines = [
        f"# Model card: {recipe['name']}",
        "",
        recipe["description"].strip(),
        "",
        f"- made by `adap train --recipe {recipe['name']}` in {minutes:.0f} minutes on one core",
        f"- {metrics['parameters']:,} parameters; the grid spans {metrics['span']:.1f}x in FLOPs",
        f"- scored on {metrics['samples']:,} test scenes, made of scans that training never saw",
        "",
        "| configuration | accuracy |",
        "|---|---|",
    ]
    for name in ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest"):
        lines.append(f"| {name.replace('_', ' ')} | {100 * metrics[f'accuracy_{name}']:.1f} % |")
    write_text(path, "\n".join(lines) + "\n")
