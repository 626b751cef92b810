"""Instance centres: of every pixel of a digit, how far and where to its centre lies; votes, as of Hough.

As in the second head of Panoptic-DeepLab (arXiv 1911.10194): offsets are regressed, background is ignored.
n images, H, W pixels; r, c cells of the grid that the head works on. Channels: rows, columns, in pixels.
"""

import io
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from adapcli.errors import FileError, UsageError
from adapcli.evaluation.dense.drawing import GREY, Map, Pixels
from adapcli.evaluation.dense.losses import LossOptions, Total, as_it_is
from adapcli.evaluation.dense.task import DenseTask
from adapcli.model.config import ModelConfig
from policies.table.metrics import DatasetMetric

NEAR_PX = 2.0
"""A pixel is right whose vote lies within so many pixels of the centre."""
LEAST = 0.1
"""The share of neighbours that counts as the least agreeing ones."""


def offset_sums(offsets: Tensor, targets: Tensor) -> Tensor:
    """Per image, over pixels with a centre: count, near ones, sum of endpoint errors: (n, 3) float64.

    offsets, targets: (n, 2, H, W); NaN in targets: no centre. The endpoint error is the Euclidean distance.
    """
    counted = ~targets.isnan().any(1)
    apart = torch.where(counted[:, None], offsets.double() - targets.double(), 0.0)
    error = apart.square().sum(1).sqrt()
    near = (error <= NEAR_PX) & counted
    return torch.stack((counted.flatten(1).sum(1), near.flatten(1).sum(1), error.flatten(1).sum(1)), 1)


def centres_loss(offsets: Tensor, targets: Tensor, total: Total = as_it_is) -> Tensor:
    """Smooth L1 (quadratic below 1 pixel), the mean over pixels with a centre and the two axes; 0 if none."""
    counted = ~targets.isnan()
    found = torch.where(counted, offsets.float(), 0.0)
    losses = smooth_l1_loss(found, targets.float().nan_to_num(), reduction="sum")
    return total(losses) / total(counted.sum()).clamp_min(1)


class Centres(DenseTask):
    """Maps of offsets. Kept per image and configuration: the three sums of `offset_sums`."""

    signal_names = ("mean_consensus", "least_consensus", "mean_gap", "vote_spread", "mean_offset")
    told = ("mean_consensus", "mean_offset")
    score_name = "share within 2 px"
    headline, headline_unit = "endpoint_error", "px"
    targets_name = "offsets to centres"
    moves_with_pixels = False
    suffix = ".npy"
    metric_columns = ("scored_pixels", "near_pixels", "endpoint_error")
    metrics_dtype = "float32"
    dataset_metrics = (
        DatasetMetric("endpoint error", (2,), (0,), "px", lower_is_better=True),
        DatasetMetric("within 2 px", (1,), (0,), "%"),
    )

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    @classmethod
    def of(cls, config: ModelConfig, image_size: int) -> Self:
        """See DenseTask."""
        return cls(image_size)

    def check(self, targets: Tensor) -> None:
        """See DenseTask."""
        if targets.ndim != 4 or targets.shape[1] != 2 or bool(targets.isinf().any()):
            raise FileError("offsets to centres: expected finite rows and columns, or NaN for none")

    def check_loss(self, options: LossOptions) -> None:
        """See DenseTask."""
        if options.label_smoothing:
            raise UsageError("loss.label_smoothing: offsets are no classes")

    def blank(self, images: int, size: int) -> Tensor:
        """See DenseTask: (images, 2, size, size) float32."""
        return torch.full((images, 2, size, size), float("nan"))

    def loss(self, maps: Tensor, targets: Tensor, options: LossOptions, total: Total = as_it_is) -> Tensor:
        """See DenseTask: `centres_loss`."""
        return centres_loss(maps, targets, total)

    def answers(self, maps: Tensor) -> Tensor:
        """Offsets (n, 2, H, W) as they are."""
        return maps

    def signals(self, coarse: Tensor) -> Tensor:
        """Of the offsets (n, 2, r, c) that are resized to the image: whether neighbours vote for one place.

        The gap of two neighbours is the distance of their votes, in pixels; their consensus is
        exp(-(gap / 2 px)^2). mean_consensus; least_consensus: over the least agreeing tenth; mean_gap;
        vote_spread: root mean square distance of votes from their mean; mean_offset: length; in pixels.
        """
        votes = self._votes(coarse.float())
        across, down = votes.diff(dim=3).norm(dim=1), votes.diff(dim=2).norm(dim=1)
        gaps = torch.cat((across.flatten(1), down.flatten(1), votes.new_zeros(len(votes), 1)), 1)
        consensus = (-(gaps / NEAR_PX).square()).exp()
        few = max(1, round(LEAST * gaps.shape[1]))
        away = votes - votes.mean((2, 3), keepdim=True)
        found = (
            consensus.mean(1),
            consensus.topk(few, dim=1, largest=False).values.mean(1),
            gaps.mean(1),
            away.square().sum(1).mean((1, 2)).sqrt(),
            coarse.float().norm(dim=1).mean((1, 2)),
        )
        return torch.stack(found, 1)

    def _votes(self, coarse: Tensor) -> Tensor:
        """Where each cell's offset leads, in pixels of the image: (n, 2, r, c)."""
        rows, columns = (
            (torch.arange(count, device=coarse.device) + 0.5) * (self.image_size / count)
            for count in coarse.shape[2:]
        )
        return coarse + torch.stack(torch.meshgrid(rows, columns, indexing="ij"))

    def score(self, answers: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See DenseTask: the share of pixels whose vote is near; the sums. 1 where no pixel counts."""
        sums = offset_sums(answers, targets)
        return _share(sums), sums

    def agreement(self, answers: Tensor, full: Tensor) -> Tensor:
        """See DenseTask: the share of all pixels whose vote is near that of the full configuration."""
        return _share(offset_sums(answers, full))

    def summary(self, sums: Tensor) -> dict[str, float]:
        """endpoint_error: the mean over scored pixels; near: the share within 2 pixels."""
        scored, near, errors = sums.tolist()
        n = max(scored, 1)
        return {"endpoint_error": errors / n, "near": near / n}

    def file_facts(self, class_names: Sequence[str]) -> dict[str, Any]:
        """See DenseTask."""
        return {"axes": ["channel", "row", "column"], "channels": ["down", "right"], "unit": "px"}

    def encoded(self, answer: Map) -> bytes:
        """See DenseTask: a NumPy array (2, H, W) float32, signed and in fractions of pixels, as no PNG is."""
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(answer, np.float32), allow_pickle=False)
        return buffer.getvalue()

    def coloured(self, answer: Map, target: Map) -> Pixels:
        """See DenseTask: the direction is a hue, the centre is white; grey where the target has none."""
        from adapcli.plotting import colors

        counted: NDArray[np.bool_] = np.isfinite(target[0] + target[1])
        down, right = np.where(counted, answer, 0.0)
        farthest = max(float(np.hypot(*np.where(counted, target, 0.0)).max()), 1.0)
        hue = np.arctan2(down, right) / (2 * np.pi) % 1
        strength = np.clip(np.hypot(down, right) / farthest, 0, 1)
        levels = np.rint(255 * colors.hsv_to_rgb(np.stack((hue, strength, np.ones_like(hue)), -1)))
        return np.where(counted[..., None], levels, GREY).astype(np.uint8)


def _share(sums: Tensor) -> Tensor:
    counted, near = sums[:, 0], sums[:, 1]
    return torch.where(counted > 0, near / counted.clamp_min(1), 1.0).float()
