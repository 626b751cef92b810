"""Adaptive transformers: score every configuration once, then search, learn policies and report.

Public names are imported on first use, so that `import adapcli` costs nothing.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapcli.errors import AdapError
    from adapcli.inference.anytime import run_anytime
    from adapcli.inference.export import export
    from adapcli.inference.extract import extract
    from adapcli.inference.grouped import run_grouped
    from adapcli.inference.session import AnytimeSession
    from adapcli.jobs import bench, report, search, sweep, train
    from adapcli.model.checkpoint import load, packaged, save
    from adapcli.model.config import ModelConfig
    from adapcli.model.early_exit import early_exit
    from adapcli.model.flops import flops
    from adapcli.model.perceiver import AdaPerceiver, Output
    from adapcli.space import ConfigSpace, Configuration

__version__ = "0.1.0"

_HOMES = {
    "AdaPerceiver": "adapcli.model.perceiver",
    "AdapError": "adapcli.errors",
    "AnytimeSession": "adapcli.inference.session",
    "ConfigSpace": "adapcli.space",
    "Configuration": "adapcli.space",
    "ModelConfig": "adapcli.model.config",
    "Output": "adapcli.model.perceiver",
    "bench": "adapcli.jobs",
    "early_exit": "adapcli.model.early_exit",
    "export": "adapcli.inference.export",
    "extract": "adapcli.inference.extract",
    "flops": "adapcli.model.flops",
    "load": "adapcli.model.checkpoint",
    "packaged": "adapcli.model.checkpoint",
    "run_anytime": "adapcli.inference.anytime",
    "run_grouped": "adapcli.inference.grouped",
    "save": "adapcli.model.checkpoint",
    "train": "adapcli.jobs",
}
_CALLED = ("report", "search", "sweep")
"""Functions of `adapcli.jobs` whose names packages have: calling the package calls them."""

__all__ = [  # as above; written out for type checkers
    "AdaPerceiver",
    "AdapError",
    "AnytimeSession",
    "ConfigSpace",
    "Configuration",
    "ModelConfig",
    "Output",
    "bench",
    "early_exit",
    "export",
    "extract",
    "flops",
    "load",
    "packaged",
    "report",
    "run_anytime",
    "run_grouped",
    "save",
    "search",
    "sweep",
    "train",
]


def _check_policies() -> None:
    """A script's folder comes first on Python's path: a `policies` there would stand for ours, and break."""
    loaded = sys.modules.get("policies")
    spec = loaded.__spec__ if loaded else find_spec("policies")
    if spec is None:  # missing altogether: Python says so
        return
    found = Path(spec.origin or next(iter(spec.submodule_search_locations or ()), ""))
    if found.resolve() != (Path(__file__).parent.parent / "policies" / "__init__.py").resolve():
        message = f"another package named policies shadows adap's: {found}"
        hint = "rename it, or run elsewhere"
        if Path((sys.argv or [""])[0]).name in ("-m", "adap"):  # the command line: no traceback
            raise SystemExit(f"error: {message}\nhint: {hint}")
        raise ImportError(f"{message}; {hint}")


_check_policies()


def __getattr__(name: str) -> Any:
    if name in _CALLED:
        return import_module(f"adapcli.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'adapcli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


class _Called(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        job = getattr(import_module("adapcli.jobs"), self.__name__.rpartition(".")[2])
        return job(*arguments, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLED and isinstance(value, ModuleType):  # Python has just imported that package
            value.__class__ = _Called
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
