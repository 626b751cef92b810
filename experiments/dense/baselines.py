"""What can be said of scenes of digits without looking: the most common class, the mean depth, per pixel.

    python experiments/dense/baselines.py --out experiments/dense/baselines.json

Counted on training scenes, scored on tune and test scenes, by the metrics that training reports. `constant`:
one value for all pixels; `per pixel`: one for each place.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from adapcli.data.dataset import open_dataset
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.config import ModelConfig, Task
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.dense_grid import MapScores

SIDE, CLASSES, FARTHEST_M = 32, 11, 11.0
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.0,), (1.0,))


def targets(task: Task, split: str, scenes: int) -> Tensor:
    """(scenes, H, W)."""
    data = open_dataset("digits", split=split, preprocessing=PREPROCESSING, limit=scenes, task=task)
    return data.batch(0, scenes).targets


def guesses(task: Task, scenes: int) -> dict[str, Tensor]:
    """Maps as a model gives them, (1, K or 1, H, W), by name."""
    seen = targets(task, "train", scenes)
    if task == "depth":
        each = seen.double().mean(0).float()
        return {
            "constant": torch.full_like(each, each.mean().item())[None, None],
            "per pixel": each[None, None],
        }
    counts = one_hot(seen, CLASSES).sum(0).permute(2, 0, 1).float()
    everywhere = counts.sum((1, 2))[:, None, None].expand_as(counts)
    return {"constant": everywhere[None], "per pixel": counts[None]}


def scored(task: Task, guess: Tensor, target: Tensor) -> dict[str, float]:
    config = ModelConfig(task=task, num_classes=CLASSES, output_feat_dim=1, max_depth=FARTHEST_M)
    metric = MapScores(dense_task(config, SIDE))
    metric.add(guess.expand(len(target), -1, -1, -1), target)
    return {name: round(value, 4) for name, value in metric.scores().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=int, default=20_000, help="training scenes to count on")
    parser.add_argument("--scenes", type=int, default=2_000, help="tune and test scenes to score on")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, object] = {"train_scenes": options.train, "scenes": options.scenes}
    for task in ("segmentation", "depth"):
        maps = guesses(task, options.train)
        found[task] = {
            split: {
                name: scored(task, guess, targets(task, split, options.scenes))
                for name, guess in maps.items()
            }
            for split in ("tune", "test")
        }
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
