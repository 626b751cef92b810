"""Two mixer blocks over patch embeddings, a price beside them, logits of actions. Plain numpy, no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.encoding import PRICE_NODES
from policies.errors import UsageError

BLOCKS = 2
HEAD = 64
EPSILON = 1e-5
LARGEST = 2**20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """P patches of E channels, hidden units of the two mixings, and logits in all."""

    patches: int
    channels: int
    token_hidden: int
    channel_hidden: int
    outputs: int

    def __post_init__(self) -> None:
        if not all(type(value) is int and 0 <= value <= LARGEST for value in asdict(self).values()):
            raise UsageError(f"a mixer of {asdict(self)}")

    @classmethod
    def of(cls, patches: int, channels: int, outputs: int) -> Self:
        """The usual proportions: twice the patches, half the channels."""
        return cls(patches, channels, 2 * patches, max(1, channels // 2), outputs)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by name."""
        found: dict[str, tuple[int, ...]] = {}
        for i in range(BLOCKS):
            found |= _mlp(f"blocks.{i}.tokens", self.channels, self.patches, self.token_hidden)
            found |= _mlp(f"blocks.{i}.channels", self.channels, self.channels, self.channel_hidden)
        found |= _linear("head.0", self.channels + PRICE_NODES, HEAD)
        return found | _norm("norm", self.channels) | _linear("head.2", HEAD, self.outputs)

    @property
    def flops(self) -> int:
        """FLOPs per sample, 2 per multiply-add of the matrices."""
        tokens = 2 * self.patches * self.token_hidden * self.channels
        channels = 2 * self.channels * self.channel_hidden * self.patches
        head = (self.channels + PRICE_NODES) * HEAD + HEAD * self.outputs
        return 2 * (BLOCKS * (tokens + channels) + head)


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _mlp(name: str, normed: int, size: int, hidden: int) -> dict[str, tuple[int, ...]]:
    parts = _linear(f"{name}.up", size, hidden) | _linear(f"{name}.down", hidden, size)
    return _norm(f"{name}.norm", normed) | parts


@dataclass(frozen=True, eq=False)
class Mixer:
    """The network: its shape, and its weights by the names of `Shape.tensors`."""

    shape: Shape
    weights: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        for name, shape in self.shape.tensors().items():
            array = self.weights[name]
            if array.shape != shape or not np.isfinite(array).all():
                raise UsageError(f"{name} of shape {array.shape}: expected finite values, {shape}")

    def __call__(self, x: npt.NDArray[Any], price: npt.NDArray[Any]) -> Floats:
        """Logits (n, A) of patches x (n, P, E) at coded prices (n, 8); float64, whatever the batch."""
        return self.decide(self.look(x), price)

    def look(self, x: npt.NDArray[Any]) -> Floats:
        """What the blocks make of patches x (n, P, E), whatever the price: (n, E)."""
        x = np.asarray(x, dtype=np.float64)
        for i in range(BLOCKS):
            tokens = self._normed(f"blocks.{i}.tokens.norm", x).swapaxes(1, 2)
            x = x + self._mlp(f"blocks.{i}.tokens", tokens).swapaxes(1, 2)
            x = x + self._mlp(f"blocks.{i}.channels", self._normed(f"blocks.{i}.channels.norm", x))
        return np.asarray(self._normed("norm", x).mean(axis=1), np.float64)

    def decide(self, seen: Floats, price: npt.NDArray[Any]) -> Floats:
        """Logits (n, A) of what was seen (n, E) at coded prices (n, 8)."""
        hidden = self._linear("head.0", np.concatenate([seen, price], axis=1))
        return self._linear("head.2", np.maximum(hidden, 0.0))

    def _linear(self, name: str, x: Floats) -> Floats:
        weight = self.weights[f"{name}.weight"].astype(np.float64)
        return np.asarray(x @ weight.T + self.weights[f"{name}.bias"], np.float64)

    def _mlp(self, name: str, x: Floats) -> Floats:
        return self._linear(f"{name}.down", _gelu(self._linear(f"{name}.up", x)))

    def _normed(self, name: str, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPSILON)
        return np.asarray(scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"], np.float64)


def _gelu(x: Floats) -> Floats:
    """The tanh form."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), np.float64)
