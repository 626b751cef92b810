"""Tensors out of files that nobody vouches for.

Nothing is executed, and no more memory is asked for than the file itself fills. A `.pt` is a small pickle
program beside raw tensor data; torch's own weights-only reader runs the program, but would let it call
`bytearray` or `torch.Tensor` with any size and hash nests of tuples for ever, so it is read through first.
"""

import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_bytes
from safetensors.torch import load_file
from torch import Tensor

from adapcli.errors import FileError
from policies.files import read_json

MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_PROGRAM_BYTES = 8 * 1024 * 1024
MAX_TUPLE_VALUES = 256
MAX_INTEGER_BYTES = 8

_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
# What a saved state_dict names: tensors and the plain containers that training scripts put beside them.
HARMLESS = {
    "collections OrderedDict",
    "collections Counter",
    "__builtin__ set",
    "builtins set",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in _STORAGES),
}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a `.safetensors` file. FileError if it is damaged or something else."""
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise ValueError("header too large")
        return _parsed(path)
    except Exception as error:  # a damaged file can fail anywhere
        raise FileError(f"{path}: not a usable safetensors file: {_reason(error)}") from error


def _parsed(path: Path) -> dict[str, Tensor]:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # safetensors opens no file whose name is not UTF-8
        return parse_bytes(path.read_bytes())
    return load_file(path)


def read_pt(path: Path) -> dict[str, Any]:
    """The content of a torch `.pt`: tensors, numbers and texts in plain containers.

    FileError if it is damaged, asks for anything else, or claims more data than it holds.
    """
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, _reason(error)) from error
    except Exception as error:  # a damaged program can fail anywhere
        raise FileError(f"{path}: not a usable torch checkpoint: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: holds {type(content).__name__}, not a state_dict", "save a state_dict")
    return content


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all shards that a `*.index.json` names, by the reader that suits each shard's ending.

    FileError unless the shards are there, lie in the index's own folder, and each holds exactly the tensors
    that the index expects in it.
    """
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(v, str) for v in places.values()):
        raise FileError(f"{index}: expected a weight_map from tensors to files")
    state: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        shard = index.parent / name
        if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
            raise FileError(f"{index}: shard {name[:80]!r}: not the name of a file in this folder")
        if not shard.is_file():
            raise FileError(f"{index}: shard {name[:80]} missing")
        found = read_safetensors(shard) if shard.suffix == ".safetensors" else state_in(shard, read_pt(shard))
        expected = {tensor for tensor, place in places.items() if place == name}
        for kind, odd in (
            ("missing", expected - found.keys()),
            ("not in the index", found.keys() - expected),
        ):
            if odd:
                listed = ", ".join(tensor[:80] for tensor in sorted(odd)[:5])
                raise FileError(f"{shard}: {len(odd)} tensors {kind}: {listed}")
        state |= found
    return state


STATES = ("state_dict", "model_state_dict", "model", "module")
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
"""Under which names training scripts save weights, and averaged weights (timm's are `state_dict_ema`)."""


def state_in(path: Path, content: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """The weights in a `.pt`: what it holds under `key`, or else under a usual name, or the content itself.

    FileError for no tensors, or for several sets of weights where `key` names none of them.
    """
    if key is not None and isinstance(content.get(key), Mapping):
        content = content[key]
    else:
        held = [name for name in (*STATES, *AVERAGED) if _tensors(content.get(name))]
        if len(held) > 1:
            hint = f"name the one to load: {' or '.join(f'{path}#{name}' for name in held)}"
            raise FileError(f"{path}: several sets of weights: {', '.join(held)}", hint)
        content = content[held[0]] if held else content
    state = _tensors(content)
    if not state:
        raise FileError(f"{path}: holds no tensors", "save a state_dict")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > path.stat().st_size:  # views of each other: small to store, large to copy
        raise FileError(f"{path}: its tensors claim {claimed} bytes, more than the file holds")
    return state


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def owned(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A float32 copy in memory of its own. FileError naming the tensor unless all its values are finite."""
    if not tensor.is_floating_point():
        raise FileError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not float values")
    copy = tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(copy).all():
        raise FileError(f"{path}: {name} holds NaN or infinite values")
    return copy


def _check_archive(path: Path) -> None:
    """Refuse whatever torch.load would not read as a zip archive, and read its program through."""
    with path.open("rb") as file:
        start = file.read(4)
        if start[:1] == b"\x80":
            raise _refused(path, "a bare pickle")
        if start != b"PK\x03\x04":
            raise FileError(f"{path}: not a checkpoint (a torch .pt file is a zip archive, this is not)")
        file.seek(0)
        try:
            program = _program(torch._C.PyTorchFileReader(file), path.stat().st_size)
        except Exception as error:  # a damaged archive can fail anywhere
            raise FileError(
                f"{path}: not a usable torch checkpoint, or cut short: {_reason(error)}"
            ) from error
    try:
        _check_program(program)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:
        raise FileError(f"{path}: not a usable torch checkpoint: {_reason(error)}") from error


def _program(reader: Any, file_bytes: int) -> bytes:
    """The pickle of an archive, read by the reader that torch.load will use: there is no second opinion."""
    sizes = {name: reader.get_record_size(name) for name in reader.get_all_records()}
    if sum(sizes.values()) > file_bytes:
        raise ValueError("its records are larger than the file: compressed, or overlapping")
    if sizes["data.pkl"] > MAX_PROGRAM_BYTES:
        raise ValueError("its pickle is too large")
    program: bytes = reader.get_record("data.pkl")
    return program


def _check_program(program: bytes) -> None:
    """Run through a pickle on the sizes of its values alone. UnpicklingError for what no state_dict needs."""
    stack: list[int] = []  # how many values each entry holds when written out; 0 is a mark
    memo: dict[int, int] = {}
    argument: Any
    for code, argument, _ in pickletools.genops(program):
        if code.name in ("GLOBAL", "STACK_GLOBAL", "INST") and argument not in HARMLESS:
            raise pickle.UnpicklingError(str(argument or code.name)[:80])
        if code.name == "LONG1" and abs(argument) >> 8 * MAX_INTEGER_BYTES:
            raise pickle.UnpicklingError("a huge integer")
        if code.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif code.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            _step(code, stack)
        if code.name.startswith("TUPLE") and stack[-1] > MAX_TUPLE_VALUES:
            raise pickle.UnpicklingError("a nest of tuples")


def _step(code: pickletools.OpcodeInfo, stack: list[int]) -> None:
    """Replace what `code` takes from the stack by what it leaves there."""
    taken = 0
    for kind in reversed(code.stack_before):
        if kind is pickletools.stackslice:
            while stack[-1]:
                taken += stack.pop()
        else:
            taken += stack.pop()
    for kind in code.stack_after:
        stack.append(0 if kind is pickletools.markobject else 1 + taken)


def _refused(path: Path, what: str) -> FileError:
    return FileError(
        f"{path}: refused: it holds Python objects ({what}); nothing was run", "save a state_dict"
    )


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
