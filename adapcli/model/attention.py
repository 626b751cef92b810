"""Attention: the latents among themselves (with a mask), and from one stream to another.

B batch, T latent tokens (queries), S source tokens (keys), D model width, H heads, C channels per head.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from adapcli.model.flex import flex
from adapcli.model.rope import rotate

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Attention = Literal["block", "dense", "flex"]
"""How a block mask is executed: group by group, as a mask over all pairs, or by torch's flex attention."""


def group_ends(tokens: int, granularities: Sequence[int]) -> tuple[int, ...]:
    """Where each group of the block mask ends in a run: the granularities below `tokens`, then `tokens`."""
    return (*(g for g in granularities if g < tokens), tokens)


def block_mask(ends: Sequence[int], device: torch.device) -> Tensor:
    """(T, T) booleans: token i may attend to j iff j's group is not later than i's."""
    group = torch.bucketize(
        torch.arange(ends[-1], device=device), torch.tensor(ends, device=device), right=True
    )
    return group[None, :] <= group[:, None]


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, ends: Sequence[int], start: int = 0) -> Tensor:
    """Each group's queries against its own and earlier keys: masked attention without the masked work.

    start: queries are those of tokens start.. alone, from a group's beginning; keys and values of all.
    """
    stops = [end for end in ends if end > start]
    return torch.cat(
        [
            scaled_dot_product_attention(q[:, :, a - start : b - start], k[:, :, :b], v[:, :, :b])
            for a, b in zip((start, *stops[:-1]), stops, strict=True)
        ],
        dim=2,
    )


class KeysValues(NamedTuple):
    """Keys and values of some tokens, each (B, H, T, C); keys rotated where the tokens are."""

    keys: Tensor
    values: Tensor


class QKV(nn.Module):
    """Query, key, value and output projections, kept apart as published."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool, proj_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)

    def split(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, C)."""
        return x_BTD.view(*x_BTD.shape[:-1], self.heads, x_BTD.shape[-1] // self.heads).transpose(1, 2)

    def merge(self, x_BHTC: Tensor) -> Tensor:
        """(B, H, T, C) -> (B, T, D), projected."""
        merged: Tensor = self.proj(x_BHTC.transpose(1, 2).flatten(2))
        return merged


class SelfAttention(QKV):
    """Latent self-attention with rotary positions."""

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Tensor,
        mask: Literal["block", "causal", "none"],
        ends: Sequence[int],
        attention: "Attention | BlockMask",
    ) -> Tensor:
        """(B, T, D) -> (B, T, D). `ends` delimit the mask's groups; `attention` says how it is executed.

        Flex attention takes its mask, made by `flex_mask`, in place of the word.
        """
        q, k, v = self.project(x_BTD, rotation)
        if mask == "block" and attention == "block":
            return self.merge(grouped_attention(q, k, v, ends))
        if mask == "block" and not isinstance(attention, str):
            return self.merge(flex(q, k, v, attention))
        allowed = block_mask(ends, x_BTD.device) if mask == "block" and len(ends) > 1 else None
        return self.merge(
            scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=mask == "causal")
        )

    def project(self, x_BTD: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys and values, each (B, H, T, C)."""
        q = rotate(self.split(self.q(x_BTD)), rotation)
        k = rotate(self.split(self.k(x_BTD)), rotation)
        return q, k, self.split(self.v(x_BTD))

    def extend(
        self,
        x_BTD: Tensor,
        rotation: Tensor,
        mask: Literal["block", "causal", "none"],
        ends: Sequence[int],
        past: "KeysValues | None",
    ) -> tuple[Tensor, "KeysValues"]:
        """The tokens after those in `past`, as a run of all of them would have them: (B, new T, D).

        Returns them with the keys and values of all tokens. rotation: of the new tokens.
        """
        q, k, v = self.project(x_BTD, rotation)
        if past is not None:
            k = torch.cat((past.keys.type_as(k), k), dim=2)
            v = torch.cat((past.values.type_as(v), v), dim=2)
        start = k.shape[2] - q.shape[2]
        if mask == "block":
            attended = grouped_attention(q, k, v, ends, start)
        elif mask == "causal" and start:
            seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(start)
            attended = scaled_dot_product_attention(q, k, v, attn_mask=seen)
        else:
            attended = scaled_dot_product_attention(q, k, v, is_causal=mask == "causal")
        return self.merge(attended), KeysValues(k, v)


class CrossAttention(QKV):
    """Attention from one stream to another; rotary positions on whichever side carries the latents."""

    def forward(
        self,
        x_BTD: Tensor,
        source_BSD: Tensor,
        *,
        rotate_queries: Tensor | None = None,
        rotate_keys: Tensor | None = None,
    ) -> Tensor:
        """Queries (B, T, D) against a source (B, S, D) -> (B, T, D)."""
        return self.attend(x_BTD, self.source(source_BSD, rotate_keys), rotate_queries)

    def source(self, source_BSD: Tensor, rotate_keys: Tensor | None = None) -> KeysValues:
        """Keys and values of a source (B, S, D), to be attended to once or many times."""
        k, v = self.split(self.k(source_BSD)), self.split(self.v(source_BSD))
        return KeysValues(k if rotate_keys is None else rotate(k, rotate_keys), v)

    def attend(self, x_BTD: Tensor, source: KeysValues, rotate_queries: Tensor | None = None) -> Tensor:
        """Queries (B, T, D) against keys and values -> (B, T, D)."""
        q = self.split(self.q(x_BTD))
        return self.find(q if rotate_queries is None else rotate(q, rotate_queries), source)

    def find(self, q_BHTC: Tensor, source: KeysValues) -> Tensor:
        """Known queries against known keys and values -> (B, T, D)."""
        k, v = source.keys.type_as(q_BHTC), source.values.type_as(q_BHTC)  # under another autocast, maybe
        return self.merge(scaled_dot_product_attention(q_BHTC, k, v))
