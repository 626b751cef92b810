"""Loading and saving models. Nothing that is loaded can execute: safetensors, JSON, weights-only `.pt`."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapcli.errors import AdapError, FileError, UnavailableError
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.model.published import translate_state
from policies.files import atomic_folder, read_json, write_bytes, write_json

FORMAT = "adapcli-1"


def load(
    path_or_hub_id: str | Path, model_config: ModelConfig | Mapping[str, Any] | None = None
) -> AdaPerceiver:
    """Load a checkpoint, in evaluation mode, on the CPU, in float32.

    path_or_hub_id: a folder (`config.json` + `model.safetensors`), a bare `.safetensors` or a training
    script's `.pt` (both need `model_config`), this project's own `.pt`, or `hf://owner/name[@revision]`.
    Raises FileError for anything missing, damaged or not to be trusted, UnavailableError if the hub is
    needed and cannot be used.
    """
    path = _local(str(path_or_hub_id))
    config, state, extras = _read(path, model_config)
    model = _build(path, config, extras)
    _fill(path, model, state)
    return model.eval()


def save(model: AdaPerceiver, path: str | Path) -> None:
    """Save atomically: one file if `path` ends in `.pt`, else a folder (config.json, model.safetensors)."""
    path = Path(path)
    header = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "preprocessing": model.preprocessing.to_dict(),
        "class_names": list(model.class_names),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".pt":
        write_bytes(path, _pt_bytes({**header, "state_dict": state}))
        return
    from safetensors.torch import save as to_bytes

    if path.is_file():
        raise AdapError(f"{path} is a file", "give a folder, or a name that ends in .pt")
    with atomic_folder(path, overwrite=path.exists()) as folder:
        write_json(folder / "config.json", header)
        write_bytes(folder / "model.safetensors", to_bytes(state))


def packaged() -> Path:
    """The checkpoint that comes with the project, made by `adap train --recipe digits`."""
    return Path(__file__).parent.parent / "assets" / "digits.pt"


def _pt_bytes(content: dict[str, Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _local(name: str) -> Path:
    if not name.startswith("hf://"):
        path = Path(name)
        if not path.exists():
            raise FileError(f"{name}: no such file or folder")
        return path
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise UnavailableError("hf:// needs the hub extra", "pip install 'adap[hub]'") from error
    owner_name, _, revision = name.removeprefix("hf://").partition("@")
    try:
        wanted = ["config.json", "model.safetensors"]
        return Path(snapshot_download(owner_name, revision=revision or None, allow_patterns=wanted))
    except HFValidationError as error:
        raise FileError(
            f"{name}: not a hub name", "write hf://owner/name or hf://owner/name@revision"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(f"{name}: cannot be fetched: {reason[:200]}") from error


Contents = tuple[ModelConfig, dict[str, Tensor], dict[str, Any]]


def _read(path: Path, model_config: ModelConfig | Mapping[str, Any] | None) -> Contents:
    if path.is_dir():
        return _read_folder(path, model_config)
    if path.stat().st_size == 0:
        raise FileError(f"{path}: empty file, not a checkpoint")
    if path.suffix == ".safetensors":
        beside = path.parent / "config.json"
        if model_config is None and not beside.exists():
            raise FileError(f"{path}: config.json missing next to it", "or pass model_config=")
        header = {} if model_config is not None else _header(beside)
        return _config(header, model_config), _read_safetensors(path), header
    content = _read_pt(path)
    return _config(content, model_config, path), _state_in(path, content), content


def _read_folder(folder: Path, model_config: ModelConfig | Mapping[str, Any] | None) -> Contents:
    weights = folder / "model.safetensors"
    for needed in [weights] + ([folder / "config.json"] if model_config is None else []):
        if not needed.is_file():
            raise FileError(f"{folder}: {needed.name} missing in this folder")
    header = {} if model_config is not None else _header(folder / "config.json")
    return _config(header, model_config), _read_safetensors(weights), header


def _header(path: Path) -> dict[str, Any]:
    """A `config.json`: ours has a format and an inner config, a published one is the config itself."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected an object with fields")
    try:
        return content if "format" in content else {"config": ModelConfig.from_published(content).to_dict()}
    except FileError as error:
        raise FileError(f"{path}: {error.message}", error.hint) from error


def _config(
    header: Mapping[str, Any], given: ModelConfig | Mapping[str, Any] | None, path: Path | None = None
) -> ModelConfig:
    if isinstance(given, ModelConfig):
        return given
    if given is not None:
        return ModelConfig.from_published(given)
    config = header.get("config")
    if not isinstance(config, Mapping):
        raise FileError(
            f"{path or 'checkpoint'}: holds no config", "pass model_config= with the architecture"
        )
    if "format" not in header and not set(config) <= set(ModelConfig.model_fields):
        return ModelConfig.from_published(config)
    return ModelConfig.from_dict(config)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return translate_state(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FileError(f"{path}: not a usable safetensors file: {error}") from error


def _read_pt(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise FileError(
            f"{path}: not a checkpoint (a torch .pt file is a zip archive; this is not, or is cut short)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"{path}: refused: it holds Python objects; nothing was run", "save a state_dict"
        ) from error
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise FileError(
            f"{path}: not a usable torch checkpoint: {str(error).splitlines()[0][:200]}"
        ) from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: holds {type(content).__name__}, not a state_dict")
    return content


def _state_in(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a `.pt`: the content itself, or under one of the usual names."""
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise FileError(f"{path}: holds no tensors", "save a state_dict")
    return translate_state(state)


def _build(path: Path, config: ModelConfig, extras: Mapping[str, Any]) -> AdaPerceiver:
    """The model without memory: sizes are compared before a stranger's config can ask for any."""
    names = extras.get("class_names", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise FileError(f"{path}: class_names: expected a list of texts")
    if names and len(names) != config.num_classes:
        raise FileError(f"{path}: class_names: {len(names)} names for {config.num_classes} classes")
    preprocessing = None
    if "preprocessing" in extras:
        if not isinstance(extras["preprocessing"], Mapping):
            raise FileError(f"{path}: preprocessing: expected an object with fields")
        preprocessing = Preprocessing.from_dict(extras["preprocessing"], config.in_channels)
    with torch.device("meta"):
        return AdaPerceiver(config, preprocessing=preprocessing, class_names=names)


def _fill(path: Path, model: AdaPerceiver, state: dict[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [name for name in expected if name in found and expected[name] != found[name]]
    for kind, names in (
        ("missing", sorted(set(expected) - set(found))),
        ("unknown", sorted(set(found) - set(expected))),
        ("wrong shape", wrong),
    ):
        if names:
            raise FileError(
                f"{path}: {len(names)} tensors {kind}: {', '.join(names[:5])}", _other_task(model, found)
            )
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise FileError(f"{path}: {name} holds values that are not finite numbers")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _other_task(model: AdaPerceiver, found: Mapping[str, Any]) -> str:
    """A hint when the weights are plainly those of another task than the config's."""
    looks_like = "classification"
    if "head.bn.weight" in found:
        looks_like = "segmentation"
    elif "head.conv_seg.weight" in found:
        looks_like = "depth"
    elif "write_head_feat.src_norm.weight" in found:
        looks_like = "distillation"
    elif "output_latents.proj.weight" in found:
        looks_like = "features"
    return "" if looks_like == model.config.task else f"these weights look like a {looks_like} model"
