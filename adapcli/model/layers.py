"""Elastic layers: what a block is made of.

B batch, T latent tokens, P patches, D model width, F hidden units.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear

from adapcli.model.attention import Attention, CrossAttention, KeysValues, SelfAttention
from adapcli.model.config import ModelConfig

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

LAYER_NORM_EPS = 1e-6  # as published; torch's default misses the golden values by 1e-4


def layer_norm(dim: int) -> nn.LayerNorm:
    """LayerNorm with the published epsilon."""
    return nn.LayerNorm(dim, eps=LAYER_NORM_EPS)


class MatryoshkaFFN(nn.Module):
    """A two-layer FFN of which the first `hidden` units may run alone (paper section 3, Matryoshka FFN).

    With `kind` swiglu a gate is sliced like fc1, and the output is fc2(gelu(gate) * fc1).
    """

    def __init__(self, dim: int, hidden: int, out: int, kind: Literal["mlp", "swiglu"]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden) if kind == "swiglu" else None
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x_BTD: Tensor, hidden: int | Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, out).

        hidden: None for all units, an int for the first so many (really sliced), or a (B,) tensor for a
        number per sample (masked: same answer, no time saved).
        """
        if isinstance(hidden, Tensor):
            masked = self._inner(x_BTD, None) * self._mask(hidden)
            return linear(masked, self.fc2.weight, self.fc2.bias)
        return linear(self._inner(x_BTD, hidden), self.fc2.weight[:, :hidden], self.fc2.bias)

    def _inner(self, x_BTD: Tensor, hidden: int | None) -> Tensor:
        first = linear(x_BTD, self.fc1.weight[:hidden], self.fc1.bias[:hidden])
        if self.gate is None:
            return gelu(first)
        return gelu(linear(x_BTD, self.gate.weight[:hidden], self.gate.bias[:hidden])) * first

    def _mask(self, hidden_B: Tensor) -> Tensor:
        units = torch.arange(self.fc1.out_features, device=hidden_B.device)
        return (units < hidden_B[:, None])[:, None].to(self.fc1.weight.dtype)


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm self-attention and pre-norm Matryoshka FFN, each with LayerScale and a residual.

    `width` is the widest that its FFN can run.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        d = config.embed_dim
        self.mask = config.mask
        self.norm1 = layer_norm(d)
        self.attn = SelfAttention(d, config.num_heads, qkv_bias=config.qkv_bias, proj_bias=config.proj_bias)
        self.ls1 = LayerScale(d, config.layer_scale_init)
        self.norm2 = layer_norm(d)
        self.ffn = MatryoshkaFFN(d, config.hidden(width), d, config.ffn)
        self.ls2 = LayerScale(d, config.layer_scale_init)

    def forward(
        self,
        z_BTD: Tensor,
        rotation: Tensor,
        ends: Sequence[int],
        hidden: int | Tensor,
        attention: "Attention | BlockMask",
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), with `hidden` FFN units."""
        z_BTD = z_BTD + self.ls1(self.attn(self.norm1(z_BTD), rotation, self.mask, ends, attention))
        return self._feed(z_BTD, hidden)

    def extend(
        self, z_BTD: Tensor, rotation: Tensor, ends: Sequence[int], hidden: int, past: KeysValues | None
    ) -> tuple[Tensor, KeysValues]:
        """The tokens after those in `past`: (B, new T, D), and the keys and values of all tokens."""
        attended, present = self.attn.extend(self.norm1(z_BTD), rotation, self.mask, ends, past)
        return self._feed(z_BTD + self.ls1(attended), hidden), present

    def _feed(self, z_BTD: Tensor, hidden: int | Tensor) -> Tensor:
        out: Tensor = z_BTD + self.ls2(self.ffn(self.norm2(z_BTD), hidden))
        return out


class CrossBlock(nn.Module):
    """A read or a write: sink + CrossAttention(sink, source), both normalised; no LayerScale."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.embed_dim
        self.src_norm = layer_norm(d)
        self.snk_norm = layer_norm(d)
        self.cattn = CrossAttention(d, config.num_heads, qkv_bias=config.qkv_bias, proj_bias=config.proj_bias)

    def forward(
        self,
        sink_BTD: Tensor,
        source_BSD: Tensor,
        *,
        rotate_queries: Tensor | None = None,
        rotate_keys: Tensor | None = None,
    ) -> Tensor:
        """Sink (B, T, D) enriched with what it finds in source (B, S, D)."""
        return self.attend(sink_BTD, self.source(source_BSD, rotate_keys), rotate_queries)

    def source(self, source_BSD: Tensor, rotate_keys: Tensor | None = None) -> KeysValues:
        """Keys and values of a source (B, S, D), to be read once or many times."""
        return self.cattn.source(self.src_norm(source_BSD), rotate_keys)

    def attend(self, sink_BTD: Tensor, source: KeysValues, rotate_queries: Tensor | None = None) -> Tensor:
        """Sink (B, T, D) enriched with what it finds in a source of known keys and values."""
        return sink_BTD + self.cattn.attend(self.snk_norm(sink_BTD), source, rotate_queries)


class PatchProjection(nn.Module):
    """The convolution that turns patches into vectors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.in_channels, config.embed_dim, config.patch_size, stride=config.patch_size
        )


class PatchEmbed(nn.Module):
    """Patches plus absolute positions and, with `use_embed_ffn`, LayerNorm and an FFN without residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, side = config.embed_dim, config.image_size // config.patch_size
        self.embed = PatchProjection(config)
        self.pos_embed = nn.Parameter(torch.empty(1, side * side, d))
        self.norm = layer_norm(d) if config.use_embed_ffn else nn.Identity()
        self.ffn = (
            MatryoshkaFFN(d, config.hidden(d), d, config.ffn) if config.use_embed_ffn else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, height, width) -> (B, P, D)."""
        grid = self.embed.proj(x)
        patches = grid.flatten(2).transpose(1, 2) + self.positions(grid.shape[2], grid.shape[3])
        out: Tensor = self.ffn(self.norm(patches))
        return out

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, rows * columns, D): the stored square grid, resampled if the input's grid differs."""
        side = round(self.pos_embed.shape[1] ** 0.5)
        if (rows, columns) == (side, side):
            return self.pos_embed
        square = self.pos_embed.float().view(1, side, side, -1).permute(0, 3, 1, 2)
        resampled = interpolate(square, size=(rows, columns), mode="bicubic", antialias=True)
        return resampled.permute(0, 2, 3, 1).flatten(1, 2).type_as(self.pos_embed)


class LearnedToken(nn.Module):
    """One learned vector."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(*shape))


class PatchQueries(nn.Module):
    """One output query per patch, made from the patch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, patches_BPD: Tensor) -> Tensor:
        """(B, P, D) -> (B, P, D)."""
        queries: Tensor = self.proj(patches_BPD)
        return queries


class OutputAdapter(nn.Module):
    """From the written output to the answer: Linear, or LayerNorm and FFN."""

    def __init__(self, config: ModelConfig, out: int, *, use_ffn: bool) -> None:
        super().__init__()
        d = config.embed_dim
        self.norm = layer_norm(d) if use_ffn else nn.Identity()
        self.ffn = MatryoshkaFFN(d, config.hidden(d), out, config.ffn) if use_ffn else nn.Linear(d, out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., out)."""
        out: Tensor = self.ffn(self.norm(x))
        return out
