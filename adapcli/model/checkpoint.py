"""Loading and saving models. Nothing that is loaded can execute: safetensors, JSON, weights-only `.pt`."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from adapcli.errors import FileError, UnavailableError, UsageError, pip_install
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.model.published import translate_state
from adapcli.model.weights import owned, read_pt, read_safetensors, state_in
from policies.files import atomic_folder, read_json, write_bytes, write_json

FORMAT = "adapcli-1"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_CONFIG_BYTES = 4 * 1024 * 1024

Contents = tuple[ModelConfig, dict[str, Tensor], Mapping[str, Any]]


def load(
    path_or_hub_id: str | Path, model_config: ModelConfig | Mapping[str, Any] | None = None
) -> AdaPerceiver:
    """Load a checkpoint, in evaluation mode, on the CPU, in float32.

    path_or_hub_id: a folder (`config.json` + `model.safetensors`), a `.safetensors` without its folder or a
    training script's `.pt` (both need `model_config`), our own `.pt`, or `hf://owner/name[@revision]`.
    Raises FileError for anything missing, damaged or not to be trusted, UnavailableError if the hub is needed
    and cannot be used.
    """
    path = _local(str(path_or_hub_id))
    config, state, extras = _read(path, model_config)
    if len(state) < config.depth:
        raise FileError(f"{path}: {len(state)} tensors for {config.depth} blocks: tensors missing")
    model = _build(path, config, extras)
    _fill(path, model, state)
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


def _local(name: str) -> Path:
    if name.startswith("hf://"):
        return _download(name)
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
    owner_name, _, revision = name.removeprefix("hf://").partition("@")
    try:
        folder = snapshot_download(owner_name, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS])
    except HFValidationError as error:
        raise FileError(f"{name}: not a hub name", "write hf://owner/name[@revision]") from error
    except Exception as error:  # the client's own errors, its transport's, the operating system's
        lines = str(error).splitlines() or [type(error).__name__]
        raise UnavailableError(f"{name}: cannot be fetched: {lines[0][:200]}") from error
    return Path(folder)


def _read(path: Path, model_config: ModelConfig | Mapping[str, Any] | None) -> Contents:
    if path.is_dir():
        for needed in [WEIGHTS] if model_config is not None else [CONFIG, WEIGHTS]:
            if not (path / needed).is_file():
                raise FileError(f"{path}: {needed} missing in this folder")
        path /= WEIGHTS
    if not path.is_file() or path.stat().st_size == 0:
        raise FileError(f"{path}: empty, or no file: not a checkpoint")
    content: Mapping[str, Any] = {}
    if path.suffix == ".safetensors":
        if model_config is None:
            content = _header(path)
        state = read_safetensors(path)
    else:
        content = read_pt(path)
        state = state_in(path, content)
    described = path.parent / CONFIG if path.suffix == ".safetensors" else path
    return _config(described, content, model_config), _translated(path, state), content


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


def _translated(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        return translate_state(state)
    except FileError as error:
        raise FileError(f"{path}: {error.message}", error.hint) from error


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


def _fill(path: Path, model: AdaPerceiver, state: dict[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of the wrong shape": [n for n in expected if n in found and expected[n] != found[n]],
    }
    for kind, names in wrong.items():
        if names:
            hint = _other_task(model, found)
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
