"""Depth: errors in metres over the pixels whose depth is known, and how far the bins are spread.

n images, H, W pixels; r, c cells of the grid that the head works on.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any, Self

import torch
from torch import Tensor

from adapcli.data.dense import UNKNOWN_M
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.dense.drawing import Map, Pixels, depth_png, depth_unit_m, shaded
from adapcli.evaluation.dense.losses import LossOptions, Total, as_it_is, depth_loss
from adapcli.evaluation.dense.task import DenseTask
from adapcli.model.config import ModelConfig
from policies.table.metrics import DatasetMetric

CLOSE = 1.25
"""delta_1: a pixel is right within this factor."""
LEAST = 0.1
"""The share of cells that counts as the least sure ones."""


def depth_sums(metres: Tensor, targets: Tensor, farthest: float) -> Tensor:
    """Per image, over pixels of known depth: count, close, squared error, relative error: (n, 4) float64.

    metres, targets: (n, H, W). Known means above 0 and at most `farthest`; close is a ratio below 1.25.
    """
    known = ((targets > UNKNOWN_M) & (targets <= farthest)).flatten(1)
    found, wanted = metres.flatten(1).double(), targets.flatten(1).double()
    wanted = torch.where(known, wanted, 1.0)
    error = torch.where(known, found - wanted, 0.0)
    ratio = torch.maximum(found / wanted, wanted / found)
    close = (ratio < CLOSE) & known
    return torch.stack((known.sum(1), close.sum(1), (error**2).sum(1), (error.abs() / wanted).sum(1)), 1)


def delta_1(metres: Tensor, targets: Tensor, farthest: float) -> Tensor:
    """The share of pixels of known depth that are within a factor of 1.25, (n,) float32; 1 if none."""
    return _share(depth_sums(metres, targets, farthest))


def _share(sums: Tensor) -> Tensor:
    known, close = sums[:, 0], sums[:, 1]
    return torch.where(known > 0, close / known.clamp_min(1), 1.0).float()


class Depth(DenseTask):
    """Maps of metres. Kept per image and configuration: the four sums of `depth_sums`."""

    signal_names = (
        "mean_sharpness",
        "least_sharpness",
        "mean_relative_spread",
        "mean_spread",
        "roughness",
        "mean_depth",
    )
    told = ("mean_sharpness", "mean_depth")
    score_name = "delta_1"
    headline, headline_unit = "rmse", "m"
    targets_name = "depth maps"
    metric_columns = ("known_pixels", "close_pixels", "squared_error", "relative_error")
    metrics_dtype = "float32"
    dataset_metrics = (
        DatasetMetric("RMSE", (2,), (0,), "m", root=True, lower_is_better=True),
        DatasetMetric("abs-rel", (3,), (0,), lower_is_better=True),
        DatasetMetric("delta_1", (1,), (0,), "%"),
    )

    def __init__(self, nearest: float, farthest: float) -> None:
        self.farthest = farthest
        self.even_spread = (farthest - nearest) / sqrt(12)

    @classmethod
    def of(cls, config: ModelConfig, image_size: int) -> Self:
        """See DenseTask."""
        return cls(config.min_depth, config.max_depth)

    def check(self, targets: Tensor) -> None:
        """See DenseTask."""
        if not bool(torch.isfinite(targets).all()) or bool((targets < 0).any()):
            raise FileError("a depth map holds values below 0, or that are no numbers")

    def check_loss(self, options: LossOptions) -> None:
        """See DenseTask."""
        if options.label_smoothing:
            raise UsageError("loss.label_smoothing: depths are no classes")

    def blank(self, images: int, size: int) -> Tensor:
        """See DenseTask: (images, size, size) float32."""
        return torch.full((images, size, size), UNKNOWN_M)

    def loss(self, maps: Tensor, targets: Tensor, options: LossOptions, total: Total = as_it_is) -> Tensor:
        """See DenseTask: `depth_loss` of metres (B, 1, H, W) against metres (B, H, W)."""
        return depth_loss(maps[:, 0], targets, self.farthest, options.gradients, total)

    def answers(self, maps: Tensor) -> Tensor:
        """Metres (n, 1, H, W) -> (n, H, W) float32 at least."""
        return maps[:, 0]

    def signals(self, coarse: Tensor) -> Tensor:
        """Of metres and the bins' spread around them (n, 2, r, c).

        Sharpness of a cell: 1 - spread / that of bins which all count alike; mean_sharpness, and least: mean
        over the least sharp tenth. mean_relative_spread: spread / metres; mean_spread: metres; roughness:
        mean |difference of log metres| of neighbours; mean_depth: metres.
        """
        metres, spread = coarse[:, 0].flatten(1), coarse[:, 1].flatten(1)
        sharp = 1 - spread / self.even_spread
        few = max(1, round(LEAST * sharp.shape[1]))
        found = (
            sharp.mean(1),
            sharp.topk(few, dim=1, largest=False).values.mean(1),
            (spread / metres).mean(1),
            spread.mean(1),
            _roughness(coarse[:, 0].log()),
            metres.mean(1),
        )
        return torch.stack(found, 1).float()

    def score(self, answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See DenseTask: delta_1, and the sums."""
        sums = depth_sums(answers, targets, self.farthest)
        return _share(sums), sums

    def agreement(self, answers: Tensor, full: Tensor) -> Tensor:
        """See DenseTask: delta_1 against the full configuration's map, every pixel counted."""
        return delta_1(answers, full, float("inf"))

    def summary(self, sums: Tensor) -> dict[str, float]:
        """rmse in metres; abs_rel; delta_1: the share of pixels within a factor of 1.25."""
        known, close, squares, relative = sums.tolist()
        n = max(known, 1)
        return {"rmse": (squares / n) ** 0.5, "abs_rel": relative / n, "delta_1": close / n}

    def file_facts(self, class_names: Sequence[str]) -> dict[str, Any]:
        """See DenseTask."""
        return {"metres_per_unit": depth_unit_m(self.farthest)}

    def encoded(self, answer: Map) -> bytes:
        """See DenseTask: 16-bit PNG with a scale."""
        return depth_png(answer, depth_unit_m(self.farthest))

    def coloured(self, answer: Map, target: Map) -> Pixels:
        """See DenseTask: by a scale that the target sets."""
        known = target[target > UNKNOWN_M]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        return shaded(answer, float(low), float(high), answer > UNKNOWN_M)


def _roughness(logs: Tensor) -> Tensor:
    across, down = logs.diff(dim=2).abs(), logs.diff(dim=1).abs()
    pairs = max(1, across[0].numel() + down[0].numel())
    return (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / pairs
