"""Sections of a report: findings in, text, figures and tables out. Nothing here is read from disk."""
