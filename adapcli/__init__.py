"""Adaptive transformers: score every configuration once, then search, learn policies and report.

Public names are imported on first use, so that `import adapcli` costs nothing.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AdaPerceiver": "adapcli.model.perceiver",
    "AdapError": "adapcli.errors",
    "AnytimeSession": "adapcli.inference.session",
    "ConfigSpace": "adapcli.space",
    "Configuration": "adapcli.space",
    "ModelConfig": "adapcli.model.config",
    "Output": "adapcli.model.perceiver",
    "early_exit": "adapcli.model.early_exit",
    "export": "adapcli.inference.export",
    "extract": "adapcli.inference.extract",
    "flops": "adapcli.model.flops",
    "load": "adapcli.model.checkpoint",
    "packaged": "adapcli.model.checkpoint",
    "run_anytime": "adapcli.inference.anytime",
    "run_grouped": "adapcli.inference.grouped",
    "save": "adapcli.model.checkpoint",
}

__all__ = sorted(_HOMES)


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
    if name not in _HOMES:
        raise AttributeError(f"module 'adapcli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
