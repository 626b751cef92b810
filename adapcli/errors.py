"""Errors as users meet them; defined once, in the leaves of `policies`."""

from policies.errors import AdapError, FileError, InfeasibleError, UnavailableError, UsageError

__all__ = [
    "INTERRUPTED",
    "TERMINATED",
    "AdapError",
    "FileError",
    "InfeasibleError",
    "UnavailableError",
    "UsageError",
]

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as a shell would give them."""
