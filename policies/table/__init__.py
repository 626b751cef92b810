"""Outcome tables: the contract, and a writer that survives being killed."""

from policies.table.outcome import OutcomeTable
from policies.table.schema import SPLITS
from policies.table.writer import OutcomeTableWriter

__all__ = ["SPLITS", "OutcomeTable", "OutcomeTableWriter"]
