"""All configurations of a model in one pass per width.

By the prefix property the first t tokens of a long run equal a run of t tokens, and a deep run passes every
shallower one: so a width needs one run, read out after each block at every token count. Where the property
does not hold (no mask, tokens outside the mask's groups, beyond the trained length) each token count runs by
itself.

B batch, T latent tokens, D model width, G prefixes, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.model.config import ModelConfig
from adapcli.model.flops import input_flops, read_flops, readout_flops, trunk_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.readout import folded
from adapcli.space import Configuration

READOUT_BYTES = 1 << 23
"""Latents of several blocks are read out together up to this size: fewer calls, and still in the cache."""


@dataclass(frozen=True)
class Reading:
    """What to read after some blocks: `prefixes` of the latents after each block of `depths`.

    columns: for each depth and prefix, in this order, the index of the configuration.
    """

    depths: tuple[int, ...]
    prefixes: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Pass:
    """One run of the blocks: its configuration, and the readings on its way, by ascending depth."""

    run: Configuration
    readings: tuple[Reading, ...]


def plan_passes(config: ModelConfig, configurations: Sequence[Configuration]) -> list[Pass]:
    """The fewest runs that visit every configuration; columns are indices into `configurations`.

    UsageError for a width per block: those share no pass.
    """
    runs: dict[tuple[int, int], list[int]] = {}
    for index, configuration in enumerate(configurations):
        if not isinstance(configuration.width, int):
            raise UsageError(f"{configuration}: a sweep takes one width for all blocks")
        alone = 0 if _is_prefix(config, configuration.tokens) else configuration.tokens
        runs.setdefault((alone, configuration.width), []).append(index)
    return [_pass(configurations, columns) for _, columns in sorted(runs.items())]


def _is_prefix(config: ModelConfig, tokens: int) -> bool:
    """Whether a run of `tokens` tokens is also the start of every longer run up to the trained length."""
    in_groups = config.mask == "causal" or tokens in config.token_granularities
    return config.has_prefix_property and in_groups and tokens <= config.max_latent_tokens


def _pass(configurations: Sequence[Configuration], columns: Sequence[int]) -> Pass:
    wanted: dict[int, dict[int, int]] = {}
    for column in columns:
        wanted.setdefault(configurations[column].depth, {})[configurations[column].tokens] = column
    tokens = max(configurations[column].tokens for column in columns)
    run = Configuration(tokens, configurations[columns[0]].width, max(wanted))
    same = groupby(sorted(wanted), key=lambda depth: tuple(sorted(wanted[depth])))
    return Pass(run, tuple(_reading(tuple(depths), prefixes, wanted) for prefixes, depths in same))


def _reading(
    depths: tuple[int, ...], prefixes: tuple[int, ...], wanted: dict[int, dict[int, int]]
) -> Reading:
    return Reading(depths, prefixes, tuple(wanted[depth][prefix] for depth in depths for prefix in prefixes))


def pass_flops(config: ModelConfig, passes: Sequence[Pass], image_size: int | None = None) -> int:
    """FLOPs of all passes on one sample, executed convention: input stage, runs and readouts.

    Each prefix counts as a readout of its own, although its attention shares the work of shorter ones.
    """
    reads = {tokens: read_flops(config, tokens, image_size) for tokens in {p.run.tokens for p in passes}}
    total = input_flops(config, image_size) + sum(reads.values())
    for p in passes:
        total += trunk_flops(config, p.run, image_size) - reads[p.run.tokens]
        counts = [(len(reading.depths), tokens) for reading in p.readings for tokens in reading.prefixes]
        total += sum(depths * readout_flops(config, tokens, image_size) for depths, tokens in counts)
    return total


class GridPass:
    """A model made ready to run `configurations`; `outputs` runs them all on a batch."""

    def __init__(self, model: AdaPerceiver, configurations: Sequence[Configuration]) -> None:
        self.model, self.n_configs = model, len(configurations)
        self.passes = plan_passes(model.config, configurations)
        for p in self.passes:
            folded(model, p.run.tokens)  # a model without a constant query is refused before anything runs

    @torch.inference_mode()
    def outputs(self, x: Tensor, patches: Tensor | None = None) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Images (B, channels, height, width) -> pieces (columns, logits (B, len(columns), K)).

        Every configuration appears in exactly one piece. patches: what the model embeds x as, if known.
        """
        patches = self.model.embed(x) if patches is None else patches
        latents: dict[int, Tensor] = {}
        for p in self.passes:
            if p.run.tokens not in latents:
                latents = {p.run.tokens: self.model.read(patches, p.run.tokens)}
            yield from self._run(p, latents[p.run.tokens])

    def _run(self, p: Pass, z: Tensor) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        states = enumerate(self.model.states(z, self.model.plan(p.run, len(z))), start=1)
        for reading in p.readings:
            columns = iter(reading.columns)
            for stack in self._stacks(reading, states):
                logits = self._read(p, stack, reading.prefixes)
                yield tuple(next(columns) for _ in range(logits.shape[1])), logits

    def _stacks(self, reading: Reading, states: Iterator[tuple[int, Tensor]]) -> Iterator[list[Tensor]]:
        """The latents to read, a few depths at a time."""
        stack: list[Tensor] = []
        for depth, z in states:
            if depth in reading.depths:
                stack.append(z)
            if stack and (depth == reading.depths[-1] or (len(stack) + 1) * _bytes(z) > READOUT_BYTES):
                yield stack
                stack = []
            if depth == reading.depths[-1]:
                return

    def _read(self, p: Pass, stack: list[Tensor], prefixes: tuple[int, ...]) -> Tensor:
        """Latents of S depths, each (B, T, D) -> logits (B, S * G, K)."""
        latents = torch.cat([z[:, : prefixes[-1]] for z in stack]) if len(stack) > 1 else stack[0]
        logits = folded(self.model, p.run.tokens).logits(latents, prefixes)
        return logits.view(len(stack), -1, *logits.shape[1:]).transpose(0, 1).flatten(1, 2)


def _bytes(z: Tensor) -> int:
    return z.numel() * z.element_size()
