"""Outcome tables: the contract, and a writer that survives being killed.

Public names are imported on first use: parts of a table that a running model needs do without pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.table.outcome import OutcomeTable
    from policies.table.schema import SPLITS
    from policies.table.writer import OutcomeTableWriter

__all__ = ["SPLITS", "OutcomeTable", "OutcomeTableWriter"]

_HOMES = {"SPLITS": "schema", "OutcomeTable": "outcome", "OutcomeTableWriter": "writer"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'policies.table' has no attribute {name!r}")
    return getattr(import_module(f"policies.table.{_HOMES[name]}"), name)
