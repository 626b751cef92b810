"""What a bench runs: configurations as they are executed here, and the model as published.

B batch, T latent tokens, D model width.
"""

import copy
from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor

from adapcli.errors import UnavailableError, UsageError
from adapcli.model.perceiver import AdaPerceiver, Output
from adapcli.model.readout import FoldedReadout, folded
from adapcli.space import Configuration

Forward = Callable[[Tensor], Output]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepared(model: AdaPerceiver, device: torch.device, dtype: str) -> AdaPerceiver:
    """A copy of the model on `device` with weights of type `dtype`, for inference. UsageError for others."""
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype}: not known", f"allowed: {', '.join(DTYPES)}")
    return copy.deepcopy(model).to(device, DTYPES[dtype]).eval().requires_grad_(False)


def images(model: AdaPerceiver, batch: int) -> Tensor:
    """Seeded noise (B, channels, height, width) of the model's own size, type and device."""
    size, generator = model.preprocessing.size, torch.Generator().manual_seed(0)
    noise = torch.randn(batch, model.config.in_channels, size, size, generator=generator)
    return noise.to(model.process_latents.token)


class Static:
    """One configuration as executed: FFNs sliced, attention group by group, the readout folded.

    Where the readout's queries come from patches there is nothing to fold, and it is the plain one.
    """

    def __init__(self, model: AdaPerceiver, configuration: Configuration) -> None:
        model.config.check(configuration)
        self.model, self.configuration = model, configuration
        constant = model.config.task == "classification"
        self.readout: FoldedReadout | None = folded(model, configuration.tokens) if constant else None

    def __call__(self, x: Tensor) -> Output:
        """Images (B, channels, height, width) -> the model's answer."""
        patches = self.model.embed(x)
        z = self.model.read(patches, self.configuration.tokens)
        for state in self.model.states(z, self.model.plan(self.configuration, len(x))):
            z = state
        if self.readout is not None:
            return Output(logits=self.readout.logits(z)[:, 0])
        return self.model.write(z, patches, size=(x.shape[2], x.shape[3]))

    def tensors(self) -> list[Tensor]:
        """What it holds beside the model's weights."""
        r = self.readout
        return [] if r is None else [r.keys_THD, r.key_bias_TH, r.values_HDC, r.value_bias_HC, r.sink_D]


class Direct:
    """The full configuration as published: `model(x)`, dense attention, plain readout."""

    def __init__(self, model: AdaPerceiver) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> Output:
        """Images (B, channels, height, width) -> the model's answer."""
        answer: Output = self.model(x, attention="dense")
        return answer


def compiled(forward: Forward) -> Forward:
    """`forward` through torch.compile for exactly the shapes it is called with.

    Each gets code of its own: torch keeps what it compiled by code object, looks through it at every call,
    and gives up after a few. UnavailableError where torch cannot compile, when first called.
    """

    def run(x: Tensor) -> Output:
        return forward(x)

    own = FunctionType(run.__code__.replace(), run.__globals__, "run", None, run.__closure__)
    call = torch.compile(own, dynamic=False)

    def first_told(x: Tensor) -> Output:
        try:
            answer: Output = call(x)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise UnavailableError(f"torch cannot compile here: {reason}", "leave out --compile") from error
        return answer

    return first_told
