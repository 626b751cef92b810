"""Figures: one function each, data in, a matplotlib Figure out. Nothing here reads or writes a file."""
