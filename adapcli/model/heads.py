"""Task heads on patch features: segmentation and depth.

B batch, P patches, F feature channels, K classes or depth bins.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, layer_norm

from adapcli.model.config import ModelConfig
from adapcli.model.layers import LAYER_NORM_EPS
from adapcli.model.precision import as_written, wide


def _as_image(features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
    batch, _, channels = features_BPF.shape
    return features_BPF.transpose(1, 2).reshape(batch, channels, *grid)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, rows, columns), same shape out."""
        last = x.permute(0, 2, 3, 1)
        return layer_norm(last, last.shape[-1:], self.weight, self.bias, LAYER_NORM_EPS).permute(0, 3, 1, 2)


class SegmentationHead(nn.Module):
    """The linear probe: normalise, classify each patch, resize to the image (method: segmentation)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.output_feat_dim is not None
        assert config.num_classes is not None
        self.bn = ChannelNorm(config.output_feat_dim)
        self.conv_seg = nn.Conv2d(config.output_feat_dim, config.num_classes, 1)

    def forward(self, features_BPF: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Class logits (B, K, height, width)."""
        logits = self.conv_seg(self.bn(_as_image(features_BPF, grid)))
        return interpolate(logits, size=size, mode="bilinear", align_corners=False)


class DepthHead(nn.Module):
    """Depth as the expectation over bins spaced linearly between the nearest and the farthest distance."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.output_feat_dim is not None
        self.nearest, self.farthest = config.min_depth, config.max_depth
        self.conv_seg = nn.Conv2d(config.output_feat_dim, config.num_bins, 3, padding=1)

    def forward(self, features_BPF: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Metres (B, 1, height, width), float32 at least; clamped to the range in evaluation."""
        fine = interpolate(
            _as_image(features_BPF, grid), scale_factor=4, mode="bilinear", align_corners=False
        )
        weight = wide(self.conv_seg(fine)).relu() + 0.1
        bins = torch.linspace(
            self.nearest, self.farthest, weight.shape[1], device=weight.device, dtype=weight.dtype
        )
        with as_written(weight.device):
            metres = torch.einsum("bkij,k->bij", weight / weight.sum(1, keepdim=True), bins)[:, None]
        if not self.training:
            metres = metres.clamp(self.nearest, self.farthest)
        return interpolate(metres, size=size, mode="bilinear", align_corners=False)
