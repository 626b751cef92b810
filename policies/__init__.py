"""From an outcome table to a policy. Knows nothing of images or of the model that was scored."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.registry import load, names, train

__all__ = ["from_sb3", "load", "names", "save", "train"]

_HOMES = dict.fromkeys(__all__, "registry")


def __getattr__(name: str) -> Any:
    """`policies.load`, `train` and the others, imported when first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'policies' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"policies.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
