"""A small network in plain numpy, as policies keep and run it: no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from policies.errors import UsageError

Floats = npt.NDArray[np.float64]

PARTS = ("weight", "bias")


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0.0)


def _tanh(x: Floats) -> Floats:
    return np.tanh(x)


def _relu_slope(x: Floats) -> Floats:
    return (x > 0).astype(np.float64)


def _tanh_slope(x: Floats) -> Floats:
    return np.asarray(1 - np.tanh(x) ** 2, dtype=np.float64)


ACTIVATIONS = {"tanh": _tanh, "relu": _relu}
SLOPES = {"tanh": _tanh_slope, "relu": _relu_slope}


@dataclass(frozen=True, eq=False)
class Network:
    """Layers of weights (out, in) and biases (out,), with one activation between them."""

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS or not self.weights or len(self.weights) != len(self.biases):
            raise UsageError(f"a network of {len(self.weights)} layers with activation {self.activation!r}")
        inner = [self.inputs, *(len(weight) for weight in self.weights)]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.shape != (inner[i + 1], inner[i]) or bias.shape != (inner[i + 1],):
                raise UsageError(f"layer {i}: weight {weight.shape} and bias {bias.shape} do not fit")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise UsageError(f"layer {i}: weights are not finite")

    @classmethod
    def zeros(cls, sizes: Sequence[int], activation: str = "tanh") -> Self:
        """A network that says nothing yet, of layers of these sizes, the input's first."""
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        return cls(tuple(map(np.zeros, shapes)), tuple(np.zeros(out) for out, _ in shapes), activation)

    @property
    def inputs(self) -> int:
        """Size of the input."""
        return int(self.weights[0].shape[-1])

    @property
    def outputs(self) -> int:
        """Size of the output."""
        return len(self.biases[-1])

    @property
    def flops(self) -> int:
        """FLOPs per sample, 2 per multiply-add of the matrices."""
        return 2 * sum(int(weight.size) for weight in self.weights)

    def __call__(self, x: npt.NDArray[Any]) -> Floats:
        """Outputs (n, K) of inputs (n, D), in float64, so that neighbours do not change them."""
        hidden = np.asarray(x, dtype=np.float64)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = (ACTIVATIONS[self.activation](hidden) if i else hidden) @ weight.T + bias
        return hidden

    def slope(
        self, x: npt.NDArray[Any], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
    ) -> Floats:
        """How output first[i] less output second[i] changes with each input of row i, (n, D)."""
        hidden, inner = np.asarray(x, dtype=np.float64), []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            inner.append(hidden @ weight.T + bias)
            hidden = ACTIVATIONS[self.activation](inner[-1])
        found = self.weights[-1][first] - self.weights[-1][second]
        for weight, before in zip(self.weights[-2::-1], inner[::-1], strict=True):
            found = (found * SLOPES[self.activation](before)) @ weight
        return found

    def take(self, columns: npt.NDArray[np.int64]) -> "Network":
        """The same network with some of its outputs."""
        weights = (*self.weights[:-1], self.weights[-1][columns])
        return replace(self, weights=weights, biases=(*self.biases[:-1], self.biases[-1][columns]))

    def parameters(self) -> dict[str, Any]:
        """What JSON can say."""
        return {"activation": self.activation, "layers": len(self.weights)}

    def arrays(self) -> dict[str, Floats]:
        """The layers by name: layer0.weight, layer0.bias, layer1.weight ..."""
        layers = enumerate(zip(self.weights, self.biases, strict=True))
        return {
            f"layer{i}.{part}": array for i, pair in layers for part, array in zip(PARTS, pair, strict=True)
        }

    @classmethod
    def restore(cls, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """From what `parameters` and `arrays` gave. KeyError, UsageError."""
        layers = range(int(parameters["layers"]))
        weights, biases = (
            tuple(arrays[f"layer{i}.{part}"].astype(np.float64) for i in layers) for part in PARTS
        )
        return cls(weights, biases, str(parameters["activation"]))
