"""Errors as users meet them; defined once, in the leaves of `policies`."""

from policies.errors import AdapError, FileError, InfeasibleError, UnavailableError, UsageError

__all__ = ["AdapError", "FileError", "InfeasibleError", "UnavailableError", "UsageError"]
