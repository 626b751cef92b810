"""Adaptive transformers: score every configuration once, then search, learn policies and report.

Public names are imported on first use, so that `import adapcli` costs nothing.
"""

from importlib import import_module
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adapcli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
