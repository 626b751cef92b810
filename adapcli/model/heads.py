"""Task heads on patch features: segmentation, depth, centres, by a linear probe or a convolutional decoder.

B batch, P patches, F feature channels, C channels of the decoder, K classes or depth bins.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, layer_norm

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


class Head(nn.Module):
    """What every head of a dense task does: maps at whatever resolution it works at, resized to the image."""

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """Of the maps of one image, before they are resized; counted as `flops` counts."""
        raise NotImplementedError

    @staticmethod
    def held(config: ModelConfig, patches: int) -> int:
        """Values that one image takes while its maps are made, where they are not few beside the maps."""
        return 0

    def coarse(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """What the maps are resized from, and what tells how sure they are."""
        raise NotImplementedError

    def resized(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        """The maps (B, ..., height, width)."""
        return interpolate(coarse, size=size, mode="bilinear", align_corners=False)

    def forward(self, features_BPF: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """The maps: class logits (B, K, height, width), metres (B, 1, ...) or offsets (B, 2, ...)."""
        return self.resized(self.coarse(features_BPF, grid), size)


class SegmentationHead(Head):
    """The linear probe: normalise, classify each patch, resize to the image (method: segmentation)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.output_feat_dim is not None
        assert config.num_classes is not None
        self.bn = ChannelNorm(config.output_feat_dim)
        self.conv_seg = nn.Conv2d(config.output_feat_dim, config.num_classes, 1)

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """See Head."""
        return patches * (config.output_feat_dim or 0) * config.map_channels

    def coarse(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """Class logits of each patch, (B, K, rows, columns)."""
        logits: Tensor = self.conv_seg(self.bn(_as_image(features_BPF, grid)))
        return logits


class DepthHead(Head):
    """Depth as the expectation over bins spaced linearly between the nearest and the farthest distance."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.nearest, self.farthest = config.min_depth, config.max_depth
        self._add_layers(config)

    def _add_layers(self, config: ModelConfig) -> None:
        assert config.output_feat_dim is not None
        self.conv_seg = nn.Conv2d(config.output_feat_dim, config.num_bins, 3, padding=1)

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """See Head. The expectation over bins is a product with each of them."""
        return 16 * patches * config.num_bins * ((config.output_feat_dim or 0) * 9 + 1)

    @staticmethod
    def held(config: ModelConfig, patches: int) -> int:
        """See Head: the weights of the bins, and their shares."""
        return 2 * 16 * patches * config.num_bins

    def coarse(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """Metres and the bins' standard deviation around them, (B, 2, rows, columns), float32 at least.

        The metres are clamped to the range in evaluation; gradients flow through them alone.
        """
        weight = wide(self._weights(features_BPF, grid)).relu() + 0.1
        bins = torch.linspace(
            self.nearest, self.farthest, weight.shape[1], device=weight.device, dtype=weight.dtype
        )
        with as_written(weight.device):
            share = weight / weight.sum(1, keepdim=True)
            metres = torch.einsum("bkij,k->bij", share, bins)
            with torch.no_grad():
                variance = (share * (bins**2)[:, None, None]).sum(1) - metres**2
        if not self.training:
            metres = metres.clamp(self.nearest, self.farthest)
        return torch.stack((metres, variance.clamp_min(0).sqrt()), 1)

    def resized(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        """Metres (B, 1, height, width)."""
        return super().resized(coarse[:, :1], size)

    def _weights(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """How much each bin counts, before it is made positive: (B, K, rows, columns)."""
        image = _as_image(features_BPF, grid)
        fine = interpolate(image, scale_factor=4, mode="bilinear", align_corners=False)
        weights: Tensor = self.conv_seg(fine)
        return weights


class Decoder(nn.Module):
    """Convolutions over the patches' features, on a grid that doubles from stage to stage.

    Low-level detail comes with the features themselves: each is written into a query made of its patch.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.output_feat_dim is not None
        channels = (config.output_feat_dim, *config.decoder_channels)
        self.norm = ChannelNorm(channels[0])
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(ChannelNorm(count) for count in channels[1:])

    def forward(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, F) -> (B, C, rows * 2^stages, columns * 2^stages)."""
        x: Tensor = self.norm(_as_image(features_BPF, grid))
        for stage, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if stage:
                x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = gelu(norm(conv(x)))
        return x

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int, answers: int) -> int:
        """Of every stage: a 3 x 3 convolution on a grid of 4 times as many cells as the one before.

        answers: products for each cell of the last grid, in what is made of it.
        """
        channels = (config.output_feat_dim or 0, *config.decoder_channels)
        stages = sum((patches << 2 * stage) * 9 * a * b for stage, (a, b) in enumerate(pairwise(channels)))
        return stages + (patches << 2 * config.decoder_stages) * answers


class ConvSegmentationHead(Head):
    """The convolutional decoder, and a class for each of its cells."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.num_classes is not None
        self.decoder = Decoder(config)
        self.classes = nn.Conv2d(config.decoder_channels[-1], config.num_classes, 1)

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """See Head."""
        return Decoder.multiply_adds(config, patches, config.decoder_channels[-1] * config.map_channels)

    def coarse(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """Class logits of each cell, (B, K, rows, columns)."""
        logits: Tensor = self.classes(self.decoder(features_BPF, grid))
        return logits


class ConvDepthHead(DepthHead):
    """The convolutional decoder, and bins of depth for each of its cells."""

    def _add_layers(self, config: ModelConfig) -> None:
        self.decoder = Decoder(config)
        self.bins = nn.Conv2d(config.decoder_channels[-1], config.num_bins, 1)

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """See Head. The expectation over bins is a product with each of them."""
        return Decoder.multiply_adds(config, patches, (config.decoder_channels[-1] + 1) * config.num_bins)

    def _weights(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        weights: Tensor = self.bins(self.decoder(features_BPF, grid))
        return weights


class CentresHead(Head):
    """The linear probe of offsets to centres, in pixels: normalise, two values for each patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.output_feat_dim is not None
        self.norm = ChannelNorm(config.output_feat_dim)
        self.offsets = nn.Conv2d(config.output_feat_dim, config.map_channels, 1)

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """See Head."""
        return patches * (config.output_feat_dim or 0) * config.map_channels

    def coarse(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """Offsets of each patch's middle, (B, 2, rows, columns)."""
        offsets: Tensor = self.offsets(self.norm(_as_image(features_BPF, grid)))
        return offsets


class ConvCentresHead(Head):
    """The convolutional decoder, and two offsets for each of its cells."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.decoder = Decoder(config)
        self.offsets = nn.Conv2d(config.decoder_channels[-1], config.map_channels, 1)

    @staticmethod
    def multiply_adds(config: ModelConfig, patches: int) -> int:
        """See Head."""
        return Decoder.multiply_adds(config, patches, config.decoder_channels[-1] * config.map_channels)

    def coarse(self, features_BPF: Tensor, grid: tuple[int, int]) -> Tensor:
        """Offsets of each cell's middle, (B, 2, rows, columns)."""
        offsets: Tensor = self.offsets(self.decoder(features_BPF, grid))
        return offsets


HEADS: dict[tuple[str, str], type[Head]] = {
    ("segmentation", "linear"): SegmentationHead,
    ("segmentation", "conv"): ConvSegmentationHead,
    ("depth", "linear"): DepthHead,
    ("depth", "conv"): ConvDepthHead,
    ("centres", "linear"): CentresHead,
    ("centres", "conv"): ConvCentresHead,
}


def head_of(config: ModelConfig) -> type[Head]:
    """The kind of head of a dense task."""
    return HEADS[config.task, config.decoder]


def make_head(config: ModelConfig) -> Head:
    """The head of a dense task, called with features (B, P, F), their grid and the size of the maps."""
    return head_of(config)(config)
