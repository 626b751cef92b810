"""One configuration as a plain function of images, for export: nothing is left to choose.

B batch, T latent tokens, C channels per head.
"""

import torch
from torch import Tensor, nn

from adapcli.inference.extract import cut, held_widths
from adapcli.model.attention import group_ends
from adapcli.model.config import DENSE_TASKS
from adapcli.model.perceiver import AdaPerceiver, Plan
from adapcli.model.readout import FoldedReadout
from adapcli.space import Configuration

ANSWERS = {
    "classification": ("logits",),
    "features": ("features",),
    "distillation": ("logits", "features"),
    **dict.fromkeys(DENSE_TASKS, ("maps",)),
}
"""What a model of each task answers, in order; shapes as in `perceiver.Output`."""


class FixedModel(nn.Module):
    """A configuration with weights of its own, for square images of one size; any batch.

    Blocks and units that it does not run are left out, positions are those of the image size, rotations
    constants, and classes are read out by the fold: the executed convention.
    """

    rotation: Tensor

    @torch.no_grad()
    def __init__(self, model: AdaPerceiver, configuration: Configuration, image_size: int) -> None:
        super().__init__()
        config, held = model.config, held_widths(model.config, configuration)
        self.model = cut(model, held, tokens=config.token_granularities, widths=(max(held),)).cpu().eval()
        self.answers, self.image_size = ANSWERS[config.task], image_size
        self.hidden = config.block_hidden(configuration)
        self.ends = group_ends(configuration.tokens, config.token_granularities)
        self.register_buffer("rotation", self.model.rotation(configuration.tokens))
        side, embed = image_size // config.patch_size, self.model.patch_embed
        embed.pos_embed = nn.Parameter(embed.positions(side, side))
        self.fold: tuple[str, ...] = ()
        if "logits" in self.answers:
            self._fold(configuration.tokens)

    def _fold(self, tokens: int) -> None:
        folded = FoldedReadout.of(self.model, tokens)
        parts = {name: value for name, value in vars(folded).items() if isinstance(value, Tensor)}
        for name, value in parts.items():
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))
        self.fold = tuple(parts)
        write = self.model.write_head
        for module, replaced in ((write, ("src_norm", "snk_norm")), (write.cattn, ("q", "k", "v"))):
            for name in replaced:  # they would fill the file for nothing
                setattr(module, name, nn.Identity())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images (B, channels, size, size) -> the answers, in the order of `answers`."""
        model, plan = self.model, Plan(self.rotation, self.ends, self.hidden, "block")
        patches = model.embed(images)
        z = model.read_from(model.read_head.source(patches), self.rotation)
        for state in model.states(z, plan):
            z = state
        given: dict[str, Tensor | None] = {}
        if self.fold:
            readout = FoldedReadout(**{name: getattr(self, name) for name in self.fold}, model=model)
            given["logits"] = readout.logits(z)[:, 0]
        if self.answers != ("logits",):
            dense = model.write(z, patches, size=(self.image_size, self.image_size))
            given |= {"features": dense.features, "maps": dense.maps}
        found = [given[name] for name in self.answers]
        return tuple(answer for answer in found if answer is not None)
