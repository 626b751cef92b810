"""The mixer as a torch module, for training; `policies.rl.mixer` runs what comes out of it."""

import torch
from torch import Tensor, nn

from policies.rl.mixer import BLOCKS, EPSILON, HEAD, Shape


class Mixing(nn.Module):
    """A norm and two layers over the last axis."""

    def __init__(self, normed: int, size: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(normed, eps=EPSILON)
        self.up, self.down = nn.Linear(size, hidden), nn.Linear(hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        mixed: Tensor = self.down(nn.functional.gelu(self.up(x), approximate="tanh"))
        return mixed


class Block(nn.Module):
    """Mixes patches, then channels, both with a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = Mixing(shape.channels, shape.patches, shape.token_hidden)
        self.channels = Mixing(shape.channels, shape.channels, shape.channel_hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, E) -> (B, P, E)."""
        x = x + self.tokens(self.tokens.norm(x).mT).mT
        mixed: Tensor = x + self.channels(self.channels.norm(x))
        return mixed


class MixerModule(nn.Module):
    """Its state dict holds the weights of `Mixer`, by the same names."""

    def __init__(self, shape: Shape, price_nodes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(shape.channels, eps=EPSILON)
        first, last = nn.Linear(shape.channels + price_nodes, HEAD), nn.Linear(HEAD, shape.outputs)
        nn.init.zeros_(last.weight)
        self.head = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, x: Tensor, price: Tensor) -> Tensor:
        """Logits (B, A) of patches (B, P, E) at coded prices (B, 8)."""
        seen = self.norm(self.blocks(x)).mean(1)
        logits: Tensor = self.head(torch.cat([seen, price], dim=1))
        return logits
