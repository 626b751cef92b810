"""Every configuration of a dense model on a batch: one pass per width, and memory for a few maps at a time.

The queries of a dense readout are made from the patches alone, so all readouts share them; the keys and
values of a depth's latents serve every prefix of its tokens. What is left for each configuration is its own
attention, adapter and head: with maps of many pixels these are most of a sweep, see `grid_flops`.

B batch, P patches, T latent tokens, D model width, K channels of the head.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.evaluation.passes import Pass, plan_passes
from adapcli.model.attention import KeysValues
from adapcli.model.config import ModelConfig
from adapcli.model.flops import input_flops, readout_flops, trunk_flops
from adapcli.model.heads import head_of
from adapcli.model.perceiver import AdaPerceiver, DenseQueries, Output
from adapcli.space import Configuration

MAP_BYTES = 1 << 26
"""Maps of as many images are made at once as fit, one at least."""
HELD_BYTES = 1 << 29
"""What a batch may hold beside its maps: patches, and the latents of the widest run after each block."""


class Drawn(NamedTuple):
    """What configuration `column` answers for images start..stop - 1 of the batch."""

    column: int
    start: int
    stop: int
    output: Output


class DenseGridPass:
    """A model made ready to run `configurations`; `outputs` runs them all on a batch."""

    def __init__(self, model: AdaPerceiver, configurations: Sequence[Configuration], full: int = -1) -> None:
        """full: the column that is answered first, for all images, since others are compared with it.

        UsageError for a model that draws no maps, and for what cannot share a pass.
        """
        if not model.config.is_dense:
            raise UsageError(f"a {model.config.task} model draws no maps")
        self.model, self.n_configs = model, len(configurations)
        self.full = full % len(configurations)
        columns = plan_passes(model.config, configurations)
        self.passes = sorted(columns, key=lambda p: self.full not in _columns(p))

    @torch.inference_mode()
    def outputs(self, x: Tensor, patches: Tensor | None = None) -> Iterator[Drawn]:
        """Images (B, channels, height, width) -> every configuration's answers, a few images at a time.

        Those of the full configuration come first. patches: what the model embeds x as, if known.
        """
        patches = self.model.embed(x) if patches is None else patches
        queries, size = self.model.dense_queries(patches), (x.shape[2], x.shape[3])
        source = self.model.read_head.source(patches)
        for p in self.passes:
            states = self._states(p, source)
            if self.full in _columns(p):
                states = iter(self._full_first(list(states)))
            for column, latents in states:
                yield from self._draw(column, queries, latents, size)

    def _states(self, p: Pass, source: KeysValues) -> Iterator[tuple[int, KeysValues]]:
        """The keys and values that each column of a pass reads, by depth."""
        rotation = self.model.rotation(p.run.tokens)
        z = self.model.read_from(source, rotation)
        wanted = _wanted(p)
        for depth, state in enumerate(self.model.states(z, self.model.plan(p.run, len(z))), start=1):
            if depth not in wanted:
                continue
            longest = max(wanted[depth])
            keys, values = self.model.write_head.source(state[:, :longest], rotation[:, :longest])
            for prefix, column in wanted[depth].items():
                yield column, KeysValues(keys[:, :, :prefix], values[:, :, :prefix])

    def _full_first(self, states: list[tuple[int, KeysValues]]) -> list[tuple[int, KeysValues]]:
        return sorted(states, key=lambda state: state[0] != self.full)

    def _draw(
        self, column: int, queries: DenseQueries, latents: KeysValues, size: tuple[int, int]
    ) -> Iterator[Drawn]:
        step = max(1, MAP_BYTES // map_bytes(self.model.config, size))
        for start in range(0, len(queries.sink), step):
            stop = min(start + step, len(queries.sink))
            part = KeysValues(latents.keys[start:stop], latents.values[start:stop])
            yield Drawn(column, start, stop, self.model.draw(queries.rows(start, stop), part, size))


def _wanted(p: Pass) -> dict[int, dict[int, int]]:
    """The columns of a pass: depth -> prefix -> column."""
    found: dict[int, dict[int, int]] = {}
    for reading in p.readings:
        columns = iter(reading.columns)
        found |= {depth: {prefix: next(columns) for prefix in reading.prefixes} for depth in reading.depths}
    return found


def _columns(p: Pass) -> set[int]:
    return {column for reading in p.readings for column in reading.columns}


def map_bytes(config: ModelConfig, size: tuple[int, int]) -> int:
    """What one image's maps take: the values of every pixel, and what its head holds beside them."""
    height, width = size
    patches = (height // config.patch_size) * (width // config.patch_size)
    return 4 * (height * width * config.map_channels + head_of(config).held(config, patches))


def held_bytes(config: ModelConfig, passes: Sequence[Pass], size: int) -> int:
    """What one image holds while its configurations are run, beside its maps."""
    d, patches = config.embed_dim, (size // config.patch_size) ** 2
    kept = sum(2 * p.run.tokens * len(reading.depths) for p in passes[:1] for reading in p.readings)
    return 4 * d * (6 * patches + kept)


def fitting_batch(config: ModelConfig, passes: Sequence[Pass], size: int, most: int) -> int:
    """As many images at once as HELD_BYTES lets in, one at least, `most` at most."""
    return max(1, min(most, HELD_BYTES // held_bytes(config, passes, size)))


def grid_flops(config: ModelConfig, passes: Sequence[Pass], image_size: int | None = None) -> int:
    """FLOPs of all configurations on one image: input stage, queries, runs, and the readouts' own parts."""
    d = config.embed_dim
    size = config.image_size if image_size is None else image_size
    patches = (size // config.patch_size) ** 2
    queries, per_token = 2 * patches * 2 * d * d, 2 * 2 * d * d
    total = input_flops(config, size) + queries
    for p in passes:
        total += trunk_flops(config, p.run, size)
        for reading in p.readings:
            own = sum(readout_flops(config, t, size) - queries - t * per_token for t in reading.prefixes)
            total += len(reading.depths) * (own + reading.prefixes[-1] * per_token)
    return total
