"""Teachers of other libraries: a model of timm by name, its weights from the hub or from a file; a folder as
timm or transformers saves it.

Neither library is needed but for its teachers. Nothing that is loaded can execute: weights are weights only,
and a folder must name a model that timm or transformers itself knows.
B batch, N tokens, K classes, F feature channels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapcli.errors import AdapError, FileError, UnavailableError, UsageError, pip_install
from adapcli.model.hub import prefer_cache_when_offline
from adapcli.model.preprocessing import Preprocessing
from adapcli.model.published import unwrapped
from adapcli.model.weights import read_pt, read_safetensors, state_in
from policies.files import read_json

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSIFIER = "ForImageClassification"
MAKING = (
    "checkpoint_path",
    "cache_dir",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "scriptable",
)
"""Arguments of timm.create_model that are no part of an architecture; some would load other files."""


@dataclass(frozen=True)
class Backbone:
    """A network that answers images prepared as it wants them, and never learns.

    answer: images -> logits (B, K) and features as an image (B, F, rows, columns); None: no such output.
    preprocessing: the size and normalisation of its images. classes: K, None if it gives no logits;
    class_names: in their order, empty if unknown. feature_dim: F, None if it gives no patch features.
    """

    answer: Callable[[Tensor], tuple[Tensor | None, Tensor | None]]
    preprocessing: Preprocessing
    classes: int | None
    feature_dim: int | None
    class_names: tuple[str, ...] = ()


def as_map(found: Tensor, prefix: int | None, channels: int | None) -> Tensor | None:
    """Patch features as (B, F, rows, columns), whichever way a network lays them out; None: it has none.

    prefix: tokens that stand before the patches' (None: as many as leave a square).
    """
    if found.ndim == 4:
        return found.permute(0, 3, 1, 2) if found.shape[1] != channels else found
    if found.ndim != 3:
        return None
    side = math.isqrt(found.shape[1] - (prefix or 0))
    patches = found[:, found.shape[1] - side * side :] if prefix is None else found[:, prefix:]
    if patches.shape[1] != side * side:
        raise AdapError(f"the teacher's {patches.shape[1]} patches are no square")
    return patches.transpose(1, 2).reshape(len(found), -1, side, side)


def load_timm(name: str, device: torch.device) -> Backbone:
    """A model of timm by its name, `architecture[.tag]`, with its weights from the hub, or `NAME@FILE`.

    FILE: a state_dict, as `.safetensors` or read as weights only. UnavailableError without timm or if the
    weights cannot be had, UsageError for a name it does not know, FileError for weights that do not fit it.
    """
    name, at, file = name.partition("@")
    if at and not Path(file).expanduser().is_file():
        raise FileError(f"teacher timm:{name[:100]}@{file[:200]}: no such file")
    offline = not at and prefer_cache_when_offline()
    timm = _timm(name)
    _check_name(timm, name)
    if at:
        network = timm.create_model(name, pretrained=False)
        _fill(network, Path(file).expanduser())
        return _timm_backbone(network, device, timm.data.resolve_model_data_config(network))
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # its own errors, the hub's, the transport's
        why = "the hub cannot be reached, its cache lacks the weights" if offline else _first_line(error)
        hint = f"weights in a file: timm:{name}@FILE"
        raise UnavailableError(f"teacher timm:{name}: cannot be had: {why}", hint) from error
    return _timm_backbone(network, device, timm.data.resolve_model_data_config(network))


def _timm(name: str) -> Any:
    try:
        import timm
    except Exception as error:  # a torchvision of another build of torch fails with a RuntimeError
        told = f"teacher timm:{name[:100]}: timm cannot be used: {_first_line(error)}"
        raise UnavailableError(told, pip_install("timm")) from error
    return timm


def _fill(network: nn.Module, file: Path) -> None:
    """Load weights into a network. FileError unless they are exactly its own."""
    state = read_safetensors(file) if file.suffix == ".safetensors" else state_in(file, read_pt(file))
    try:
        network.load_state_dict(unwrapped(state))
    except RuntimeError as error:
        first = "".join(str(error).splitlines()[1:2]).strip()
        raise FileError(f"{file}: these weights do not fit the model: {first[:200]}") from error


def _timm_backbone(network: Any, device: torch.device, data: Mapping[str, Any]) -> Backbone:
    network.to(device).eval().requires_grad_(False)
    prefix, channels = getattr(network, "num_prefix_tokens", 0), network.num_features

    def answer(images: Tensor) -> tuple[Tensor | None, Tensor | None]:
        found = network.forward_features(images)
        logits = network.forward_head(found) if network.num_classes else None
        return logits, as_map(found, prefix, channels)

    preprocessing = _timm_preprocessing(data)
    return Backbone(answer, preprocessing, network.num_classes or None, channels)


def _check_name(timm: Any, name: str) -> None:
    plain = not any(mark in name for mark in ":/\\")
    if plain and timm.is_model(name):
        return
    from difflib import get_close_matches

    close = get_close_matches(name.partition(".")[0], timm.list_models(), n=1)
    hint = f"did you mean {close[0]!r}?" if close else "timm.list_models() lists the names"
    raise UsageError(f"teacher timm:{name[:100]}: not known", hint)


def _timm_preprocessing(known: Mapping[str, Any]) -> Preprocessing:
    size, way = int(known["input_size"][-1]), str(known["interpolation"])
    mean, std = (tuple(map(float, known[key])) for key in ("mean", "std"))
    return Preprocessing(size, size, mean, std, "bicubic" if way == "bicubic" else "bilinear")


def load_hf(folder: str, device: torch.device) -> Backbone:
    """A folder that transformers wrote: config.json, preprocessor_config.json and model.safetensors.

    Or that timm wrote (`timm.models.save_for_hf`): config.json with an `architecture`, and model.safetensors.
    FileError for a folder that is not that, or that brings code of its own; UnavailableError without the
    library.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise FileError(f"teacher hf:{folder}: no such folder", "download it first: nothing is fetched")
    saved: Any = read_json(path / "config.json")
    if isinstance(saved, dict) and "architecture" in saved and "architectures" not in saved:
        return _timm_folder(path, saved, device)
    config = _config(path)
    preprocessing = _hf_preprocessing(path, config)
    try:
        import transformers
    except ImportError as error:
        raise UnavailableError("hf: needs the hf extra", pip_install("hf")) from error
    network = _hf_network(transformers, path, config)
    network.to(device).eval().requires_grad_(False)
    known: Any = network.config
    # Networks of stages tell the width of each; features are of the last.
    channels = getattr(known, "hidden_size", None) or known.hidden_sizes[-1]
    classes = known.num_labels if _classifies(config) else None
    return Backbone(_hf_answer(network, classes is not None, channels), preprocessing, classes, channels)


def _timm_folder(path: Path, config: Mapping[str, Any], device: torch.device) -> Backbone:
    """What `timm.models.save_for_hf` wrote: an architecture that timm knows, its arguments and its data."""
    name, arguments = config["architecture"], config.get("model_args") or {}
    data = config.get("pretrained_cfg") or {}
    plain = isinstance(arguments, dict) and all(
        key not in MAKING and isinstance(value, str | int | float | bool | None | list)
        for key, value in arguments.items()
    )
    if not isinstance(name, str) or not plain or not isinstance(data, dict):
        raise FileError(f"{path / 'config.json'}: not what timm saves")
    files = ("model.safetensors", "pytorch_model.bin")
    weights = next((path / file for file in files if (path / file).is_file()), None)
    if weights is None:
        raise FileError(f"{path}: model.safetensors missing in this folder")
    try:
        preprocessing = _timm_preprocessing(data)
        Preprocessing.from_dict(preprocessing.to_dict(), int(data["input_size"][0]))
    except (FileError, KeyError, TypeError, ValueError, IndexError) as error:
        told = f"pretrained_cfg: not usable: {_first_line(error)}"
        raise FileError(f"{path / 'config.json'}: {told}") from error
    timm = _timm(name)
    _check_name(timm, name)
    try:
        classes = config.get("num_classes")
        network = timm.create_model(name, pretrained=False, num_classes=classes, **arguments)
    except Exception as error:  # anything a stranger's arguments can make it raise
        raise FileError(f"{path}: timm cannot make {name}: {_first_line(error)}") from error
    _fill(network, weights)
    return _timm_backbone(network, device, data)


def _config(path: Path) -> dict[str, Any]:
    config: Any = read_json(path / "config.json")
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        raise FileError(f"{path / 'config.json'}: names no architecture")
    for key in ("auto_map", "quantization_config"):
        if key in config:
            raise FileError(f"{path / 'config.json'}: refused: {key}: asks for code beside transformers' own")
    if not any(path.glob("*.safetensors")):
        raise FileError(f"{path}: no .safetensors in it", "other weights may hold code")
    return dict(config)


def _hf_preprocessing(path: Path, config: Mapping[str, Any]) -> Preprocessing:
    """Sizes and statistics; FileError for what they cannot be."""
    known = read_json(path / "preprocessor_config.json")
    if not isinstance(known, dict):
        raise FileError(f"{path / 'preprocessor_config.json'}: expected an object with fields")
    size = known.get("crop_size", known.get("size", config.get("image_size")))
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    values = {
        "size": size,
        "resize": size,
        "mean": known.get("image_mean", IMAGENET_MEAN),
        "std": known.get("image_std", IMAGENET_STD),
        "interpolation": "bicubic" if known.get("resample") == 3 else "bilinear",  # Pillow's numbers
    }
    try:
        return Preprocessing.from_dict(values, int(config.get("num_channels", 3)))
    except (FileError, TypeError, ValueError) as error:
        raise FileError(f"{path / 'preprocessor_config.json'}: {error}") from error


def _hf_network(transformers: Any, path: Path, config: Mapping[str, Any]) -> nn.Module:
    family = transformers.AutoModelForImageClassification if _classifies(config) else transformers.AutoModel
    try:
        network, loading = family.from_pretrained(
            path,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # anything a stranger's folder can make it raise
        raise FileError(f"{path}: transformers cannot load it: {_first_line(error)}") from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise FileError(f"{path}: {len(missing)} tensors missing: {', '.join(missing[:5])}")
    found: nn.Module = network
    return found


def _hf_answer(
    network: Any, classifies: bool, channels: int
) -> Callable[[Tensor], tuple[Tensor | None, Tensor | None]]:
    """Logits and the trunk's last hidden state, in one pass."""
    if not classifies:
        return lambda images: (None, as_map(network(images).last_hidden_state, None, channels))
    seen: list[Tensor] = []
    network.base_model.register_forward_hook(
        lambda module, given, output: seen.append(output.last_hidden_state)
    )

    def answer(images: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits = network(images).logits
        return logits, as_map(seen.pop(), None, channels)

    return answer


def _classifies(config: Mapping[str, Any]) -> bool:
    return str(config["architectures"][0]).endswith(CLASSIFIER)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
