"""Anytime inference: a run that continues to more blocks or more tokens and computes only what is missing.

With the block mask a token never attends to later groups, so what was computed for t tokens and l blocks is
part of every larger run: deeper means more blocks for the tokens at hand, more tokens means the new groups
alone, attending to cached keys and values.

B samples, T latent tokens, D model width, P patches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.model.attention import KeysValues, group_ends
from adapcli.model.flops import input_flops, read_flops, readout_flops, trunk_flops
from adapcli.model.layers import Block
from adapcli.model.perceiver import AdaPerceiver, Output
from adapcli.model.readout import FoldedReadout
from adapcli.space import Configuration

Change = Callable[[Tensor], Tensor]


@dataclass
class _State:
    """What has been computed for B samples; every tensor has the samples first.

    spent: FLOPs per sample of readouts and of trunks given up at a restart, (B,) int64.
    """

    patches: Tensor
    source: KeysValues
    spent: Tensor
    start: Tensor | None = None
    latents: Tensor | None = None
    blocks: tuple[KeysValues, ...] = ()

    def change(self, each: Change) -> "_State":
        def both(pair: KeysValues) -> KeysValues:
            return KeysValues(each(pair.keys), each(pair.values))

        start, latents = (None if z is None else each(z) for z in (self.start, self.latents))
        blocks = tuple(map(both, self.blocks))
        return _State(each(self.patches), both(self.source), each(self.spent), start, latents, blocks)


class AnytimeSession:
    """A batch of images on its way through one model at one FFN width.

    Making one embeds the patches, no more. `extend` computes exactly the missing part of a larger
    configuration, `readout` answers from the current one: as running it directly would, whatever the path.
    """

    @torch.no_grad()
    def __init__(self, model: AdaPerceiver, x: Tensor, *, width: int) -> None:
        model.config.check(Configuration(1, width, 1))
        patches = model.embed(x)
        spent = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.model, self.width = model, width
        self.image_size = (x.shape[2], x.shape[3])
        self._state = _State(patches, model.read_head.source(patches), spent)
        self._folded: FoldedReadout | None = None

    def __len__(self) -> int:
        return len(self._state.spent)

    @property
    def tokens(self) -> int:
        """Latent tokens computed so far; 0 before the first `extend`."""
        return 0 if self._state.latents is None else self._state.latents.shape[1]

    @property
    def depth(self) -> int:
        """Blocks that all tokens have passed; 0 before the first `extend`."""
        return len(self._state.blocks)

    @property
    def configuration(self) -> Configuration:
        """The configuration reached; UsageError before the first `extend`."""
        if not self.depth:
            raise UsageError("nothing has been run yet", "extend the session to some tokens and depth first")
        return Configuration(self.tokens, self.width, self.depth)

    @property
    def cost_flops(self) -> Tensor:
        """FLOPs per sample, as executed: (B,) int64. Input stage, trunk reached, readouts made."""
        reached = input_flops(self.model.config, self.image_size)
        if self.depth:
            reached += trunk_flops(self.model.config, self.configuration, self.image_size)
        elif self.tokens:
            reached += read_flops(self.model.config, self.tokens, self.image_size)
        return self._state.spent + reached

    @torch.no_grad()
    def extend(self, *, tokens: int | None = None, depth: int | None = None) -> "AnytimeSession":
        """Go on to `tokens` and `depth` (None: as they are), computing only what is missing. Returns itself.

        Raises UsageError for fewer of either, for tokens that are no granularity of the model or beyond the
        trained length, and for more tokens where the mask lets earlier ones see later ones.
        """
        tokens = self.tokens if tokens is None else tokens
        depth = self.depth if depth is None else depth
        self._check(tokens, depth)
        state = self._state
        if tokens > self.tokens:
            self._state = self._with_tokens(state, tokens)
        for _ in range(self.depth, depth):
            self._state = self._deeper(self._state)
        return self

    @torch.no_grad()
    def readout(self) -> Output:
        """The model's answer at the configuration reached. Its cost is added to `cost_flops`."""
        config, reached = self.model.config, self.configuration
        latents = self._state.latents
        assert latents is not None
        self._state.spent = self._state.spent + readout_flops(config, reached.tokens, self.image_size)
        depth = torch.full((len(self),), reached.depth, device=latents.device)
        if config.task == "classification":
            return Output(logits=self._fold().logits(latents)[:, 0], depth=depth)
        return self.model.write(latents, self._state.patches, size=self.image_size, depth=depth)

    def keep(self, mask: Tensor) -> "AnytimeSession":
        """Drop all samples but those where `mask` (B,) is true; caches shrink with them. Returns itself."""
        if mask.dtype != torch.bool or mask.shape != (len(self),):
            raise UsageError(f"mask of {tuple(mask.shape)} {mask.dtype}: expected {len(self)} booleans")
        self._state = self._state.change(lambda tensor: tensor[mask])
        return self

    def split(self, mask: Tensor) -> tuple["AnytimeSession", "AnytimeSession"]:
        """Two sessions: the samples where `mask` (B,) is true, and the others. This one stays as it is."""
        return self._copy().keep(mask), self._copy().keep(~mask)

    @classmethod
    def join(cls, sessions: Sequence["AnytimeSession"]) -> "AnytimeSession":
        """One session of all samples, in order. UsageError unless all are at one point of one model."""
        if not sessions:
            raise UsageError("no sessions to join")
        points = {(id(s.model), s.width, s.tokens, s.depth, s.image_size) for s in sessions}
        if len(points) > 1:
            raise UsageError(
                "sessions at different points cannot be joined", "same model, width, tokens, depth"
            )
        columns = zip(*(_tensors(session._state) for session in sessions), strict=True)
        joined = iter([torch.cat(column) for column in columns])
        whole = sessions[0]._copy()
        whole._state = whole._state.change(lambda _: next(joined))
        return whole

    def restart(self, *, width: int) -> "AnytimeSession":
        """Begin again at another width, keeping the patches and the latents read: no width enters there."""
        self.model.config.check(Configuration(1, width, 1))
        if self.depth:
            kept = read_flops(self.model.config, self.tokens, self.image_size)
            given_up = trunk_flops(self.model.config, self.configuration, self.image_size) - kept
            self._state.spent = self._state.spent + given_up
        self._state.latents, self._state.blocks, self.width = self._state.start, (), width
        return self

    def _check(self, tokens: int, depth: int) -> None:
        config = self.model.config
        if tokens < self.tokens or depth < self.depth:
            at = f"{self.tokens} tokens and depth {self.depth}"
            raise UsageError(f"{tokens} tokens and depth {depth}: the session is at {at} already")
        config.check(Configuration(max(tokens, 1), self.width, max(depth, 1)))
        if not tokens or not depth:
            raise UsageError("the first extend needs tokens and depth")
        if tokens > self.tokens:
            self._check_tokens(tokens)

    def _check_tokens(self, tokens: int) -> None:
        config = self.model.config
        allowed = config.token_granularities
        if tokens not in allowed and config.mask != "causal":
            raise UsageError(f"tokens {tokens}: not allowed", f"allowed: {', '.join(map(str, allowed))}")
        if tokens > config.max_latent_tokens:
            raise UsageError(f"tokens {tokens}: beyond the trained length of {config.max_latent_tokens}")
        if self.depth and not config.has_prefix_property:
            raise UsageError(
                "more tokens: without a mask, earlier tokens see later ones", "start a new session"
            )

    def _with_tokens(self, state: _State, tokens: int) -> _State:
        """The new tokens alone, up to the depth at hand."""
        first = self.tokens
        rotation = self.model.rotation(tokens)[:, first:]
        start = z = self.model.read_from(state.source, rotation)
        ends, blocks = self._ends(tokens), []
        for block, past in zip(self._blocks(), state.blocks, strict=False):
            z, present = block.extend(z, rotation, ends, self._hidden, past)
            blocks.append(present)
        return _State(
            state.patches,
            state.source,
            state.spent,
            _after(state.start, start),
            _after(state.latents, z),
            tuple(blocks),
        )

    def _deeper(self, state: _State) -> _State:
        assert state.latents is not None
        block = self._blocks()[len(state.blocks)]
        rotation = self.model.rotation(self.tokens)
        z, present = block.extend(state.latents, rotation, self._ends(self.tokens), self._hidden, None)
        blocks = (*state.blocks, present)
        return _State(state.patches, state.source, state.spent, state.start, z, blocks)

    def _blocks(self) -> list[Block]:
        return [block for block in self.model.blocks if isinstance(block, Block)]

    @property
    def _hidden(self) -> int:
        return self.model.config.hidden(self.width)

    def _ends(self, tokens: int) -> tuple[int, ...]:
        return group_ends(tokens, self.model.config.token_granularities)

    def _fold(self) -> FoldedReadout:
        """Up to the trained length rotations do not depend on the run's: one fold serves all token counts."""
        if self._folded is None:
            self._folded = FoldedReadout.of(self.model, self.model.config.max_latent_tokens)
        return self._folded

    def _copy(self) -> "AnytimeSession":
        copy = object.__new__(AnytimeSession)
        copy.__dict__.update(self.__dict__)
        copy._state = self._state.change(lambda tensor: tensor)
        return copy


def _after(earlier: Tensor | None, later: Tensor) -> Tensor:
    return later if earlier is None else torch.cat((earlier, later), dim=1)


def _tensors(state: _State) -> list[Tensor]:
    """The tensors of a state, in the order in which `change` visits them."""
    visited: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        visited.append(tensor)
        return tensor

    state.change(note)
    return visited
