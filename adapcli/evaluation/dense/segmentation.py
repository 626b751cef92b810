"""Segmentation: intersections and unions of classes, and what class logits say about themselves.

n images, K classes, H, W pixels; r, c cells of the grid that the head works on.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from adapcli.data.dense import IGNORE
from adapcli.errors import FileError
from adapcli.evaluation.dense.drawing import GREY, Map, Pixels, mask_png, palette
from adapcli.evaluation.dense.losses import LossOptions, Total, as_it_is, segmentation_loss
from adapcli.evaluation.dense.task import DenseTask
from adapcli.evaluation.outcomes import signals
from adapcli.model.config import ModelConfig
from policies.table.metrics import DatasetMetric

SURE = 0.9
LEAST = 0.1
"""The share of cells that counts as the least sure ones."""


def class_counts(answers: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pixels that both call a class, and pixels that either does: each (n, K) int64.

    answers, targets: (n, H, W) classes below `classes`; where the target is IGNORE, nothing counts.
    """
    image = torch.arange(len(answers), device=answers.device)[:, None] * classes
    answers, targets = answers.flatten(1).long(), targets.flatten(1).long()
    counts = targets != IGNORE
    answered, meant = (image + answers)[counts], (image + targets)[counts]
    size = len(answers) * classes
    both = torch.bincount(meant[answered == meant], minlength=size)
    either = torch.bincount(answered, minlength=size) + torch.bincount(meant, minlength=size) - both
    return both.view(-1, classes), either.view(-1, classes)


def image_iou(intersections: Tensor, unions: Tensor) -> Tensor:
    """Mean IoU over the classes in answer or target, per image: (n, K) -> (n,) float32.

    1 where no pixel counts: nothing was got wrong, and no configuration differs from another there.
    """
    present = unions > 0
    iou = intersections / unions.clamp_min(1)
    mean = iou.sum(-1) / present.sum(-1).clamp_min(1)
    return torch.where(present.any(-1), mean, 1.0).float()


class Segmentation(DenseTask):
    """Class maps. Kept per image and configuration: K intersections, then K unions, in pixels."""

    signal_names = (
        "mean_confidence",
        "mean_margin",
        "mean_entropy",
        "mean_log_odds",
        "sure_share",
        "least_confidence",
        "boundary_share",
    )
    told = ("mean_confidence", "least_confidence")
    score_name = "image IoU"
    headline = "miou"
    targets_name = "masks"

    def __init__(self, classes: int, pixels: int) -> None:
        self.classes = classes
        self.metrics_dtype = "uint16" if pixels < 2**16 else "uint32"
        every = tuple(range(classes))
        unions = tuple(k + classes for k in every)
        self.metric_columns = (
            *(f"intersection_{k}" for k in every),
            *(f"union_{k}" for k in every),
        )
        self.dataset_metrics = (DatasetMetric("mIoU", every, unions, "%"),)

    @classmethod
    def of(cls, config: ModelConfig, image_size: int) -> Self:
        """See DenseTask."""
        assert config.num_classes is not None
        return cls(config.num_classes, image_size**2)

    def check(self, targets: Tensor) -> None:
        """See DenseTask."""
        counted = targets[targets != IGNORE]
        if len(counted) and not 0 <= int(counted.min()) <= int(counted.max()) < self.classes:
            odd = int(counted.max() if counted.max() >= self.classes else counted.min())
            raise FileError(f"a mask holds class {odd}, the model knows 0 to {self.classes - 1}")

    def check_loss(self, options: LossOptions) -> None:
        """See DenseTask: gradients have a weight by default, which says nothing here."""

    def blank(self, images: int, size: int) -> Tensor:
        """See DenseTask: (images, size, size) int64."""
        return torch.full((images, size, size), IGNORE)

    def loss(self, maps: Tensor, targets: Tensor, options: LossOptions, total: Total = as_it_is) -> Tensor:
        """See DenseTask: cross-entropy of class logits (B, K, H, W) against classes (B, H, W)."""
        return segmentation_loss(maps, targets, options.label_smoothing, total)

    def answers(self, maps: Tensor) -> Tensor:
        """Class logits (n, K, H, W) -> classes (n, H, W) int64. Ties go to the first class."""
        return maps.argmax(1)

    def signals(self, coarse: Tensor) -> Tensor:
        """Of the logits (n, K, r, c) that are resized to the image, each cell as sure as its own softmax.

        Means over cells of what a class answer says about itself (`outcomes.signals`); sure_share: cells with
        a confidence of 0.9 or more; least_confidence: mean over the least sure tenth; boundary_share:
        neighbours with different classes.
        """
        logits = coarse.permute(0, 2, 3, 1)
        cells = signals(logits).flatten(1, 2)
        confidence, classes = cells[..., 0], logits.argmax(-1)
        few = max(1, round(LEAST * confidence.shape[1]))
        extra = (
            (confidence >= SURE).float().mean(1),
            confidence.topk(few, dim=1, largest=False).values.mean(1),
            _boundaries(classes),
        )
        return torch.cat((cells.mean(1), torch.stack(extra, 1)), 1).float()

    def score(self, answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See DenseTask: mean IoU over the classes present; intersections and unions."""
        both, either = class_counts(answers, targets, self.classes)
        return image_iou(both, either), torch.cat((both, either), 1)

    def agreement(self, answers: Tensor, full: Tensor) -> Tensor:
        """See DenseTask: mean IoU against the full configuration's map, every pixel counted."""
        return image_iou(*class_counts(answers, full, self.classes))

    def summary(self, sums: Tensor) -> dict[str, float]:
        """miou: the mean over the classes that occur in targets or answers; pixel_accuracy; in [0, 1]."""
        both, either = sums.view(2, -1)
        seen = either > 0
        # A wrong pixel is in the unions of two classes, a right one in an intersection and in a union.
        pixels = (both.sum() + either.sum()) / 2
        miou = float((both[seen] / either[seen]).mean())
        return {"miou": miou, "pixel_accuracy": float(both.sum() / pixels.clamp_min(1))}

    def file_facts(self, class_names: Sequence[str]) -> dict[str, Any]:
        """See DenseTask: pixel values are classes."""
        names = list(class_names) or [str(k) for k in range(self.classes)]
        colours = palette(len(names)).tolist() if len(names) <= 256 else None
        return {"classes": names, "colours": colours}

    def encoded(self, answer: Map) -> bytes:
        """See DenseTask: PNG with a palette."""
        return mask_png(answer, self.classes)

    def coloured(self, answer: Map, target: Map) -> Pixels:
        """See DenseTask: by palette; grey where ignored."""
        colours = np.tile(np.array(GREY, np.uint8), (max(IGNORE, self.classes) + 1, 1))
        colours[: self.classes] = palette(self.classes)
        return colours[answer]


def _boundaries(classes: Tensor) -> Tensor:
    """Share of neighbouring cells (n, r, c) with different classes, (n,)."""
    across, down = classes.diff(dim=2) != 0, classes.diff(dim=1) != 0
    pairs = max(1, across[0].numel() + down[0].numel())
    return (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / pairs
