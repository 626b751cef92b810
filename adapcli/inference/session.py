"""Anytime inference: a run that continues to more blocks or more tokens and computes only what is missing.

With the block mask a token never attends to later groups, so what was computed for t tokens and l blocks is
part of every larger run: deeper means more blocks for the tokens at hand, more tokens means the new groups
alone, attending to cached keys and values.

B samples, T latent tokens, D model width, P patches, Q queries.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.inference.recalibrations import Recalibrations
from adapcli.inference.state import State, after, gather
from adapcli.model.attention import KeysValues, group_ends
from adapcli.model.flops import input_flops, read_flops, readout_flops, trunk_flops
from adapcli.model.layers import Block
from adapcli.model.perceiver import AdaPerceiver, Output
from adapcli.model.readout import folded
from adapcli.space import Configuration


class AnytimeSession:
    """A batch of images on its way through one model.

    Making one embeds the patches, no more. `extend` computes exactly the missing part of a larger
    configuration, `readout` answers from the current one: as running it directly would, whatever the path.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: AdaPerceiver,
        x: Tensor,
        *,
        width: int | tuple[int, ...],
        caches: bool = True,
        recalibrations: Recalibrations | None = None,
    ) -> None:
        """Embed images (B, channels, height, width), normalised. `width`: of all FFNs, or one per block.

        caches=False: keep nothing of the blocks passed. The session is as small as a plain run; it goes
        deeper, but neither to more tokens nor back to another width. Since it never grows, it may run any
        number of tokens. recalibrations: what every readout's logits become, see
        `adapcli.inference.recalibrations`.
        """
        _check_width(model, width)
        self.model, self.width, self.caches = model, width, caches
        self.recalibrations = recalibrations
        self.tokens, self.depth = 0, 0
        """Latent tokens computed, and blocks that all of them have passed; 0 before the first `extend`."""
        self.image_size = (x.shape[2], x.shape[3])
        self._rotation: Tensor | None = None
        patches = model.embed(x)
        self._state = State(torch.zeros(len(x), dtype=torch.int64, device=x.device))
        self._state.source = model.read_head.source(patches)
        if model.config.task != "classification":
            self._state.patches = patches  # what dense queries are made of

    def __repr__(self) -> str:
        reached = f"{self.tokens} tokens, {self.depth} blocks" if self.tokens else "nothing run yet"
        return f"AnytimeSession({len(self)} samples, width {self.width}: {reached})"

    def __len__(self) -> int:
        return len(self._state.spent)

    @property
    def configuration(self) -> Configuration:
        """The configuration reached; UsageError before the first `extend`."""
        if not self.depth:
            raise UsageError("nothing has been run yet", "extend the session to some tokens and depth first")
        return self._at(self.tokens, self.depth)

    @property
    def cost_flops(self) -> Tensor:
        """FLOPs per sample, as executed: (B,) int64. Input stage, trunk reached, readouts made."""
        reached = input_flops(self.model.config, self.image_size)
        if self.depth:
            reached += trunk_flops(self.model.config, self.configuration, self.image_size)
        elif self.tokens:
            reached += read_flops(self.model.config, self.tokens, self.image_size)
        return self._state.spent + reached

    @property
    def nbytes(self) -> int:
        """Memory held between two steps, in bytes: latents, caches, and what dense queries are made of."""
        return self._state.nbytes()

    @torch.no_grad()
    def extend(self, *, tokens: int | None = None, depth: int | None = None) -> "AnytimeSession":
        """Go on to `tokens` and `depth` (None: as they are), computing only what is missing. Returns itself.

        Raises UsageError for fewer of either, for more tokens where the mask lets earlier ones see later
        ones, and, with caches, for tokens that are no granularity of the model or beyond the trained length.
        """
        tokens = self.tokens if tokens is None else tokens
        depth = self.depth if depth is None else depth
        self._check(tokens, depth)
        if tokens > self.tokens:
            self._add_tokens(tokens)
        if depth > self.depth:
            self._deepen(depth)
        return self

    @torch.no_grad()
    def readout(self, *, queries: Sequence[int] | None = None) -> Output:
        """The model's answer at the configuration reached. Its cost is added to `cost_flops`.

        queries: Q patches of a dense model, by number, row by row; features (B, Q, F) of these alone, and
        no maps. UsageError for patches that are not there, and for a model that answers about none.
        """
        config, reached, state = self.model.config, self.configuration, self._state
        asked = None if queries is None else self._queries(queries)
        assert state.latents is not None
        n_asked = None if queries is None else len(queries)
        cost = readout_flops(config, reached.tokens, self.image_size, queries=n_asked)
        logits = None
        if config.classifies:
            logits = folded(self.model, self.tokens).logits(state.latents)[:, 0]
            logits = logits if self.recalibrations is None else self.recalibrations(logits, reached)
        dense = Output()
        if state.patches is not None:
            dense = self.model.write_dense(state.latents, state.patches, size=self.image_size, queries=asked)
        state.spent = state.spent + cost
        depth = torch.full((len(self),), reached.depth, device=state.latents.device)
        return replace(dense, logits=logits, depth=depth)

    def keep(self, mask: Tensor) -> "AnytimeSession":
        """Drop all samples but those where `mask` (B,) is true; caches shrink with them. Returns itself."""
        self._state = gather([(self._state, self._rows(mask))])
        return self

    def split(self, mask: Tensor) -> tuple["AnytimeSession", "AnytimeSession"]:
        """Two sessions: the samples where `mask` (B,) is true, and the others. This one stays as it is."""
        return self.gather([(self, self._rows(mask))]), self.gather([(self, self._rows(~mask))])

    @classmethod
    def join(cls, sessions: Sequence["AnytimeSession"]) -> "AnytimeSession":
        """One session of all samples, in order. UsageError unless all are at one point of one model."""
        return cls.gather([(session, None) for session in sessions])

    @classmethod
    def gather(cls, parts: Sequence[tuple["AnytimeSession", Tensor | None]]) -> "AnytimeSession":
        """One session of the samples at `rows` (n,) int64 (None: all) of each part, in order.

        The parts stay as they are. UsageError unless all are at one point of one model.
        """
        if not parts:
            raise UsageError("no sessions to join")
        if len({session._point() for session, _ in parts}) > 1:
            raise UsageError(
                "sessions at different points cannot be joined", "same model, width, tokens, depth"
            )
        joined = object.__new__(cls)
        joined.__dict__.update(parts[0][0].__dict__)
        joined._state = gather([(session._state, rows) for session, rows in parts])
        return joined

    def restart(self, *, width: int | tuple[int, ...], tokens: int | None = None) -> "AnytimeSession":
        """Begin again at another width, keeping the patches and the latents read: no width enters there.

        tokens: keep only so many of the latents, for a run of fewer. Returns itself. UsageError without
        caches, once something has been run.
        """
        if self.tokens and not self.caches:
            raise UsageError("a session without caches cannot go back", "make it with caches=True")
        _check_width(self.model, width)
        kept = self.tokens if tokens is None else min(tokens, self.tokens)
        if kept < self.tokens:
            self._check_tokens(kept)
        if self.depth:
            trunk = trunk_flops(self.model.config, self.configuration, self.image_size)
            given_up = trunk - (read_flops(self.model.config, kept, self.image_size) if kept else 0)
            self._state.spent = self._state.spent + given_up
        start = None if self._state.start is None else self._state.start[:, :kept]
        self._state.start = self._state.latents = start
        self._state.blocks, self.width, self.tokens, self.depth = [], width, kept, 0
        return self

    def _at(self, tokens: int, depth: int) -> Configuration:
        width = self.width if isinstance(self.width, int) else self.width[:depth]
        return Configuration(tokens, width, depth)

    def _point(self) -> tuple[object, ...]:
        made = id(self.model), id(self.recalibrations), self.caches
        return *made, self.width, self.tokens, self.depth, self.image_size

    def _rows(self, mask: Tensor) -> Tensor:
        if mask.dtype != torch.bool or mask.shape != (len(self),):
            raise UsageError(f"mask of {tuple(mask.shape)} {mask.dtype}: expected {len(self)} booleans")
        return mask.nonzero()[:, 0]

    def _queries(self, queries: Sequence[int]) -> Tensor:
        patches = self._state.patches
        if patches is None:
            raise UsageError("queries: this model answers about the image, not about its patches")
        numbers = [int(query) for query in queries]
        if not numbers or not 0 <= min(numbers) <= max(numbers) < patches.shape[1]:
            raise UsageError(f"queries: expected numbers of patches, 0 to {patches.shape[1] - 1}")
        return torch.tensor(numbers, device=patches.device)

    def _check(self, tokens: int, depth: int) -> None:
        if tokens < self.tokens or depth < self.depth:
            at = f"{self.tokens} tokens and depth {self.depth}"
            raise UsageError(f"{tokens} tokens and depth {depth}: the session is at {at} already")
        self.model.config.check(self._at(max(tokens, 1), max(depth, 1)))
        if not tokens or not depth:
            raise UsageError("the first extend needs tokens and depth")
        if tokens > self.tokens:
            self._check_growth()
            if self.caches:
                self._check_tokens(tokens)

    def _check_tokens(self, tokens: int) -> None:
        config = self.model.config
        allowed = config.token_granularities
        if tokens not in allowed and config.mask != "causal":
            raise UsageError(f"tokens {tokens}: not allowed", f"allowed: {', '.join(map(str, allowed))}")
        if tokens > config.max_latent_tokens:
            raise UsageError(f"tokens {tokens}: beyond the trained length of {config.max_latent_tokens}")

    def _check_growth(self) -> None:
        if self.tokens and not self.caches:
            raise UsageError("more tokens: a session without caches cannot grow", "make it with caches=True")
        if self.depth and not self.model.config.has_prefix_property:
            raise UsageError(
                "more tokens: without a mask, earlier tokens see later ones", "start a new session"
            )

    def _add_tokens(self, tokens: int) -> None:
        """Bring the new tokens alone to the depth at hand."""
        state, first = self._state, self.tokens
        rotation, ends = self._turned(tokens)
        rotation = rotation[:, first:]
        assert state.source is not None
        start = z = self.model.read_from(state.source, rotation)
        try:
            for i, (block, hidden) in enumerate(self._blocks()[: self.depth]):
                z, state.blocks[i] = block.extend(z, rotation, ends, hidden, state.blocks[i])
        except BaseException:  # out of memory, or interrupted: as it was before
            state.blocks = [KeysValues(k[:, :, :first], v[:, :, :first]) for k, v in state.blocks]
            raise
        state.latents = after(state.latents, z)
        if self.caches:
            state.start = after(state.start, start)
        else:
            state.source = None
        self.tokens = tokens

    def _deepen(self, depth: int) -> None:
        """Bring all tokens to `depth`."""
        state, (rotation, ends) = self._state, self._turned(self.tokens)
        for block, hidden in self._blocks()[self.depth : depth]:
            assert state.latents is not None
            state.latents, present = block.extend(state.latents, rotation, ends, hidden, None)
            if self.caches:
                state.blocks.append(present)
            self.depth += 1

    def _turned(self, tokens: int) -> tuple[Tensor, tuple[int, ...]]:
        """Rotations of a run of so many tokens, and where the mask's groups end."""
        if self._rotation is None or self._rotation.shape[1] != tokens:
            self._rotation = self.model.rotation(tokens)
        return self._rotation, group_ends(tokens, self.model.config.token_granularities)

    def _blocks(self) -> list[tuple[Block, int]]:
        """Every block that can be run, and how many of its FFN's hidden units."""
        depth = self.model.config.depth if isinstance(self.width, int) else len(self.width)
        hidden = self.model.config.block_hidden(self._at(1, depth))
        blocks = (block for block in self.model.blocks if isinstance(block, Block))
        return list(zip(blocks, hidden, strict=False))


def _check_width(model: AdaPerceiver, width: int | tuple[int, ...]) -> None:
    depth = 1 if isinstance(width, int) else len(width)
    model.config.check(Configuration(1, width, depth))
