"""A pretend accelerator: what would make the host wait for the device, counted on the CPU.

    with host_waits() as waits:
        ...
    assert waits.downloads == []      # names of the calls that fetched a value from the device
    assert waits.uploads == []        # ... that sent one there and waited

Every tensor that is there before, made with `device=`, or made from such tensors counts as the device's;
tensors of `.cpu()`, `torch.tensor`, `from_numpy` and the like without `device=` are the host's. Counted are
values fetched (item, tolist, bool(), cpu ...), results whose shape depends on values (a mask as an index,
nonzero ...) and blocking copies to the device. `on_meta` proves without counting that nothing is fetched:
a meta tensor has no values, so fetching one raises.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

FETCHING = {
    "__array__", "__bool__", "__complex__", "__contains__", "__float__", "__format__", "__index__", "__int__",
    "__repr__", "allclose", "argwhere", "bincount", "cpu", "equal", "is_nonzero", "item", "masked_select",
    "nonzero", "numpy", "repeat_interleave", "tolist", "unique", "unique_consecutive",
}  # fmt: skip
DEEP = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")
MAKERS = {"tensor", "as_tensor", "asarray", "frombuffer"}
TO_HOST = {"cpu", "numpy", "tolist", "item"}


@dataclass
class Waits:
    """Names of the calls for which the host would have waited, in order."""

    downloads: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.downloads) + len(self.uploads)


class _Deep(TorchDispatchMode):
    """Fetches inside a call, below what its name tells."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen += func.overloadpacket.__name__ in DEEP
        return func(*args, **(kwargs or {}))


class _PretendDevice(TorchFunctionMode):
    def __init__(self, waits: Waits, deep: _Deep) -> None:
        super().__init__()
        self.waits, self.deep, self.host = waits, deep, WeakIdKeyDictionary()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_host = bool(tensors) and all(tensor in self.host for tensor in tensors)
        before = self.deep.seen
        out = func(*args, **kwargs)
        if on_host or (name in MAKERS and not tensors):
            return self._from_host(name, out, args, kwargs)
        if name in FETCHING or self.deep.seen > before or _indexes_by_mask(name, args):
            self.waits.downloads.append(name)
        elif any(t in self.host for t in tensors) or _indexes_by_list(name, args):
            self.waits.uploads.append(name)
        return self._mark(out) if name in TO_HOST else out

    def _from_host(self, name, out, args, kwargs):
        """What comes of host tensors or of plain data: the host's too, unless it is sent to the device."""
        if not isinstance(out, Tensor) or not _sends(name, args, kwargs):
            return self._mark(out)
        if not kwargs.get("non_blocking"):
            self.waits.uploads.append(name)
        return out.clone() if out in self.host else out

    def _mark(self, out):
        """As the host's. On a CPU `.cpu()` returns the tensor itself, which stays the device's."""
        if isinstance(out, Tensor):
            out = out.clone()
            self.host[out] = True
            return out
        return type(out)(map(self._mark, out)) if type(out) in (tuple, list) else out


def _sends(name, args, kwargs):
    if kwargs.get("device") is not None or name == "cuda":
        return True
    return name == "to" and any(isinstance(a, torch.device | str | Tensor) for a in args[1:])


def _index_parts(name, args):
    if name not in ("__getitem__", "__setitem__"):
        return []
    return list(args[1]) if isinstance(args[1], tuple) else [args[1]]


def _indexes_by_mask(name, args):
    """A mask as an index, unless a single value is written where it is true."""
    masked = any(
        isinstance(p, Tensor) and p.dtype in (torch.bool, torch.uint8) for p in _index_parts(name, args)
    )
    fills = name == "__setitem__" and not (isinstance(args[2], Tensor) and args[2].numel() > 1)
    return masked and not fills


def _indexes_by_list(name, args):
    return any(isinstance(part, list | np.ndarray) for part in _index_parts(name, args))


@contextmanager
def _host_waits():
    waits, deep = Waits(), _Deep()
    with pytest.MonkeyPatch.context() as patch, deep, _PretendDevice(waits, deep) as pretend:
        made = torch.from_numpy  # modes do not see it
        patch.setattr(torch, "from_numpy", lambda array: pretend._mark(made(array)))
        yield waits


@pytest.fixture(scope="session")
def host_waits():
    """A context manager giving a `Waits`."""
    return _host_waits


@pytest.fixture(scope="session")
def on_meta():
    """Moves a model or a tensor to where there are shapes but no values."""
    return lambda thing: thing.to("meta")
