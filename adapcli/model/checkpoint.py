"""Loading and saving models. Nothing that is loaded can execute: safetensors, JSON, weights-only `.pt`."""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from adapcli.errors import FileError, UnavailableError, UsageError, pip_install
from adapcli.model.config import ModelConfig
from adapcli.model.hub import prefer_cache_when_offline
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.model.published import owners_hint, translate_state, under
from adapcli.model.weights import owned, read_pt, read_safetensors, read_shards, state_in
from policies.files import atomic_folder, read_json, write_bytes, write_json

FORMAT = "adapcli-1"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
IN_FOLDER = (WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
"""The weights in a folder: the first of these that is there, in one file or in shards with an index."""
FROM_HUB = [CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors"]
MAX_CONFIG_BYTES = 4 * 1024 * 1024


class Contents(NamedTuple):
    """What a checkpoint holds; hint: what to try if its tensors are more than the model's."""

    config: ModelConfig
    state: dict[str, Tensor]
    header: Mapping[str, Any]
    hint: str


def load(
    path_or_hub_id: str | Path, model_config: ModelConfig | Mapping[str, Any] | None = None
) -> AdaPerceiver:
    """Load a checkpoint, in evaluation mode, on the CPU, in float32.

    path_or_hub_id: a folder (`config.json` + weights, one of IN_FOLDER), a file of weights with `config.json`
    beside it or `model_config` given, our own `.pt`, or `hf://owner/name[@revision]`. Of several sets of
    weights in one file, as `state_dict` and `state_dict_ema`, FILE#KEY names one.
    Raises FileError for anything missing, damaged or not to be trusted, UnavailableError if the hub is needed
    and cannot be used.
    """
    path, key = split_key(str(path_or_hub_id))
    found = _read(path, key, model_config)
    if len(found.state) < found.config.depth:
        told = f"{len(found.state)} tensors for {found.config.depth} blocks"
        raise FileError(f"{path}: {told}: tensors missing")
    model = _build(path, found.config, found.header)
    _fill(path, model, found.state, found.hint)
    return model.eval()


def save(model: AdaPerceiver, path: str | Path) -> None:
    """Save atomically: one file if `path` ends in `.pt`, else a folder (config.json, model.safetensors).

    A checkpoint that is there already is replaced. UsageError if a folder holds anything else, or for
    a name that ends in .safetensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        raise UsageError(
            f"{path}: weights alone are no checkpoint", "give a folder, or a name that ends in .pt"
        )
    header = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "preprocessing": model.preprocessing.to_dict(),
        "class_names": list(model.class_names),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".pt":
        buffer = io.BytesIO()
        torch.save({**header, "state_dict": state}, buffer)
        write_bytes(path, buffer.getvalue())
        return
    _check_replaceable(path)
    with atomic_folder(path, overwrite=path.exists()) as folder:
        write_json(folder / CONFIG, header)
        write_bytes(folder / WEIGHTS, safetensors_bytes(state))


def packaged() -> Path:
    """The checkpoint that comes with the project, made by `adap train --recipe digits`."""
    return Path(__file__).parent.parent / "assets" / "digits.pt"


def _check_replaceable(path: Path) -> None:
    """Replacing a folder deletes what it held: that must be a checkpoint and nothing else."""
    if path.is_file():
        raise UsageError(f"{path} is a file", "give a folder, or a name that ends in .pt")
    others = sorted({p.name for p in path.iterdir()} - {CONFIG, WEIGHTS}) if path.is_dir() else []
    if others:
        raise UsageError(f"{path} holds other files: {', '.join(others[:5])}", "give a new folder")


def split_key(name: str) -> tuple[Path, str | None]:
    """The place of a checkpoint on this machine, and the key in FILE#KEY. FileError if it is not there."""
    if name.startswith("hf://"):
        return _download(name), None
    place, mark, key = name.rpartition("#")
    if mark and key and Path(place).is_file() and not os.path.lexists(name):
        return Path(place), key
    return _local(name), None


def _local(name: str) -> Path:
    path = Path(name)
    try:
        found = path.exists()
    except OSError:  # a name too long for the file system
        found = False
    if not found:
        raise FileError(f"{name[:200]}: no such file or folder")
    return path


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise UnavailableError("hf:// needs the hub extra", pip_install("hub")) from error
    prefer_cache_when_offline()
    owner_name, _, revision = name.removeprefix("hf://").partition("@")
    try:
        folder = snapshot_download(owner_name, revision=revision or None, allow_patterns=FROM_HUB)
    except HFValidationError as error:
        raise FileError(f"{name}: not a hub name", "write hf://owner/name[@revision]") from error
    except Exception as error:  # the client's own errors, its transport's, the operating system's
        lines = str(error).splitlines() or [type(error).__name__]
        raise UnavailableError(f"{name}: cannot be fetched: {lines[0][:200]}") from error
    return Path(folder)


def _read(path: Path, key: str | None, model_config: ModelConfig | Mapping[str, Any] | None) -> Contents:
    if path.is_dir():
        path = _weights_in(path, needs_config=model_config is None)
    if not path.is_file() or path.stat().st_size == 0:
        raise FileError(f"{path}: empty, or no file: not a checkpoint")
    if path.suffix in (".safetensors", ".json"):
        header = _header(path) if model_config is None else {}
        config = _config(path.parent / CONFIG, header, model_config)
        state = read_shards(path) if path.suffix == ".json" else read_safetensors(path)
    else:
        header, described = read_pt(path), path
        state = state_in(path, header, key)
        key = None if key in header else key
        if "config" not in header and model_config is None and (path.parent / CONFIG).is_file():
            header, described = _header(path), path.parent / CONFIG
        config = _config(described, header, model_config)
    return Contents(config, _translated(path, state, key), header, "" if key else owners_hint(path, state))


def _weights_in(folder: Path, *, needs_config: bool) -> Path:
    """The file of weights in a folder, or their index. FileError if it or the config is not there."""
    if needs_config and not (folder / CONFIG).is_file():
        raise FileError(f"{folder}: {CONFIG} missing in this folder")
    found = next((folder / name for name in IN_FOLDER if (folder / name).is_file()), None)
    if found is None:
        parts = any(folder.glob("*.distcp"))
        hint = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch makes one file of it"
        raise FileError(f"{folder}: {WEIGHTS} missing in this folder", hint if parts else "")
    return found


def _header(weights: Path) -> Mapping[str, Any]:
    """The `config.json` beside weights: ours has a format, a published one is the architecture itself."""
    path = weights.parent / CONFIG
    if not path.is_file():
        hint = "put it there; in Python: adapcli.load(..., model_config=...)"
        raise FileError(f"{weights}: config.json missing next to it", hint)
    content = read_json(path, max_bytes=MAX_CONFIG_BYTES)
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected an object with fields")
    return content if "format" in content else {"config": content}


def _config(
    path: Path, header: Mapping[str, Any], given: ModelConfig | Mapping[str, Any] | None
) -> ModelConfig:
    if isinstance(given, ModelConfig):
        return given
    if given is not None:
        return ModelConfig.from_published(given)
    config = header.get("config")
    if not isinstance(config, Mapping):
        hint = "convert it once in Python: adapcli.save(adapcli.load(path, model_config=...), folder)"
        raise FileError(f"{path}: holds no config", hint)
    if header.get("format", FORMAT) != FORMAT:
        raise FileError(f"{path}: its format is not {FORMAT}", "it may need a newer adap")
    try:
        return ModelConfig.from_dict(config) if "format" in header else ModelConfig.from_published(config)
    except FileError as error:
        raise FileError(f"{path}: {error.message}", error.hint) from error


def _translated(path: Path, state: Mapping[str, Tensor], key: str | None) -> dict[str, Tensor]:
    try:
        return translate_state(state if key is None else under(state, key))
    except FileError as error:
        raise FileError(f"{path}: {error.message}", error.hint or owners_hint(path, state)) from error


def _build(path: Path, config: ModelConfig, extras: Mapping[str, Any]) -> AdaPerceiver:
    """The model without memory: sizes are compared before a stranger's config can ask for any."""
    names = extras.get("class_names", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise FileError(f"{path}: class_names: expected a list of texts")
    if names and len(names) != config.num_classes:
        raise FileError(f"{path}: class_names: {len(names)} names for {config.num_classes} classes")
    preprocessing = None
    if "preprocessing" in extras:
        try:
            preprocessing = Preprocessing.from_dict(extras["preprocessing"], config.in_channels)
        except FileError as error:
            raise FileError(f"{path}: {error.message}", error.hint) from error
        if preprocessing.size < config.patch_size:
            raise FileError(f"{path}: preprocessing: size {preprocessing.size}: smaller than one patch")
    with torch.device("meta"):
        return AdaPerceiver(config, preprocessing=preprocessing, class_names=names)


def _fill(path: Path, model: AdaPerceiver, state: dict[str, Tensor], hint: str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of the wrong shape": [n for n in expected if n in found and expected[n] != found[n]],
    }
    for kind, names in wrong.items():
        if names:
            hint = _other_task(model, found) or hint
            raise FileError(f"{path}: {len(names)} tensors {kind}: {_listed(names)}", hint)
    model.load_state_dict({name: owned(path, name, tensor) for name, tensor in state.items()}, assign=True)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name[:80] for name in list(names)[:5])


def _other_task(model: AdaPerceiver, found: Mapping[str, Any]) -> str:
    """A hint when the weights are plainly those of another task than the config's."""
    marks = {
        "head.bn.weight": "segmentation",
        "head.classes.weight": "segmentation",
        "head.offsets.weight": "centres",
        "head.bins.weight": "depth",
        "head.conv_seg.weight": "depth",
        "write_head_feat.src_norm.weight": "distillation",
        "output_latents.proj.weight": "features",
        "output_latents.token": "classification",
    }
    task = next((task for mark, task in marks.items() if mark in found), model.config.task)
    return "" if task == model.config.task else f"these weights look like a {task} model"
