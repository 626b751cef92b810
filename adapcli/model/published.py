"""Names and keys of the published implementation, translated to this project's."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapcli.errors import FileError
from adapcli.model.config import ModelConfig, shown

_RENAMED = {
    "mask_token_grans": "token_granularities",
    "token_grans": "token_granularities",
    "mat_dims": "widths",
    "img_size": "image_size",
    "block_mask": "mask",
    "mask_type": "mask",
    "ffn_layer": "ffn",
    "ls_init_values": "layer_scale_init",
}
# Keys that do not change what an evaluated model computes, and the values this code stands for (None: any).
_WITHOUT_EFFECT: dict[str, tuple[object, ...] | None] = {
    "attn_drop": None,
    "drop_path": None,
    "head_drop": None,
    "proj_drop": None,
    "attn_layer": None,
    "max_latent_tokens_mult": None,
    "act_layer": ("gelu",),
    "norm_layer": ("layernorm",),
    "process_token_init": ("learned",),
}
_PREFIX = re.compile(r"^(?:(?:module|_orig_mod|backbone)\.)+")


def translate_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Published keys to ModelConfig's, which may stand among them. FileError for any other."""
    if not isinstance(values, Mapping):
        raise FileError(f"model config: expected an object with fields, got {type(values).__name__}")
    translated: dict[str, Any] = {}
    for key, value in values.items():
        if key in ModelConfig.model_fields or key in _RENAMED:
            name = _RENAMED.get(key, key)
            if name in translated and not _agree(translated[name], value):
                raise FileError(f"model config: {key}: given twice, under two names")
            translated[name] = value
        elif key not in _WITHOUT_EFFECT:
            raise FileError(f"model config: {str(key)[:80]}: unknown key")
        elif (allowed := _WITHOUT_EFFECT[key]) is not None and value not in allowed:
            raise FileError(
                f"model config: {key} {shown(value)}: only {', '.join(map(str, allowed))} is known"
            )
    translated.setdefault("task", _task_of(translated))
    return translated


def _agree(a: object, b: object) -> bool:
    """Equality of what a config may hold. Anything else differs: some nests take for ever to compare."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return all(isinstance(value, int) for value in (*a, *b)) and list(a) == list(b)
    return isinstance(a, str | int | float) and a == b


def _task_of(values: Mapping[str, Any]) -> str:
    if values.get("output_feat_dim") is None:
        return "classification"
    return "features" if values.get("num_classes") is None else "distillation"


def translate_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefixes that wrappers leave in a training script's state; restore the missing batch axis.

    FileError for two tensors of one name.
    """
    translated: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = _PREFIX.sub("", name)
        if short in translated:
            raise FileError(f"tensor {short[:80]}: given twice, with and without a wrapper's prefix")
        if short != "n_averaged":
            translated[short] = tensor
    position = translated.get("patch_embed.pos_embed")
    if position is not None and position.ndim == 2:
        translated["patch_embed.pos_embed"] = position[None]
    return translated
