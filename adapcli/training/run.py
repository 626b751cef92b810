"""From a recipe to a checkpoint in a folder.

model.pt        the averaged weights, when the run is complete
metrics.json    the recipe, every configuration's accuracy on the test split, the training time
metrics.jsonl   losses and accuracies along the way
state.pt        what `resume` continues from
last.pt         the averaged weights at that step: a checkpoint
heartbeat.json  where the run stands, for whoever did not start it
keys.npy        content keys of the training images, by which a later sweep knows them
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapcli.data.augment import Augmentation
from adapcli.data.dataset import Dataset
from adapcli.data.seen import save_keys
from adapcli.data.spec import DataSpec
from adapcli.distributed.group import ALONE, Group
from adapcli.model.checkpoint import save
from adapcli.model.compilation import compile_blocks
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.run import command_line
from adapcli.training.judging import (
    DENSE_TEST_SAMPLES,
    TEST_SAMPLES,
    corner_scores,
    corners_of,
    grid_scores,
    headline,
    named,
    score_text,
)
from adapcli.training.loop import Progress, Trainer, Watch
from adapcli.training.origins import origins
from adapcli.training.schema import Recipe
from adapcli.training.source import Source, open_source
from adapcli.training.start import start
from adapcli.training.teacher import open_teacher
from policies.files import write_json, write_text
from policies.shown import short_repr


@dataclass(frozen=True)
class Trained:
    """A finished run: the model, where its checkpoint is, its metrics, and what it was trained on.

    data: with the share that was trained on, so that other splits can leave it out.
    """

    __repr__ = short_repr

    model: AdaPerceiver
    checkpoint: Path
    metrics: dict[str, Any]
    data: DataSpec


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    test_samples: int | None = None,
    progress: Progress = lambda done, total, note: None,
    watch: Watch = lambda line: None,
    say: Callable[[str], None] = lambda text: None,
    group: Group = ALONE,
    parallel: str = "ddp",
    workers: int = 0,
) -> Trained:
    """Train by `recipe` in `folder` (made if needed); score the grid on at most `test_samples` test samples.

    test_samples: default 20 000, or 2 000 of a dense task.
    The processes of `group` share every batch, `parallel` says how; what they need must be where each sees
    it, and the first one writes. workers: processes that read data ahead, beside each of the group; nothing
    depends on how many.

    say: is told what a checkpoint gave to begin with. FileError for data or a checkpoint that cannot be read,
    UsageError for a recipe that does not fit them. watch: is given every line of the journal.
    """
    group.agree([recipe.model_dump(mode="json"), resume, parallel], "recipe and options")
    source = open_source(recipe)
    begun = start(recipe, source)
    if begun.text:
        say(f"{recipe.start}: {begun.text}")
    folder.mkdir(parents=True, exist_ok=True)
    model = begun.model.to(device)
    watched = source.split("tune", model.preprocessing, recipe.evaluate_samples)
    if group.first:
        save_keys(folder, source.keys())
    most = test_samples or (DENSE_TEST_SAMPLES if model.config.is_dense else TEST_SAMPLES)
    test = source.split("test", model.preprocessing, most)
    with source.feed(recipe, model.preprocessing, workers=workers) as feed:
        for warning in _warnings(source, watched, test):
            say(warning)
        feed.rows = group.rows(recipe.batch)
        judge = partial(corner_scores, data=watched, group=group)
        here = partial(Trainer, recipe, model, feed, folder, judge, group=group, parallel=parallel)
        trainer = here(progress=progress)
        trainer.watch, trainer.origins = watch, origins(recipe, source)
        trainer.skipped = feed.skipped
        group.agree(trainer.origins, "what the run is made from")
        trainer.teach = open_teacher(recipe, model, lambda: trainer.optimisation.averaged) or trainer.teach
        trainer.augment = Augmentation(
            preprocessing=model.preprocessing,
            num_classes=len(source.class_names),
            seed=recipe.seed,
            **recipe.augment.model_dump(),
        )
        if recipe.compile:  # the averaged model, which evaluates, is a copy from before
            compile_blocks(model)
        trained = trainer.run(resume=resume)
    metrics = {
        **describe(trained, test, group),
        "recipe": recipe.model_dump(mode="json"),
        "seconds": round(trainer.seconds, 1),
        "torch": torch.__version__,
        "start": begun.text,
        "skipped": dict(sorted(group.merged(feed.skipped).items())),
    }
    if group.first:
        save(trained, folder / "model.pt")
        write_json(folder / "metrics.json", metrics)
    return Trained(trained, folder / "model.pt", metrics, source.data)


def _warnings(source: Source, *splits: Dataset) -> list[str]:
    """What was decided about the data and may be other than meant, each once."""
    found = [source.findings, *(split.findings for split in splits)]
    told = [decision.text for findings in found for decision in findings.decisions if decision.warning]
    return list(dict.fromkeys(told))


def describe(model: AdaPerceiver, test: Dataset, group: Group = ALONE) -> dict[str, Any]:
    """What a model card says: metrics and FLOPs (executed convention) of every configuration."""
    config, scores = model.config, grid_scores(model, test, group)
    rows: list[dict[str, Any]] = [
        {
            "tokens": c.tokens,
            "width": c.width,
            "depth": c.depth,
            "cost_flops": flops(config, c, readout="folded", attention="block"),
            **{metric: round(value, 5) for metric, value in found.items()},
        }
        for c, found in scores.items()
    ]
    parameters = sum(p.numel() for p in model.parameters())
    span = rows[-1]["cost_flops"] / rows[0]["cost_flops"]
    return {
        "samples": len(test),
        "data": test.fingerprint,
        "parameters": parameters,
        "span": round(span, 3),
        "metric": headline(config.task),
        **named(scores, corners_of(model)),
        "grid": rows,
    }


def _tested(data: str) -> str:
    seen = "made of scans that training never saw"
    return f"test scenes, {seen}" if data == "digits" else "pictures of the test split"


def write_card(metrics: dict[str, Any], path: Path) -> None:
    """A model card beside a checkpoint, from its metrics, with the command that is running."""
    recipe, metric = metrics["recipe"], metrics["metric"]
    steps, batch = sum(stage["steps"] for stage in recipe["stages"]), recipe["accumulate"] * recipe["batch"]
    length = f"{steps:,} steps of {batch} samples, {metrics['seconds'] / 60:.0f} minutes"
    lines = [
        f"# Model card: {recipe['name']}",
        "",
        recipe["description"].strip(),
        "",
        f"- made by `{command_line()}` with recipe {recipe['name']}: {length}",
        f"- {metrics['parameters']:,} parameters; the grid spans {metrics['span']:.1f}x in FLOPs",
        f"- scored on {metrics['samples']:,} {_tested(recipe['data'])}",
        "",
        f"| configuration | {metric} |",
        "|---|---|",
    ]
    for name in ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest"):
        lines.append(f"| {name.replace('_', ' ')} | {score_text(metric, metrics[f'{metric}_{name}'])} |")
    lines += [
        "",
        "Every configuration:",
        "",
        f"| tokens | width | depth | MFLOPs | {metric} |",
        "|---|---|---|---|---|",
    ]
    for row in metrics["grid"]:
        cells = [row["tokens"], row["width"], row["depth"], f"{row['cost_flops'] / 1e6:.3f}"]
        lines.append(f"| {' | '.join(map(str, cells))} | {score_text(metric, row[metric])} |")
    write_text(path, "\n".join(lines) + "\n")
