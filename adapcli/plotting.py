"""The one place that imports matplotlib.

adap draws into files and needs no display. MPLBACKEND, which notebooks and IDEs leave in the environment of
every process they start, may name a backend that is not installed here; `import matplotlib` then fails. So it
is hidden during the import, and notes about matplotlib's caches stay off the user's terminal.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib import colormaps, colors, rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

_HOMES = {
    "colormaps": "matplotlib",
    "rcParams": "matplotlib",
    "rc_context": "matplotlib",
    "rcdefaults": "matplotlib",
    "colors": "matplotlib.colors",
    "Figure": "matplotlib.figure",
    "FuncFormatter": "matplotlib.ticker",
    "MaxNLocator": "matplotlib.ticker",
}

__all__ = [
    "Figure",
    "FuncFormatter",
    "MaxNLocator",
    "colormaps",
    "colors",
    "rcParams",
    "rc_context",
    "rcdefaults",
]


def __getattr__(name: str) -> Any:
    """Import on first use: colours need a third of the time that figures take."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _shielded():
        module = import_module(_HOMES[name])
    return module if name == "colors" else getattr(module, name)


@contextmanager
def _shielded() -> Iterator[None]:
    backend, logger = os.environ.pop("MPLBACKEND", None), logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
