"""What a model of maps is worth beside guesses made without looking, with intervals over the scenes.

    python experiments/dense/score.py CHECKPOINT --out experiments/dense/segmentation.json

The corners of the model's grid and every number of tokens, on tune and on test scenes. Guesses are counted on
training scenes: the most common class, the mean depth or offset, the median depth, one for all pixels or one
for each place. Writes a table of the test scenes beside the JSON.

n scenes, M summed columns (`DenseTask.metric_columns`).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from adapcli.data.dataset import Dataset, open_dataset
from adapcli.evaluation.dense.passes import DenseGridPass
from adapcli.evaluation.dense.task import DenseTask
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.checkpoint import load
from adapcli.model.config import ModelConfig
from adapcli.model.flops import executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.judging import corners_of
from policies.table.metrics import DatasetMetric, resampled

BATCH, RESAMPLES, CONFIDENCE = 250, 1000, 0.95
Columns = dict[str, NDArray[np.float64]]


def opened(model: AdaPerceiver, split: str, scenes: int) -> Dataset:
    return open_dataset(
        "digits", split=split, preprocessing=model.preprocessing, limit=scenes, task=model.config.task
    )


def batches(data: Dataset) -> list[tuple[int, int]]:
    return [(start, min(start + BATCH, len(data))) for start in range(0, len(data), BATCH)]


def asked(model: AdaPerceiver) -> dict[str, Configuration]:
    """Corners of the grid, then the numbers of tokens between, with the rest full."""
    corners, full = corners_of(model), model.config.full_configuration
    between = model.config.space.tokens[1:-1]
    return {**corners, **{f"tokens {t}": Configuration(t, full.width, full.depth) for t in between}}


def scored(model: AdaPerceiver, task: DenseTask, data: Dataset) -> Columns:
    """What the metrics sum, of every scene: name of the choice -> (n, M)."""
    choices = asked(model)
    configurations = list(dict.fromkeys(choices.values()))
    grid = DenseGridPass(model, configurations, full=configurations.index(model.config.full_configuration))
    kept = np.empty((len(configurations), len(data), len(task.metric_columns)))
    for first, last in batches(data):
        batch = data.batch(first, last)
        for column, start, stop, output in grid.outputs(batch.images):
            sums = task.score(task.answers(output.maps), batch.targets[start:stop])[1]
            kept[column, first + start : first + stop] = sums.numpy()
    return {name: kept[configurations.index(choice)] for name, choice in choices.items()}


def guesses(config: ModelConfig, data: Dataset) -> dict[str, Tensor]:
    """Answers made without looking, each as large as a target, from training scenes."""
    targets = [data.batch(start, stop).targets for start, stop in batches(data)]
    if config.task == "depth":
        seen = torch.cat(targets)
        mean, median = seen.double().mean(0).float(), seen.median(0).values
        return {
            "mean": torch.full_like(mean, mean.mean().item()),
            "median": torch.full_like(median, seen.median().item()),
            "mean of each place": mean,
            "median of each place": median,
        }
    if config.task == "centres":
        seen = torch.cat(targets)
        place = seen.nanmean(0).nan_to_num()
        mean = seen.transpose(0, 1).flatten(1).nanmean(1)
        return {"mean": mean[:, None, None].expand_as(place), "mean of each place": place}
    assert config.num_classes is not None
    counts = sum(one_hot(part, config.num_classes).sum(0) for part in targets)
    assert isinstance(counts, Tensor)
    common = counts.sum((0, 1)).argmax()
    return {
        "most common class": torch.full_like(counts[..., 0], int(common)),
        "most common class of each place": counts.argmax(-1),
    }


def guessed(task: DenseTask, answers: dict[str, Tensor], data: Dataset) -> Columns:
    """As `scored`, of the same answer for every scene."""
    targets = torch.cat([data.batch(start, stop).targets for start, stop in batches(data)])
    return {
        name: task.score(answer.expand_as(targets), targets)[1].double().numpy()
        for name, answer in answers.items()
    }


def told(task: DenseTask, columns: NDArray[np.float64], less: NDArray[np.float64] | None = None) -> Any:
    """Each metric's value and interval, or those of what it is above `less` on the same scenes."""
    return {metric.name: interval(metric, columns, less) for metric in task.dataset_metrics}


def interval(
    metric: DatasetMetric, columns: NDArray[np.float64], less: NDArray[np.float64] | None
) -> dict[str, float]:
    """A percentile bootstrap over scenes; both sides of a difference are drawn alike."""
    value = metric.value(columns.sum(0))
    drawn = metric.value(resampled(columns, resamples=RESAMPLES))
    if less is not None:
        value = value - metric.value(less.sum(0))
        drawn = drawn - metric.value(resampled(less, resamples=RESAMPLES))
    low, high = np.quantile(drawn, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return {name: round(float(x), 5) for name, x in {"value": value, "low": low, "high": high}.items()}


def split_of(model: AdaPerceiver, task: DenseTask, answers: dict[str, Tensor], data: Dataset) -> Any:
    """Everything that is told of one split."""
    of_model, of_guess = scored(model, task, data), guessed(task, answers, data)
    rivals = {"fewest_tokens": of_model["fewest_tokens"], **of_guess}
    choices = {
        name: {
            "tokens": c.tokens,
            "width": c.width,
            "depth": c.depth,
            "cost_flops": executed_flops(model.config, c),
            **told(task, of_model[name]),
        }
        for name, c in asked(model).items()
    }
    return {
        "scenes": len(data),
        "choices": choices,
        "guesses": {name: told(task, columns) for name, columns in of_guess.items()},
        "full_less": {name: told(task, of_model["full"], rival) for name, rival in rivals.items()},
    }


def shown(metric: DatasetMetric, entry: dict[str, float]) -> str:
    return f"{metric.text(entry['value'])} ({metric.text(entry['low'])} to {metric.text(entry['high'])})"


def table(task: DenseTask, found: Any) -> str:
    """Markdown: guesses, then choices from cheap to dear, each with its intervals."""
    titles = ["", "MFLOPs", *(metric.name for metric in task.dataset_metrics)]
    rows = [(name, "0", entry) for name, entry in found["guesses"].items()]
    dear = sorted(found["choices"].items(), key=lambda item: item[1]["cost_flops"])
    rows += [(name, f"{entry['cost_flops'] / 1e6:.2f}", entry) for name, entry in dear]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name, cost, entry in rows:
        cells = [shown(metric, entry[metric.name]) for metric in task.dataset_metrics]
        lines.append(f"| {' | '.join([name, cost, *cells])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", help="of a model that draws maps")
    parser.add_argument("--train", type=int, default=20_000, help="training scenes to count guesses on")
    parser.add_argument("--scenes", type=int, default=2_000, help="tune and test scenes to score on")
    parser.add_argument("--out", type=Path, help="write the result here as JSON, and a table beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.checkpoint)
    task = dense_task(model.config, model.config.image_size)
    answers = guesses(model.config, opened(model, "train", options.train))
    found: dict[str, Any] = {
        "task": model.config.task,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_scenes": options.train,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
    }
    for split in ("tune", "test"):
        found[split] = split_of(model, task, answers, opened(model, split, options.scenes))
    print(table(task, found["test"]), end="")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(table(task, found["test"]))


if __name__ == "__main__":
    main()
