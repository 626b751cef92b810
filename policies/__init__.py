"""From an outcome table to a policy. Knows nothing of images or of the model that was scored."""

from typing import Any

__all__ = ["load", "names", "train"]

_HOMES = {"load": "registry", "names": "registry", "train": "registry"}


def __getattr__(name: str) -> Any:
    """`policies.load`, `train` and `names`, imported when first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'policies' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"policies.{_HOMES[name]}"), name)
