"""How a new model's weights start.

Tokens, position embeddings and LayerScale start larger than is usual for vision transformers when the config
asks for it: one shared latent that starts near zero leaves rotary positions nothing to rotate, and tokens
then take thousands of steps to become different from each other (see experiments/digits).
"""

from torch import nn

from adapcli.model.layers import LearnedToken, PatchEmbed


def initialise(model: nn.Module, std: float) -> None:
    """Truncated normal for projections, normal for learned tokens and positions; biases zero."""
    if next(model.parameters()).is_meta:
        return  # nothing to fill; and drawing normal numbers there imports torch's compiler, for a second
    largest = 0.02 if std < 0.1 else 1.0
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=min(largest, module.in_features**-0.5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, LearnedToken):
            nn.init.normal_(module.token, std=std)
        elif isinstance(module, PatchEmbed):
            nn.init.normal_(module.pos_embed, std=std)
