"""AdaPerceiver: read patches into latents, process them, write the answer (arXiv 2511.18105, section 3).

Modules hold weights, never modes: what to run is an argument, so results never depend on call order.
B batch, P patches, T latent tokens, D model width, K classes, F feature channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_constant
from torch.utils.checkpoint import checkpoint

from adapcli.errors import UsageError
from adapcli.model.attention import Attention, KeysValues, group_ends
from adapcli.model.config import ModelConfig
from adapcli.model.flex import flex_mask
from adapcli.model.heads import make_head
from adapcli.model.initialise import initialise
from adapcli.model.layers import Block, CrossBlock, LearnedToken, OutputAdapter, PatchEmbed, PatchQueries
from adapcli.model.preprocessing import Preprocessing
from adapcli.model.rope import rotation
from adapcli.space import Configuration
from policies.shown import short_repr

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True)
class Output:
    """What one call answers; None where the model has no such output.

    logits (B, K); features (B, P, F); maps (B, K, height, width) class logits or (B, 1, height, width)
    metres; coarse: what maps are resized from (`heads`), which tells how sure they are; depth (B,) int64, the
    block after which each sample was read out.
    """

    __repr__ = short_repr

    logits: Tensor | None = None
    features: Tensor | None = None
    maps: Tensor | None = None
    coarse: Tensor | None = None
    depth: Tensor | None = None


# torch.export takes a configuration as a constant and takes an Output apart.
register_constant(Configuration)
torch.export.register_dataclass(Output, serialized_type_name="adapcli.Output")


@dataclass(frozen=True)
class Plan:
    """How to run the blocks: rotations (2, T, C/2), ends of the mask's groups, hidden units of each block."""

    rotation: Tensor
    ends: tuple[int, ...]
    hidden: tuple[int | Tensor, ...]
    attention: "Attention | BlockMask"


@dataclass(frozen=True)
class DenseQueries:
    """One query per patch: sink (B, P, D), and q (B, H, P, C), projected."""

    sink: Tensor
    q: Tensor

    def rows(self, start: int, stop: int) -> "DenseQueries":
        """Those of some images."""
        return DenseQueries(self.sink[start:stop], self.q[start:stop])


class AdaPerceiver(nn.Module):
    """One set of weights for every configuration. Names of parameters are the published ones."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.preprocessing = preprocessing or Preprocessing.published(config.image_size, config.in_channels)
        self.class_names = tuple(class_names)
        self.process_latents = LearnedToken(config.embed_dim)
        held = config.block_widths or (config.embed_dim,) * config.depth
        self.blocks = nn.ModuleList(Block(config, width) for width in held)
        self.patch_embed = PatchEmbed(config)
        self.read_head = CrossBlock(config)
        self._add_outputs(config)
        initialise(self, config.token_init_std)

    def _add_outputs(self, config: ModelConfig) -> None:
        d, task = config.embed_dim, config.task
        self.write_head = CrossBlock(config)
        if config.classifies:
            assert config.num_classes is not None
            self.output_latents: LearnedToken | PatchQueries = LearnedToken(1, d)
            self.output_adapter = OutputAdapter(config, config.num_classes, use_ffn=config.use_output_ffn)
        else:
            assert config.output_feat_dim is not None
            self.output_latents = PatchQueries(d)
            self.output_adapter = OutputAdapter(config, config.output_feat_dim, use_ffn=config.use_output_ffn)
        if task == "distillation":
            assert config.output_feat_dim is not None
            self.output_latents_feat = PatchQueries(d)
            self.write_head_feat = CrossBlock(config)
            self.output_adapter_feat = OutputAdapter(config, config.output_feat_dim, use_ffn=True)
        if config.is_dense:
            self.head = make_head(config)

    def __repr__(self) -> str:
        c, size = self.config, sum(parameter.numel() for parameter in self.parameters())
        grid = f"tokens {c.token_granularities}, widths {c.widths}, {c.depth} blocks"
        return f"AdaPerceiver({c.task}, {size:,} parameters, {grid}, on {self.device})"

    @property
    def full_configuration(self) -> Configuration:
        """All tokens, the full width, all blocks."""
        return self.config.full_configuration

    def forward(
        self,
        x: Tensor,
        configuration: Configuration | None = None,
        *,
        widths: Sequence[int] | None = None,
        granularities: Sequence[int] | None = None,
        attention: Attention = "block",
    ) -> Output:
        """Run one configuration (default: the full one) on images (B, channels, height, width).

        widths: one FFN width per sample, in place of the configuration's.
        granularities: another grouping of the block mask than the one trained with.
        attention: how the block mask is executed; the answers are the same.
        Raises UsageError for a configuration the model cannot run.
        """
        # x.shape[0], not len(x): torch.export leaves the batch free.
        configuration = configuration or self.full_configuration
        plan = self.plan(
            configuration, x.shape[0], widths=widths, granularities=granularities, attention=attention
        )
        patches = self.embed(x)
        for state in self.states(self.read(patches, configuration.tokens), plan):
            z = state
        depth = torch.full((x.shape[0],), configuration.depth, device=x.device)
        return self.write(z, patches, size=(x.shape[2], x.shape[3]), depth=depth)

    def plan(
        self,
        configuration: Configuration,
        batch: int,
        *,
        widths: Sequence[int] | None = None,
        granularities: Sequence[int] | None = None,
        attention: Attention = "block",
    ) -> Plan:
        """Check a configuration and work out what the blocks need to know."""
        self.config.check(configuration)
        if widths is not None:
            self.config.check_widths(widths)
            if len(widths) != batch:
                raise UsageError(f"widths: {len(widths)} values for a batch of {batch}")
        _check_mask(granularities, attention)
        hidden: tuple[int | Tensor, ...]
        if widths is None:
            hidden = self.config.block_hidden(configuration)
        else:
            units = torch.tensor([self.config.hidden(w) for w in widths], device=self.device)
            hidden = (units,) * configuration.depth
        ends = group_ends(configuration.tokens, granularities or self.config.token_granularities)
        flexible = attention == "flex" and self.config.mask == "block"
        executed = flex_mask(ends, self.device) if flexible else attention
        return Plan(self.rotation(configuration.tokens), ends, hidden, executed)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.process_latents.token.device

    @property
    def output_token(self) -> Tensor:
        """The learned token that the class answer is written into: (1, D)."""
        assert isinstance(self.output_latents, LearnedToken)
        return self.output_latents.token

    def rotation(self, tokens: int) -> Tensor:
        """Rotations of a run with `tokens` tokens: (2, T, C/2)."""
        c = self.config
        return rotation(
            tokens, c.head_dim, theta=c.rope_theta, trained_tokens=c.max_latent_tokens, device=self.device
        )

    def embed(self, x: Tensor) -> Tensor:
        """Images (B, channels, height, width) -> patches (B, P, D). Shared by every configuration."""
        if x.ndim != 4 or x.shape[1] != self.config.in_channels or min(x.shape[2:]) < self.config.patch_size:
            p, c = self.config.patch_size, self.config.in_channels
            raise UsageError(f"images of shape {tuple(x.shape)}: expected (batch, {c}, >= {p}, >= {p})")
        patches: Tensor = self.patch_embed(x)
        return patches

    def read(self, patches: Tensor, tokens: int) -> Tensor:
        """Patches (B, P, D) -> latents z_0 (B, T, D)."""
        return self.read_from(self.read_head.source(patches), self.rotation(tokens))

    def read_from(self, source: KeysValues, rotation: Tensor) -> Tensor:
        """Latents z_0 (B, T, D) for T rotations, from patches whose keys and values are known."""
        latents = self.process_latents.token.expand(source.keys.shape[0], rotation.shape[1], -1)
        return self.read_head.attend(latents, source, rotation)

    def states(self, z: Tensor, plan: Plan, *, recompute: bool = False) -> Iterator[Tensor]:
        """The latents after each block of the plan: z_1, z_2, ... each (B, T, D).

        recompute: keep no activations inside blocks, but compute them again in the backward pass.
        """
        for block, hidden in zip(self.blocks, plan.hidden, strict=False):
            arguments = (z, plan.rotation, plan.ends, hidden, plan.attention)
            z = checkpoint(block, *arguments, use_reentrant=False) if recompute else block(*arguments)
            yield z

    def write(
        self, z: Tensor, patches: Tensor, *, size: tuple[int, int], depth: Tensor | None = None
    ) -> Output:
        """Read an answer out of latents (B, T, D): the plain form, keys and values projected per token."""
        logits = None
        if self.config.classifies:
            logits = self.adapt(self.write_token(z, self.rotation(z.shape[1])))
        dense = self.write_dense(z, patches, size=size)
        return replace(dense, logits=logits, depth=depth)

    def write_dense(
        self, z: Tensor, patches: Tensor, *, size: tuple[int, int], queries: Tensor | None = None
    ) -> Output:
        """Features of each patch, and the maps made of them, of images of `size`; empty for a classifier.

        queries (Q,): features (B, Q, F) of these patches alone, and no maps, which need all.
        """
        if self.config.task == "classification":
            return Output()
        asked = patches if queries is None else patches[:, queries]
        features = self._features(asked, z, self.rotation(z.shape[1]))
        if not self.config.is_dense or queries is not None:
            return Output(features=features)
        return self._drawn(features, size)

    def dense_queries(self, patches: Tensor) -> "DenseQueries":
        """What every dense readout of these patches (B, P, D) asks, whatever the configuration."""
        assert isinstance(self.output_latents, PatchQueries)
        sink, attention = self.output_latents(patches), self.write_head.cattn
        return DenseQueries(sink, attention.split(attention.q(self.write_head.snk_norm(sink))))

    def draw(self, queries: "DenseQueries", source: KeysValues, size: tuple[int, int]) -> Output:
        """As `write_dense`, of segmentation and depth, with what its queries and latents share known before.

        source: keys and values of the latents, from `write_head.source`, rotated.
        """
        features = self.output_adapter(queries.sink + self.write_head.cattn.find(queries.q, source))
        return self._drawn(features, size)

    def _drawn(self, features: Tensor, size: tuple[int, int]) -> Output:
        grid = (size[0] // self.config.patch_size, size[1] // self.config.patch_size)
        coarse = self.head.coarse(features, grid)
        return Output(features=features, maps=self.head.resized(coarse, size), coarse=coarse)

    def _features(self, asked: Tensor, z: Tensor, rope: Tensor) -> Tensor:
        features: Tensor
        if self.config.task == "distillation":
            sink = self.output_latents_feat(asked)
            features = self.output_adapter_feat(self.write_head_feat(sink, z, rotate_keys=rope))
        else:
            sink = self.output_latents(asked)
            features = self.output_adapter(self.write_head(sink, z, rotate_keys=rope))
        return features

    def write_token(self, z: Tensor, rope: Tensor) -> Tensor:
        """The written output token, before the head: (B, D)."""
        sink = self.output_token.expand(z.shape[0], 1, -1)
        written: Tensor = self.write_head(sink, z, rotate_keys=rope)
        return written[:, 0]

    def adapt(self, written: Tensor) -> Tensor:
        """Written tokens (..., D) -> logits (..., K)."""
        answer: Tensor = self.output_adapter(written)
        return answer


def _check_mask(granularities: Sequence[int] | None, attention: str) -> None:
    if attention not in ("block", "dense", "flex"):
        raise UsageError(f"attention {attention!r}: expected 'block', 'dense' or 'flex'")
    if granularities is None:
        return
    ends = list(granularities)
    if not ends or ends[0] < 1 or ends != sorted(set(ends)):
        raise UsageError(f"granularities {ends}: expected distinct positive numbers in ascending order")
