"""FLOPs of a configuration, counted from the architecture. 1 multiply-add = 2 FLOPs, batch 1.

Counted are the matrix products and convolutions, as torch's FlopCounterMode counts them with the math
attention backend: not normalisation, softmax, activations, additions, nor the resampling of positions.

Two conventions, never mixed:
- published: `readout="plain", attention="dense"`: every token attends to all, the write projects keys and
  values;
- executed: `readout="folded", attention="block"`: what this project runs. Tables and policies use this one.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import UsageError
from adapcli.model.attention import group_ends
from adapcli.model.config import ModelConfig
from adapcli.model.heads import head_of
from adapcli.space import Configuration

Readout = Literal["plain", "folded"]
Counted = Literal["block", "dense"]


def flops(
    config: ModelConfig,
    configuration: Configuration,
    image_size: int | tuple[int, int] | None = None,
    readout: Readout = "plain",
    attention: Counted = "dense",
) -> int:
    """FLOPs of one image through `configuration`, everything included up to and with one readout.

    image_size: pixels, one side or (height, width); default: the size the model was made for.
    Raises UsageError for what cannot be run, and for words that name no convention.
    """
    size = _pair(config, image_size)
    config.check(configuration)
    _check(size, config.patch_size, readout, attention)
    return (
        input_flops(config, size)
        + trunk_flops(config, configuration, size, attention)
        + readout_flops(config, configuration.tokens, size, readout)
    )


def executed_flops(
    config: ModelConfig, configuration: Configuration, image_size: int | tuple[int, int] | None = None
) -> int:
    """`flops` as this project runs it: folded readout, block attention."""
    return flops(config, configuration, image_size, readout="folded", attention="block")


def both_conventions(
    config: ModelConfig, configuration: Configuration, image_size: int | tuple[int, int] | None = None
) -> dict[str, int]:
    """FLOPs of one image as published (plain readout, dense attention) and as executed here, for JSON."""
    return {
        "published_flops": flops(config, configuration, image_size, readout="plain", attention="dense"),
        "executed_flops": executed_flops(config, configuration, image_size),
    }


def embed_flops(config: ModelConfig, image_size: int | tuple[int, int] | None = None) -> int:
    """The patches alone."""
    patches, d = _patches(config, image_size), config.embed_dim
    embed = patches * config.in_channels * config.patch_size**2 * d
    if config.use_embed_ffn:
        embed += patches * _ffn(config, config.hidden(d), d)
    return 2 * embed


def input_flops(config: ModelConfig, image_size: int | tuple[int, int] | None = None) -> int:
    """Patches, and their keys and values for the read: the stage that every configuration shares."""
    keys_values = _patches(config, image_size) * 2 * config.embed_dim**2
    return embed_flops(config, image_size) + 2 * keys_values


def read_flops(config: ModelConfig, tokens: int, image_size: int | tuple[int, int] | None = None) -> int:
    """The read of `tokens` latents from patches whose keys and values are known."""
    d = config.embed_dim
    return 2 * tokens * (2 * d * d + 2 * _patches(config, image_size) * d)


def trunk_flops(
    config: ModelConfig,
    configuration: Configuration,
    image_size: int | tuple[int, int] | None = None,
    attention: Counted = "block",
) -> int:
    """The read and all blocks. With block attention only the end of a path counts, not its steps."""
    t, d = configuration.tokens, config.embed_dim
    attended = _attended(config, t, attention)
    macs = 0
    for hidden in config.block_hidden(configuration):
        macs += t * (4 * d * d + _ffn(config, hidden, d)) + 2 * attended * d
    return read_flops(config, t, image_size) + 2 * macs


def readout_flops(
    config: ModelConfig,
    tokens: int,
    image_size: int | tuple[int, int] | None = None,
    readout: Readout = "folded",
    queries: int | None = None,
) -> int:
    """One readout of `tokens` latents, with the head.

    queries: only so many patches of a dense model are asked for; its head, which needs all, is left out then.
    """
    d, patches, macs = config.embed_dim, _patches(config, image_size), 0
    if config.classifies:
        assert config.num_classes is not None
        macs += _written_token(config, tokens, readout) + _adapter(
            config, config.num_classes, config.use_output_ffn
        )
    if config.task != "classification":
        assert config.output_feat_dim is not None
        use_ffn = config.use_output_ffn or config.task == "distillation"
        asked = patches if queries is None else queries
        macs += asked * (d * d + 2 * d * d + 2 * tokens * d) + tokens * 2 * d * d
        macs += asked * _adapter(config, config.output_feat_dim, use_ffn)
        macs += head_of(config).multiply_adds(config, patches) if queries is None and config.is_dense else 0
    return 2 * macs


def increments(
    config: ModelConfig, configurations: list[Configuration], image_size: int | tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """(C, C) FLOPs of going from a (read out) to b (read out) with everything reusable reused.

    Continuing (same width, no fewer tokens, no fewer blocks) pays the new part of the trunk and b's readout.
    Anything else restarts behind the input stage: patches, their keys and values, and latents already read
    are kept, since no width enters there. Executed convention.
    """
    trunk = [trunk_flops(config, c, image_size) for c in configurations]
    reading = [readout_flops(config, c.tokens, image_size) for c in configurations]
    matrix = np.zeros((len(configurations),) * 2)
    for i, a in enumerate(configurations):
        for j, b in enumerate(configurations):
            if i == j:
                continue
            kept = trunk[i] if continues(config, a, b) else _kept_read(config, a, b, image_size)
            matrix[i, j] = trunk[j] - kept + reading[j]
    return matrix


def continues(config: ModelConfig, a: Configuration, b: Configuration) -> bool:
    """Whether a run that has reached `a` goes on to `b` without computing anything again."""
    if b.depth < a.depth or b.tokens < a.tokens or b.widths()[: a.depth] != a.widths():
        return False
    if a.tokens == b.tokens:
        return True
    in_groups = config.mask == "causal" or a.tokens in config.token_granularities
    return config.has_prefix_property and in_groups and b.tokens <= config.max_latent_tokens


def _kept_read(
    config: ModelConfig, a: Configuration, b: Configuration, image_size: int | tuple[int, int] | None
) -> int:
    same_rotation = a.tokens == b.tokens or max(a.tokens, b.tokens) <= config.max_latent_tokens
    return read_flops(config, min(a.tokens, b.tokens), image_size) if same_rotation else 0


def memory_bytes(
    config: ModelConfig,
    configuration: Configuration,
    image_size: int | tuple[int, int] | None = None,
    *,
    batch: int = 1,
    bytes_per_value: int = 4,
) -> int:
    """An estimate: weights that the configuration touches, plus the largest set of activations alive at once.

    Alive at once is the larger of the embedding (patches, keys, values, hidden units of the embedding FFN)
    and one block (latents, normalised latents, queries, keys, values and attention output, or hidden
    units).
    """
    d, t, patches = config.embed_dim, configuration.tokens, _patches(config, image_size)
    gated = 2 if config.ffn == "swiglu" else 1
    hidden = config.block_hidden(configuration)
    weights = sum(4 * d * d + _ffn(config, units, d) for units in hidden)
    embedding_ffn = _ffn(config, config.hidden(d), d) if config.use_embed_ffn else 0
    weights += config.in_channels * config.patch_size**2 * d + patches * d + embedding_ffn + 8 * d * d
    weights += d * ((config.num_classes or 0) + (config.output_feat_dim or 0))
    embed = patches * (3 * d + (gated * config.hidden(d) if config.use_embed_ffn else 0))
    block = t * (2 * d + max(4 * d, gated * max(hidden)))
    return bytes_per_value * (weights + batch * max(embed, patches * d + block))


def session_bytes(
    config: ModelConfig,
    configuration: Configuration,
    image_size: int | tuple[int, int] | None = None,
    *,
    bytes_per_value: int = 4,
    caches: bool = True,
) -> int:
    """What an anytime session holds of one sample between two steps, at `configuration`; no weights.

    With caches: keys and values of every block passed and of the patches, the latents read, the latents
    reached. Without: the latents reached. Dense models hold the patches too.
    """
    d, t, patches = config.embed_dim, configuration.tokens, _patches(config, image_size)
    values = t * d + (patches * d if config.task != "classification" else 0)
    if caches:
        values += 2 * patches * d + t * d + 2 * t * d * configuration.depth
    return bytes_per_value * values + 8  # the cost so far


def _check(size: tuple[int, int], patch_size: int, readout: str, attention: str) -> None:
    if min(size) < patch_size:
        raise UsageError(f"image size {size[0]} x {size[1]}: smaller than a patch of {patch_size}")
    if readout not in ("plain", "folded"):
        raise UsageError(f"readout {readout!r}: expected 'plain' or 'folded'")
    if attention not in ("block", "dense"):
        raise UsageError(f"attention {attention!r}: expected 'block' or 'dense'")


def _pair(config: ModelConfig, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    if image_size is None:
        image_size = config.image_size
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def _patches(config: ModelConfig, image_size: int | tuple[int, int] | None) -> int:
    height, width = _pair(config, image_size)
    return (height // config.patch_size) * (width // config.patch_size)


def _ffn(config: ModelConfig, hidden: int, out: int) -> int:
    return hidden * ((2 if config.ffn == "swiglu" else 1) * config.embed_dim + out)


def _adapter(config: ModelConfig, out: int, use_ffn: bool) -> int:
    return _ffn(config, config.hidden(config.embed_dim), out) if use_ffn else config.embed_dim * out


def _attended(config: ModelConfig, tokens: int, attention: Counted) -> int:
    """Query-key pairs that are computed; masks other than block are executed dense."""
    if config.mask != "block" or attention == "dense":
        return tokens * tokens
    ends = group_ends(tokens, config.token_granularities)
    return sum((stop - start) * stop for start, stop in zip((0, *ends[:-1]), ends, strict=True))


def _written_token(config: ModelConfig, tokens: int, readout: Readout) -> int:
    d = config.embed_dim
    if readout == "plain":
        return d * d + tokens * 2 * d * d + 2 * tokens * d + d * d
    return 2 * tokens * config.num_heads * d + d * d + d * d
