"""Names and keys of the published implementation, translated to this project's."""

import re
from collections.abc import Mapping
from pathlib import Path
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
# What wrappers put into names of parameters: DDP, torch.compile, FSDP, activation checkpointing, DeepSpeed.
_WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
# Under which names a training script's larger module holds the model: Lightning's `model`, timm's `ema`.
_OWNERS = re.compile(r"^(?:(?:backbone|model|net|student|ema|ema_model)\.)+")


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


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers put into them."""
    return {_WRAPPERS.sub("", name): tensor for name, tensor in state.items()}


def owners_hint(path: Path, state: Mapping[str, Tensor]) -> str:
    """What to load instead where a state holds more than one owner's tensors; empty if there is one owner."""
    owners = [found[0].rstrip(".") for name in state if (found := _OWNERS.match(_WRAPPERS.sub("", name)))]
    named = sorted(set(owners))
    if not named or (len(owners) == len(state) and len(named) == 1):
        return ""
    return f"name the one to load: {' or '.join(f'{path}#{name}' for name in named)}"


def under(state: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `key` and a dot, without it. FileError if there are none."""
    names = unwrapped(state)
    found = {name.removeprefix(f"{key}."): t for name, t in names.items() if name.startswith(f"{key}.")}
    if not found:
        first = sorted({name.partition(".")[0][:40] for name in names})
        raise FileError(f"no weights under {key[:80]!r}", f"names begin with: {', '.join(first[:8])}")
    return found


def translate_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefixes that wrappers leave in a training script's state; restore the missing batch axis.

    FileError for two tensors of one name.
    """
    translated: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = _OWNERS.sub("", _WRAPPERS.sub("", name))
        if short in translated:
            raise FileError(f"tensor {short[:80]}: given twice, with and without a prefix")
        if short != "n_averaged":
            translated[short] = tensor
    position = translated.get("patch_embed.pos_embed")
    if position is not None and position.ndim == 2:
        translated["patch_embed.pos_embed"] = position[None]
    return translated
