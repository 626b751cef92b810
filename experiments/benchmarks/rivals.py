"""The model at some configurations beside models of timm: images per second.

Random weights, same batch, same dtype (the weights' own), compiled alike or not. The paper's headline is 1.36
times the throughput of FlexiViT-L. Functions for `gpu.py`.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adapcli.measure.latency import Stopwatch
from adapcli.model.compilation import VARIANTS
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import dtype_name
from adapcli.space import Configuration

RIVALS = {
    "published": (("flexivit_large.1200ep_in1k", 240), ("vit_huge_patch14_clip_224", 224)),
    "tiny": (("vit_tiny_patch16_224", 224),),
}
"""timm's names and sides of their images in pixels; shares are told against the first."""

HOW = "pip install 'adapcli[timm]' (torchvision must match torch: both from the same index)"


def configurations(model: AdaPerceiver) -> list[Configuration]:
    """Every token count at full width and depth, then narrower, then shallower."""
    tokens, widths, full = model.config.token_granularities, model.config.widths, model.full_configuration
    few, shallow = tokens[0], max(1, full.depth // 7)
    deep = [Configuration(t, full.width, full.depth) for t in reversed(tokens)]
    narrow = [Configuration(t, widths[0], full.depth) for t in (tokens[len(tokens) // 2], few)]
    return [*deep, *narrow, Configuration(few, widths[0], shallow)]


class Fixed(nn.Module):
    """The model at one configuration: images to logits."""

    def __init__(self, model: AdaPerceiver, configuration: Configuration) -> None:
        super().__init__()
        self.model, self.configuration = model, configuration

    def forward(self, x: torch.Tensor) -> torch.Tensor | None:
        return self.model(x, self.configuration).logits


@torch.inference_mode()
def compare(
    model: AdaPerceiver,
    size: str,
    stopwatch: Stopwatch,
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    compiled: bool,
) -> list[dict[str, Any]]:
    """Images per second of each, and over the first rival's."""
    ours, side = model.to(device, dtype), model.config.image_size
    entries: dict[str, tuple[nn.Module, int]] = {str(c): (Fixed(ours, c), side) for c in configurations(ours)}
    rivals = {name: (made.to(device, dtype), side) for name, (made, side) in created(size).items()}
    calls = {
        name: _forward(made, _images(made, batch, side, device, dtype), compiled)
        for name, (made, side) in {**entries, **rivals}.items()
    }
    times = stopwatch.measure(calls)
    speed = {name: batch / t.median_ms * 1000 for name, t in times.items()}
    rival = next(iter(rivals), None)
    facts = {"batch": batch, "weights": dtype_name(dtype), "compiled": compiled}
    return [
        {"what": name, **facts, "images_per_s": round(each, 1)}
        | ({f"over {rival}": round(each / speed[rival], 3)} if rival else {})
        for name, each in speed.items()
    ]


def created(size: str) -> dict[str, tuple[nn.Module, int]]:
    """timm's models and the sides of their images; none, with a word on stderr, where timm does not work."""
    try:
        import timm

        return {
            name: (timm.create_model(name, pretrained=False, num_classes=1000).eval(), side)
            for name, side in RIVALS[size]
        }
    except (ImportError, RuntimeError) as error:
        print(f"no rivals: {str(error).splitlines()[0]}; {HOW}", file=sys.stderr)
        return {}


def _images(
    model: nn.Module, batch: int, side: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    channels = next(p.shape[1] for p in model.parameters() if p.ndim == 4)  # of the patch convolution
    return torch.randn(batch, channels, side, side, device=device, dtype=dtype)


def _forward(model: nn.Module, x: torch.Tensor, compiled: bool) -> Callable[[], Any]:
    if not compiled:
        return lambda: model(x)
    torch._dynamo.config.recompile_limit = (
        VARIANTS  # one forward, many configurations: none may run uncompiled
    )
    run = torch.compile(model, dynamic=False)
    return lambda: run(x)
