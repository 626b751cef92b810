"""What a bench runs: configurations as they are executed here, and the model as published."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from adapcli.model.compilation import compile_blocks
from adapcli.model.perceiver import AdaPerceiver, Output
from adapcli.model.precision import autocast
from adapcli.model.readout import FoldedReadout, folded
from adapcli.space import Configuration

Forward = Callable[[Tensor], Output]


def prepared(model: AdaPerceiver, device: torch.device, *, compiled: bool = False) -> AdaPerceiver:
    """A copy of the model on `device`, for inference alone. UnavailableError where torch cannot compile."""
    own = copy.deepcopy(model).to(device).eval().requires_grad_(False)
    return compile_blocks(own) if compiled else own


def images(model: AdaPerceiver, batch: int) -> Tensor:
    """Seeded noise (B, channels, height, width) of the model's own size, on its device.

    What is in an image changes the time of no configuration.
    """
    size, generator = model.preprocessing.size, torch.Generator().manual_seed(0)
    noise = torch.randn(batch, model.config.in_channels, size, size, generator=generator)
    return noise.to(model.device)


class Static:
    """One configuration as executed: FFNs sliced, attention group by group, a constant query folded."""

    def __init__(self, model: AdaPerceiver, configuration: Configuration) -> None:
        model.config.check(configuration)
        self.model, self.configuration = model, configuration
        self.name = str(configuration)

    def __call__(self, x: Tensor) -> Output:
        """Images (B, channels, height, width) -> the model's answer."""
        patches, readout = self.model.embed(x), self._readout()
        z = self.model.read(patches, self.configuration.tokens)
        for state in self.model.states(z, self.model.plan(self.configuration, len(x))):
            z = state
        logits = None if readout is None else readout.logits(z)[:, 0]
        dense = self.model.write_dense(z, patches, size=(x.shape[2], x.shape[3]))
        return replace(dense, logits=logits)

    def _readout(self) -> FoldedReadout | None:
        if not self.model.config.classifies:
            return None
        return folded(self.model, self.configuration.tokens)

    def tensors(self) -> list[Tensor]:
        """What it holds beside the model's weights."""
        return [value for value in vars(self._readout() or object).values() if isinstance(value, Tensor)]


class Direct:
    """The full configuration as published: `model(x)`, dense attention, plain readout."""

    name = "direct"

    def __init__(self, model: AdaPerceiver) -> None:
        self.model, self.configuration = model, model.full_configuration

    def __call__(self, x: Tensor) -> Output:
        """Images (B, channels, height, width) -> the model's answer."""
        answer: Output = self.model(x, attention="dense")
        return answer

    def tensors(self) -> list[Tensor]:
        """What it holds beside the model's weights: nothing."""
        return []


def in_dtype(forward: Forward, x: Tensor, dtype: torch.dtype) -> Callable[[], Output]:
    """`forward` on `x` as a call without arguments, without gradients, in `dtype` by autocast."""

    def call() -> Output:
        with torch.inference_mode(), autocast(x.device, dtype):
            return forward(x)

    return call
