"""What a session has computed so far for each of its samples, and choosing, copying and joining samples.

B samples, T latent tokens, P patches, D model width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from adapcli.model.attention import KeysValues


@dataclass
class State:
    """Every tensor has the samples first; None: not computed, or not needed any more.

    spent (B,) int64: FLOPs of readouts made, and of trunks given up at a restart. patches (B, P, D), source:
    their keys and values for the read. start: the latents read; latents: after the last block passed, both
    (B, T, D). blocks: keys and values of each block passed, of all tokens.
    """

    spent: Tensor
    patches: Tensor | None = None
    source: KeysValues | None = None
    start: Tensor | None = None
    latents: Tensor | None = None
    blocks: list[KeysValues] = field(default_factory=list)

    def tensors(self) -> Iterator[Tensor]:
        """All of them, in a fixed order."""
        yield from (t for t in self._singles() if t is not None)
        for pair in (self.source, *self.blocks):
            yield from pair or ()

    def nbytes(self) -> int:
        """Memory of all of them, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def copy(self) -> "State":
        """Another state of the same tensors."""
        return replace(self, blocks=list(self.blocks))

    def _rebuilt(self, tensors: Iterator[Tensor]) -> "State":
        singles = [None if t is None else next(tensors) for t in self._singles()]
        pairs = [
            None if pair is None else KeysValues(next(tensors), next(tensors))
            for pair in (self.source, *self.blocks)
        ]
        spent, patches, start, latents = singles
        assert spent is not None
        return State(spent, patches, pairs[0], start, latents, [pair for pair in pairs[1:] if pair])

    def _singles(self) -> tuple[Tensor | None, ...]:
        return self.spent, self.patches, self.start, self.latents


Chosen = tuple[State, Tensor | None]
"""A state and which of its samples: rows (n,) int64 on its device, or None for all."""


def gather(parts: Sequence[Chosen]) -> State:
    """The chosen samples of all parts, in order, each tensor copied once at most; of two types the wider."""
    if len(parts) == 1 and parts[0][1] is None:
        return parts[0][0].copy()
    rows = [chosen for _, chosen in parts]
    columns = zip(*(state.tensors() for state, _ in parts), strict=True)
    return parts[0][0]._rebuilt(_gathered(column, rows) for column in columns)


def _gathered(column: Sequence[Tensor], rows: Sequence[Tensor | None]) -> Tensor:
    sizes = [len(t) if chosen is None else len(chosen) for t, chosen in zip(column, rows, strict=True)]
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in column))
    whole = column[0].new_empty(sum(sizes), *column[0].shape[1:], dtype=dtype)
    for tensor, chosen, part in zip(column, rows, torch.split(whole, sizes), strict=True):
        if chosen is None:
            part.copy_(tensor)
        elif tensor.dtype != dtype:  # made under another autocast
            part.copy_(tensor.index_select(0, chosen))
        else:
            torch.index_select(tensor, 0, chosen, out=part)
    return whole


def after(earlier: Tensor | None, later: Tensor) -> Tensor:
    """Tokens (B, T, D) behind those that are there."""
    return later if earlier is None else torch.cat((earlier, later), dim=1)
