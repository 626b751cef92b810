"""The once-for-all objective: one forward pass judges every configuration (paper section 3.3).

B batch, T latent tokens, L blocks, G token granularities, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.readout import FoldedReadout
from adapcli.space import Configuration
from adapcli.training.dense import Maps, dense_losses
from adapcli.training.losses import Targets, depth_weights, feature_distance, judged, judged_in_place
from adapcli.training.schema import Loss, Readouts, Stage


@dataclass(frozen=True)
class Pass:
    """One forward pass: what runs, one FFN width per sample where `widths` is given, and what is read out.

    tokens: granularities read out after the last block. depth_tokens: those of the earlier blocks' readouts;
    none: these are not read out. blocks: which of them are, counted from 0; None: all.
    """

    configuration: Configuration
    widths: tuple[int, ...] | None
    tokens: tuple[int, ...]
    depth_tokens: tuple[int, ...] = ()
    blocks: tuple[int, ...] | None = None

    @property
    def earlier(self) -> tuple[int, ...]:
        """The blocks before the last that are read out, counted from 0."""
        if not self.depth_tokens:
            return ()
        return tuple(range(self.configuration.depth - 1)) if self.blocks is None else self.blocks


@dataclass(frozen=True)
class Losses:
    """Scalars: what is minimised, and its parts."""

    total: Tensor
    token: Tensor
    depth: Tensor
    features: Tensor


def draw_passes(
    config: ModelConfig, stage: Stage, readouts: Readouts, batch: int, *, seed: int, number: int
) -> tuple[Pass, ...]:
    """The passes over one batch of B samples. What is random depends on (seed, number) alone."""
    generator = torch.Generator().manual_seed((seed << 32) + number)
    at, space = stage.at.of(config), config.space

    def drawn(values: tuple[int, ...], n: int = 1) -> tuple[int, ...]:
        return tuple(values[i] for i in torch.randint(len(values), (n,), generator=generator).tolist())

    widths = drawn(space.widths, batch) if "width" in stage.axes else None
    tokens: tuple[int, ...] = (at.tokens,)
    depth_tokens = tokens
    if "tokens" in stage.axes:
        depth_tokens = space.tokens if readouts.depth_tokens == "all" else drawn(space.tokens)
        tokens = space.tokens
        if readouts.tokens != "all":
            tokens = tuple(tokens[i] for i in _some(len(tokens), readouts.tokens, generator))
    blocks = None
    if "depth" not in stage.axes:
        depth_tokens = ()
    elif readouts.blocks != "all":
        blocks = _some(at.depth - 1, readouts.blocks, generator)
    run = Configuration(max(tokens + depth_tokens), at.width, at.depth)
    if widths is None or readouts.width == "implicit":
        return (Pass(run, widths, tokens, depth_tokens, blocks),)
    chosen = space.widths
    if readouts.width == "sandwich":
        chosen = tuple(sorted({space.widths[0], *drawn(space.widths), space.widths[-1]}))
    return tuple(
        Pass(Configuration(run.tokens, width, run.depth), None, tokens, depth_tokens, blocks)
        for width in chosen
    )


def _some(count: int, wanted: int, generator: torch.Generator) -> tuple[int, ...]:
    """So many of 0..count - 1, ascending; all if there are no more."""
    order: list[int] = torch.randperm(count, generator=generator)[:wanted].tolist()
    return tuple(sorted(order))


def pass_losses(
    model: AdaPerceiver,
    x: Tensor,
    targets: Targets,
    chosen: Pass,
    loss: Loss,
    readouts: Readouts,
    *,
    checkpointing: bool = False,
) -> Losses:
    """Run one pass over images (B, channels, height, width); class answers are read out by the folded form.

    targets: labels are maps (B, height, width) for dense tasks.
    checkpointing: activations inside blocks are computed again in the backward pass.
    """
    plan = model.plan(chosen.configuration, len(x), widths=chosen.widths, attention="dense")
    patches = model.embed(x)
    start = model.read(patches, chosen.configuration.tokens)
    latents = list(model.states(start, plan, recompute=checkpointing))
    folded = FoldedReadout.of(model, chosen.configuration.tokens) if model.config.classifies else None
    zero = latents[-1].new_zeros(())
    token = depth = features = zero
    if model.config.is_dense:
        maps = Maps(model, patches, targets.labels, loss, targets.total)
        token, depth = dense_losses(maps, latents, *_dense_readouts(model.config, chosen, readouts, x.device))
    elif folded is not None and targets.in_place:
        token, depth = _losses_in_place(folded, latents, targets, chosen, loss, readouts)
    elif folded is not None and (loss.labels or loss.distillation):
        weights = _token_weights(model.config, chosen.tokens, readouts, x.device)
        token = (judged(folded.logits(latents[-1], chosen.tokens), targets, loss) * weights).sum()
        if chosen.earlier:
            depth = _depth_loss(folded, latents[:-1], targets, chosen, loss, readouts)
    if loss.features:
        features = _feature_loss(model, patches, latents[-1], targets, chosen.tokens, loss)
    total = token + readouts.depth_share * depth + loss.features * features
    return Losses(total, token, depth, features)


def _depth_loss(
    folded: FoldedReadout,
    earlier: list[Tensor],
    targets: Targets,
    chosen: Pass,
    loss: Loss,
    readouts: Readouts,
) -> Tensor:
    """The readouts of every earlier block, or of those drawn, weighted."""
    batch, blocks = earlier[0].shape[0], len(chosen.earlier)
    stacked = torch.stack([earlier[block] for block in chosen.earlier], 1).flatten(0, 1)
    logits = folded.logits(stacked, chosen.depth_tokens).view(batch, blocks * len(chosen.depth_tokens), -1)
    per_readout = judged(logits, targets, loss).view(blocks, -1)
    config, device = folded.model.config, logits.device
    tokens = _token_weights(config, chosen.depth_tokens, readouts, device)
    return _block_weights(chosen, readouts, device) @ (per_readout @ tokens)


def _block_weights(chosen: Pass, readouts: Readouts, device: torch.device) -> Tensor:
    """Of the earlier blocks read out; they sum to 1."""
    weights = depth_weights(chosen.configuration.depth, readouts.depth)
    if chosen.blocks is not None:
        weights = weights[list(chosen.blocks)]
        weights = weights / weights.sum()
    return weights.to(device)


def _dense_readouts(
    config: ModelConfig, chosen: Pass, readouts: Readouts, device: torch.device
) -> tuple[list[tuple[int, Tensor]], list[tuple[int, int, Tensor]]]:
    """What `dense_losses` reads out of a pass: prefixes with their weights, and blocks and prefixes."""
    last = zip(chosen.tokens, _token_weights(config, chosen.tokens, readouts, device), strict=True)
    if not chosen.earlier:
        return list(last), []
    prefixes = _token_weights(config, chosen.depth_tokens, readouts, device)
    blocks = zip(chosen.earlier, _block_weights(chosen, readouts, device), strict=True)
    earlier = [(b, t, w * v) for b, w in blocks for t, v in zip(chosen.depth_tokens, prefixes, strict=True)]
    return list(last), earlier


def _losses_in_place(
    folded: FoldedReadout,
    latents: list[Tensor],
    targets: Targets,
    chosen: Pass,
    loss: Loss,
    readouts: Readouts,
) -> tuple[Tensor, Tensor]:
    """Token and depth loss of all readouts together, which learn from one another."""
    read = latents if chosen.depth_tokens else latents[-1:]
    logits = folded.logits(torch.stack(read, 1).flatten(0, 1), chosen.tokens)
    losses_LG = judged_in_place(logits.view(-1, len(read), *logits.shape[1:]), targets.labels, loss)
    losses_L = losses_LG @ _token_weights(folded.model.config, chosen.tokens, readouts, logits.device)
    earlier = depth_weights(len(read), readouts.depth).to(logits.device) @ losses_L[:-1]
    return losses_L[-1], earlier


def _feature_loss(
    model: AdaPerceiver, patches: Tensor, z: Tensor, targets: Targets, tokens: tuple[int, ...], loss: Loss
) -> Tensor:
    """Summed over granularities, as published."""
    teacher, size = targets.teacher.features, (model.config.image_size,) * 2
    assert teacher is not None

    def each() -> Iterator[Tensor]:
        for t in tokens:
            student = model.write_dense(z[:, :t], patches, size=size).features
            assert student is not None
            yield feature_distance(student, teacher, loss.cosine)

    return torch.stack(list(each())).sum()


def _token_weights(
    config: ModelConfig, tokens: tuple[int, ...], readouts: Readouts, device: torch.device
) -> Tensor:
    """Of each granularity read out; they sum to 1."""
    given = readouts.token_weights or (1.0,) * len(config.token_granularities)
    known = dict(zip(config.token_granularities, given, strict=True))
    weights = torch.tensor([known.get(t, 1.0) for t in tokens], device=device)
    return weights / weights.sum()
